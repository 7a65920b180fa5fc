"""Copies of a photo are found whatever was done to them, and different photos are never taken for copies."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from models.errors import SingleClass
from models.evaluation.acquire.pictures import Picture
from models.evaluation.sets.copies import without_copies
from models.evaluation.sets.user_pictures import PictureSet, read_folders
from models.imaging import ImageLimits
from tests.pictures import encode

WIDE = 300, 200
LIMITS = ImageLimits()


def photo(seed: int, scene: int = 0) -> Image.Image:
    """Draw a photo: a scene, and in front of it something that another seed changes."""
    backdrop = np.random.default_rng([scene, 1]).integers(0, 255, (12, 18, 3), np.uint8)
    backdrop[3:11, 6:12] = np.random.default_rng([seed, 2]).integers(0, 255, (8, 6, 3), np.uint8)
    return Image.fromarray(backdrop).resize(WIDE, Image.Resampling.BICUBIC)


def of_one_subject(*photos: bytes) -> PictureSet:
    pictures = [Picture(f"ann/{index}.jpg", content) for index, content in enumerate(photos)]
    return PictureSet("people", pictures, ["ann"] * len(pictures))


ORIGINAL = photo(1)
COPIES = {
    "thumbnail": encode(ORIGINAL.resize((120, 80)), "JPEG", quality=80),
    "square": encode(ORIGINAL.crop((50, 0, 250, 200)).resize((96, 96)), "JPEG", quality=80),
    "another format": encode(ORIGINAL, "WEBP", quality=70),
    "sharpened": encode(ORIGINAL.resize((150, 100)).filter(ImageFilter.UnsharpMask(2, 150)), "JPEG"),
    "grey": encode(ORIGINAL.convert("L"), "JPEG"),
    "dark": encode(ORIGINAL.point(lambda value: int(value * 0.4)), "PNG"),
    "the same file": encode(ORIGINAL),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_and_its_original_count_as_one_photo(kind: str) -> None:
    found = without_copies(of_one_subject(COPIES[kind], encode(photo(2)), encode(ORIGINAL)), LIMITS)
    assert len(found.pictures) == 2
    assert "ann/1.jpg" in [picture.name for picture in found.pictures]


def test_the_largest_of_several_copies_is_kept() -> None:
    sizes = [(60, 40), (120, 80), (300, 200), (90, 60)]
    copies = [encode(ORIGINAL.resize(size), "JPEG", quality=85) for size in sizes]
    found = without_copies(of_one_subject(*copies, encode(photo(2))), LIMITS)
    assert [picture.name for picture in found.pictures] == ["ann/2.jpg", "ann/4.jpg"]


def test_photos_in_front_of_the_same_background_are_different() -> None:
    photos = of_one_subject(*(encode(photo(seed)) for seed in range(12)))
    assert without_copies(photos, LIMITS) is photos


def test_copies_of_other_subjects_are_left_alone() -> None:
    content = encode(ORIGINAL)
    two = PictureSet("people", [Picture("ann/1", content), Picture("bob/1", content)], ["ann", "bob"])
    assert without_copies(two, LIMITS) is two


def test_copies_are_counted_and_named_and_the_other_notes_stay(tmp_path: Path) -> None:
    for name, content in (("ann/1.png", encode(ORIGINAL)), ("ann/2.png", encode(photo(2)))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "ann/thumbs").mkdir()
    (tmp_path / "ann/thumbs/1.jpg").write_bytes(COPIES["thumbnail"])
    (tmp_path / "ann/notes.txt").write_text("text")
    steps: list[tuple[str, int, int | None]] = []
    found = without_copies(read_folders(tmp_path), LIMITS, lambda *step: steps.append(step))
    assert [picture.name for picture in found.pictures] == ["ann/1.png", "ann/2.png"]
    assert found.notes == (
        "passed over: 1 file that is no photo (ann/notes.txt)",
        "copies of other photos of the same subject, which count as one photo with them: 1 (ann/thumbs/1.jpg)",
    )
    assert steps == [("looking for copies", 1, 1)]


def test_pictures_that_cannot_be_read_or_have_one_colour_are_kept(tmp_path: Path) -> None:
    grey = encode(Image.new("RGB", (64, 64), "grey"))
    broken = of_one_subject(b"broken", b"broken", b"", grey, grey, encode(ORIGINAL))
    broken.pictures.append(Picture("gone", tmp_path / "gone.jpg"))
    broken.subjects.append("ann")
    assert without_copies(broken, LIMITS) is broken


def test_a_set_of_nothing_but_copies_is_refused_and_says_why() -> None:
    with pytest.raises(SingleClass, match=r"no subject has two different photos; copies of .* 1 \(ann/1\.jpg\)"):
        without_copies(of_one_subject(encode(ORIGINAL), COPIES["thumbnail"]), LIMITS)
