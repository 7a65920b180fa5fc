"""Strangers whose stored faces are hardly recognisable, with the default pack: they resemble each other."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from models.serving.models import Models
from service.compat.face_ids import find_faces
from service.gallery.identification import template_vector
from service.settings import CompatSettings, Settings
from tests.client import guarded_client
from tests.conftest import galleries_for
from tests.pictures import encode
from tests.service.compat.rekognition.conftest import Caller, image, rekognition_key

PEOPLE = 24
SIGMA_PX = 8


def blurred(photo: Path) -> bytes:
    return encode(Image.open(io.BytesIO(photo.read_bytes())).convert("RGB").filter(ImageFilter.GaussianBlur(SIGMA_PX)))


def test_blurred_strangers_who_are_stored_match_nobody(real_models: Models, shared: Path, tmp_path: Path) -> None:
    lfw = shared / "data" / "lfw" / "images"
    everyone = sorted(person for person in lfw.iterdir() if person.is_dir())
    people = everyone[:: len(everyone) // PEOPLE][:PEOPLE]
    settings = Settings(compat=CompatSettings(rekognition=True))
    with (
        galleries_for(real_models, tmp_path / "galleries") as galleries,
        guarded_client(real_models, galleries, tmp_path / "security", settings) as guarded,
    ):
        call = Caller(guarded.client, rekognition_key(guarded.keys))
        call.ok("CreateCollection", CollectionId="staff")
        photos: dict[str, bytes] = {}
        for person in people:
            photo = blurred(min(person.iterdir()))
            photos |= dict.fromkeys(call.index(photo, QualityFilter="NONE", MaxFaces=1), photo)
        stored = find_faces(galleries, "staff", photos).values()
        vectors = np.stack([template_vector(galleries, "staff", face) for face in stored])
        assert np.median([face.quality for face in stored if face.quality is not None]) == 0
        matched = [
            match
            for face, photo in photos.items()
            for match in (
                *call.ok("SearchFaces", CollectionId="staff", FaceId=face)["FaceMatches"],
                *call.ok("SearchFacesByImage", CollectionId="staff", Image=image(photo))["FaceMatches"],
            )
            if match["Face"]["FaceId"] != face
        ]
    assert real_models.calibration is not None
    pairs = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
    assert len(pairs) > 50
    assert (pairs >= real_models.calibration.point().threshold).mean() > 0.05, "they resemble each other"
    assert matched == []
