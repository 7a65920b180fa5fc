"""Decoders print nothing of their own about a photo."""

import io
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

_PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
_DECODE = """
import logging, sys
from pathlib import Path
from models.errors import ImageError
from models.imaging import Photo, load_decoders

logging.basicConfig(level=logging.INFO)
load_decoders()
for path in sys.argv[1:]:
    try:
        Photo(Path(path).read_bytes()).raster()
    except ImageError:
        continue
    raise SystemExit(f"{path} was decoded")
"""


def tiff(compression: str) -> bytes:
    written = io.BytesIO()
    Image.fromarray(_PIXELS).save(written, "TIFF", compression=compression)
    return written.getvalue()


def test_decoders_print_nothing_about_corrupt_photos(tmp_path: Path) -> None:
    corrupt = {
        "lzw.tif": (tiff("tiff_lzw"), slice(60, 400), b"\xff"),
        "deflate.tif": (tiff("tiff_adobe_deflate"), slice(60, 400), b"\xff"),
        "jpeg.tif": (tiff("jpeg"), slice(-200, None), b""),
        "odd.jp2": (cv2.imencode(".jp2", _PIXELS)[1].tobytes(), slice(300, 900), b"\xff"),
    }
    paths = []
    for name, (encoded, where, byte) in corrupt.items():
        changed = bytearray(encoded)
        changed[where] = byte * len(changed[where])
        paths.append(tmp_path / name)
        paths[-1].write_bytes(changed)
    done = subprocess.run([sys.executable, "-c", _DECODE, *map(str, paths)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
