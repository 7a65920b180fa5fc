"""Synthetic people: clusters of embeddings on a sphere, and drawn photos."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.alignment import TEMPLATES
from models.embedding import Embedder
from models.pipeline import Pipeline
from models.runtime.fake import FakeSession
from models.runtime.session import Arrays
from models.serving.models import Models
from tests.conftest import FakeDetector, models_without_weights


def people(
    subjects: int, pictures: int, dimensions: int = 16, spread: float = 0.5, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return (N, D) float32 embeddings of length 1 and (N,) int64 subjects, in random order."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(subjects, dimensions))
    owner = rng.permutation(np.repeat(np.arange(subjects), pictures))
    vectors = centres[owner] + spread * rng.normal(size=(len(owner), dimensions))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), owner.astype(np.int64)


SIZE = 64, 48  # width and height of a drawn photo in pixels


def draw(subject: int, picture: int, noise: float = 4.0) -> NDArray[np.uint8]:
    """Draw a photo in which the fake detector finds one face, with the colours of the subject plus noise."""
    colors = np.random.default_rng([subject, 1]).integers(30, 225, (4, 4, 3)).astype(float)
    colors += np.random.default_rng([subject, picture, 3]).normal(0, noise, colors.shape)
    pixels = np.random.default_rng([subject, picture, 2]).integers(0, 255, (SIZE[1], SIZE[0], 3)).astype(float)
    pixels[:28, :28] = np.kron(colors, np.ones((7, 7, 1)))
    drawn: NDArray[np.uint8] = np.clip(pixels, 0, 255).astype(np.uint8)
    drawn[0, 0] = 1
    return drawn


def write_people(directory: Path, subjects: int, pictures: int, noise: float = 4.0) -> Path:
    """Write drawn photos into one folder for each subject."""
    for subject in range(subjects):
        folder = directory / f"subject {subject:02}"
        folder.mkdir(parents=True)
        for picture in range(pictures):
            Image.fromarray(draw(subject, picture, noise)).save(folder / f"{picture}.png")
    return directory


def models_by_color() -> Models:
    """Return models without weights whose embedding is the mean colour of each of the sixteen parts of a crop."""

    def embed(crop: NDArray[np.uint8]) -> Arrays:
        parts = crop.reshape(4, 28, 4, 28, 3).mean(axis=(1, 3)).ravel() - 127.5
        length = np.linalg.norm(parts) + 1e-6
        return np.asarray(parts / length, np.float32), np.asarray(length / 40, np.float32)

    models = models_without_weights(48)
    return replace(models, pipeline=Pipeline(FakeDetector(), Embedder(FakeSession(embed), TEMPLATES["arcface-112"])))
