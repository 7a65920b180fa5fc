"""The photos of requests: their bytes as base64, or files of a directory that stands for buckets."""

from pathlib import Path

from models.errors import ImageTooManyBytes
from service.base64_text import decode_base64
from service.compat.rekognition.requests import Image, S3Object
from service.errors import PhotoUnreachable
from service.security.scopes import Grant

MAX_BYTES = 5 * 2**20
"""Maximum size of a photo in a request."""

MAX_OBJECT_BYTES = 15 * 2**20
"""Maximum size of a photo in a bucket."""

_UNREACHABLE = "Unable to get object metadata from S3. Check object key, region and/or access permissions."


def photo_of(image: Image, buckets: Path | None) -> bytes:
    """Return the bytes of a photo.

    Args:
        image: The photo as the request names it.
        buckets: Directory whose subdirectories are the buckets; None if there are none.

    Raises:
        ImageTooManyBytes: The photo is larger than such clients may send.
        Base64Malformed: Its bytes are not base64.
        PhotoUnreachable: There is no such object.
    """
    if image.bytes is not None:
        if len(image.bytes) > MAX_BYTES * 2:  # before it is decoded
            raise ImageTooManyBytes(f"the photo has more than {MAX_BYTES:,} bytes")
        content = decode_base64(image.bytes)
        if len(content) > MAX_BYTES:
            raise ImageTooManyBytes(f"the photo has {len(content):,} bytes; at most {MAX_BYTES:,} are accepted")
        return content
    assert image.s3_object is not None  # by its schema
    return _read(image.s3_object, buckets)


def require_bucket(image: Image, grant: Grant) -> None:
    """Refuse a bucket whose name a key may not give to a collection, exactly as an object that does not exist.

    Raises:
        PhotoUnreachable: The grant does not reach the name of the bucket.
    """
    if image.s3_object is not None and not grant.reaches(image.s3_object.bucket):
        raise PhotoUnreachable(_UNREACHABLE)


def _read(wanted: S3Object, buckets: Path | None) -> bytes:
    """Read an object, which must lie in the directory of its bucket.

    Raises:
        ImageTooManyBytes: The photo is larger than such clients may name.
        PhotoUnreachable: There is no such object, or there are no buckets.
    """
    if buckets is None or wanted.version is not None or wanted.bucket in (".", ".."):
        raise PhotoUnreachable(_UNREACHABLE)
    try:
        bucket = (buckets / wanted.bucket).resolve(strict=True)
        path = (bucket / wanted.name).resolve(strict=True)
        if not (bucket.is_relative_to(buckets.resolve()) and path.is_relative_to(bucket) and path.is_file()):
            raise PhotoUnreachable(_UNREACHABLE)
        with path.open("rb") as file:
            content = file.read(MAX_OBJECT_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: the name has a null byte
        raise PhotoUnreachable(_UNREACHABLE) from error
    if len(content) > MAX_OBJECT_BYTES:
        raise ImageTooManyBytes(f"the object has more than {MAX_OBJECT_BYTES:,} bytes")
    return content
