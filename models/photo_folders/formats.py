"""What a file is, by its first bytes: a photo, the raw file of a camera, or something else."""

import re
from typing import Literal

HEAD_BYTES = 256  # holds the brands of an ISO media file

Kind = Literal["photo", "raw", "other"]

_PHOTO_SUFFIX = re.compile(
    r".*\.(?:jpe?g|jpe|jfif|jif|jfi|a?png|webp|bmp|dib|tiff?|gif|avifs?|hei[cf]s?|hif|jp2|j2[kc]|jp[cfx]|jxl)",
    re.DOTALL | re.IGNORECASE,
)
"""A file with such a suffix was meant as a photo: if its bytes are none, that is reported."""

_RAW_SUFFIX = re.compile(
    r".*\.(?:3fr|arw|cr[23w]|dcr|dng|erf|fff|gpr|iiq|k25|kdc|mef|mos|mrw|nef|nrw|or[fi]|pef|raf|raw|rw[2l]|sr[2fw]|x3f)",
    re.DOTALL | re.IGNORECASE,
)
"""Most raw files begin like a TIFF file, and what a TIFF decoder finds in them is a thumbnail."""

_PHOTO = re.compile(
    rb"""\xff\xd8\xff                       # JPEG (ITU-T T.81)
    |   \x89PNG\r\n\x1a\n                   # PNG (W3C, 3rd edition, section 5.2)
    |   GIF8[79]a                           # GIF
    |   RIFF....WEBP                        # WebP (RFC 9649)
    |   BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0  # BMP: the size of each version of its second header
    |   II[*+]\0 | MM\0[*+] | MM[*]\0 | II\0[*]  # TIFF 6.0, BigTIFF, and with a swapped magic number
    |   \0\0\0\x0cjP\x20\x20\r\n\x87\n      # JPEG 2000 (ISO/IEC 15444-1)
    |   \xff\x4f\xff\x51                    # JPEG 2000 without a container
    |   \xff\x0a                            # JPEG XL (ISO/IEC 18181-2)
    |   \0\0\0\x0cJXL\x20\r\n\x87\n         # JPEG XL in a container
    """,
    re.VERBOSE | re.DOTALL,
)
_RAW = re.compile(
    rb"""II[*]\0.{4}CR                      # Canon CR2
    |   II\x1a\0\0\0HEAPCCDR                # Canon CRW
    |   IIRO | IIRS | MMOR                  # Olympus ORF
    |   IIU\0                               # Panasonic RW2
    |   FUJIFILMCCD-RAW                     # Fujifilm RAF
    |   FOVb                                # Sigma X3F
    |   \0MRM                               # Minolta MRW
    """,
    re.VERBOSE | re.DOTALL,
)
_TIFF = re.compile(rb"II[*+]\0|MM\0[*+]", re.DOTALL)
_BRANDS = frozenset(b"avif avis heic heix heim heis hevc hevm hevs hevx mif1 mif2 msf1 miaf".split())
"""Brands of HEIF and AVIF (ISO/IEC 23008-12, AV1 Image File Format); videos have others."""


def has_photo_suffix(name: str) -> bool:
    """Return whether a name has the suffix of a photo."""
    return _PHOTO_SUFFIX.fullmatch(name) is not None


def kind_of(head: bytes, name: str) -> Kind:
    """Return what a file is.

    Args:
        head: First `HEAD_BYTES` bytes of the file.
        name: Name of the file. It matters only for raw files, whose bytes look like TIFF.
    """
    if head[4:8] == b"ftyp":
        return _kind_of_media(head)
    if _RAW.match(head) or (_TIFF.match(head) and _RAW_SUFFIX.fullmatch(name)):
        return "raw"
    return "photo" if _PHOTO.match(head) else "other"


def _kind_of_media(head: bytes) -> Kind:
    """Return what an ISO media file (ISO/IEC 14496-12) is, by its major and compatible brands."""
    end = min(len(head), int.from_bytes(head[:4]))
    brands = {head[8:12], *(head[start : start + 4] for start in range(16, end - 3, 4))}
    if b"crx " in brands:  # Canon CR3
        return "raw"
    return "photo" if brands & _BRANDS else "other"
