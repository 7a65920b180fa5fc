"""The pages of a TIFF file and what each states about its samples (TIFF 6.0, section 8 and the supplements)."""

from dataclasses import dataclass, field

from models.errors import ImageDamaged, ImageEncodingUnsupported, ImageSeveralPages
from models.imaging.directory import Directory, DirectoryDamaged, Number, Tiff, directories

_MAX_DIRECTORIES = 1000
_MAX_ENTRIES = 50_000
_MAX_SAMPLES = 16  # samples per pixel of which the bits are read; more than 6 are refused

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
ASSOCIATED, UNASSOCIATED = 1, 2
_REDUCED, _PAGE = 1, 2  # bits of NewSubfileType
_OLD_KINDS = {1: 0, 2: _REDUCED, 3: _PAGE}  # SubfileType, which NewSubfileType replaced
_FAX = (2, 3, 4)
_MAX, _S_MIN, _S_MAX = 281, 340, 341  # MaxSampleValue, SMinSampleValue, SMaxSampleValue
_FLOAT_LIMIT = 3.4e38  # a little less than the largest float32
_UNDEFINED_FORMAT = 4  # a reader treats such samples as unsigned


@dataclass(frozen=True, slots=True)
class Page:
    """What a page states about itself; see the tags of the same names in TIFF 6.0.

    Attributes:
        directory: Directory of the page.
        kind: NewSubfileType.
        width, height: Size in pixels, as stored.
        bits: Bits of each sample.
        formats: SampleFormat of each sample.
        photometric: PhotometricInterpretation.
        compression: Compression.
        planes: PlanarConfiguration; 2 if the samples of a pixel are stored apart.
        extra: ExtraSamples; None if it is not stated.
        predictor: Predictor.
        orientation: Orientation, as stated; it may be invalid.
    """

    directory: Directory = field(repr=False)
    kind: int
    width: int
    height: int
    bits: tuple[int, ...]
    formats: tuple[int, ...]
    photometric: int
    compression: int
    planes: int
    extra: tuple[int, ...] | None
    predictor: int
    orientation: int

    @property
    def is_full(self) -> bool:
        """Whether the page is neither a reduced copy nor a mask, a depth map or another auxiliary picture."""
        return not self.kind & ~_PAGE

    @property
    def is_reduced(self) -> bool:
        """Whether the page is a reduced copy."""
        return bool(self.kind & _REDUCED) and not self.kind & ~(_PAGE | _REDUCED)

    @property
    def samples(self) -> int:
        """Samples of a pixel."""
        return len(self.bits)

    @property
    def colours(self) -> int:
        """Samples of a pixel that are colours; the others are extra samples."""
        return {RGB: 3, CMYK: 4, YCBCR: 3, CIELAB: 3, ICCLAB: 3}.get(self.photometric, 1)

    @property
    def alpha(self) -> tuple[int, int] | None:
        """Position of the opacity in a pixel and its type, ASSOCIATED or UNASSOCIATED; None without opacity."""
        extra = self.extra
        if extra is None:  # many writers omit the tag, and mean opacity by one more sample
            extra = (UNASSOCIATED,) if self.samples == self.colours + 1 else ()
        for number, kind in enumerate(extra[: self.samples - self.colours]):
            if kind in (ASSOCIATED, UNASSOCIATED):
                return self.colours + number, kind
        return None

    @property
    def stated_range(self) -> tuple[float | None, float | None]:
        """Smallest and largest value of a colour sample that the file states; None if it does not, or needs not.

        SMinSampleValue and SMaxSampleValue count where the bits leave the range open: beyond unsigned samples of 8
        bits. MinSampleValue and MaxSampleValue are statistics, which must not affect the picture (TIFF 6.0, section 8).
        MaxSampleValue is used nevertheless in place of a guess: for 16 bits and more, of which many cameras use fewer.
        """
        bits = self.bits[0]
        if bits <= 8 and self.formats[0] == UNSIGNED:
            return None, None
        low, high = (self._stated(tag) for tag in (_S_MIN, _S_MAX))
        statistic = self._stated(_MAX) if bits >= 16 else ()
        return min(low, default=None), max(high or statistic, default=None)

    def _stated(self, tag: int) -> tuple[float, ...]:
        """Return the values of a tag for the colours; none if they are the limits of a float type, its default."""
        values = self.directory.numbers(tag, self.colours)
        return tuple(float(value) for value in values) if all(abs(value) < _FLOAT_LIMIT for value in values) else ()


def full_page(encoded: bytes) -> Page:
    """Return the page of a TIFF that holds the photo: the only one that is no reduced copy and no mask.

    Without such a page it is the largest reduced copy.

    Raises:
        ImageDamaged: The directories of the file are corrupt.
        ImageSeveralPages: The file has several full pages.
        ImageEncodingUnsupported: The file has no page with a photo.
    """
    try:
        found = list(directories(Tiff.read(encoded), _MAX_DIRECTORIES, _MAX_ENTRIES))
        pages = [page for page in map(_page, found) if page is not None]
    except DirectoryDamaged as error:
        raise ImageDamaged("the header of the TIFF is corrupt") from error
    full = [page for page in pages if page.is_full]
    if len(full) > 1:
        count = f"{len(full)}" if len(found) < _MAX_DIRECTORIES else f"more than {len(full) - 1}"
        raise ImageSeveralPages(
            f"the TIFF has {count} pages at full size; send the page with the photo as a file of its own"
        )
    if full:
        return full[0]
    reduced = [page for page in pages if page.is_reduced]
    if not reduced:
        raise (
            ImageEncodingUnsupported("the TIFF has no page with a photo")
            if pages
            else ImageDamaged("the header of the TIFF is corrupt: no page states its size")
        )
    return max(reduced, key=lambda page: page.width * page.height)


def _page(directory: Directory) -> Page | None:
    width, height = directory.number(256, 0), directory.number(257, 0)
    if width <= 0 or height <= 0:
        return None
    stated = _integers(directory.numbers(258, _MAX_SAMPLES)) or (1,)
    samples = directory.number(277, len(stated))
    compression = directory.number(259, 1)
    if compression in (6, 7) and 277 not in directory.entries:
        samples = max(samples, 3 if directory.number(262, 0) in (RGB, YCBCR) else 1)
    samples = min(max(1, samples), _MAX_SAMPLES)
    formats = _integers(directory.numbers(339, _MAX_SAMPLES)) or (UNSIGNED,)
    return Page(
        directory=directory,
        kind=_kind(directory),
        width=width,
        height=height,
        bits=_for_each(stated, samples),
        formats=tuple(UNSIGNED if kind == _UNDEFINED_FORMAT else kind for kind in _for_each(formats, samples)),
        photometric=directory.number(262, _usual_photometric(samples, compression)),
        compression=compression,
        planes=directory.number(284, 1) if samples > 1 else 1,
        extra=_integers(directory.numbers(338, _MAX_SAMPLES)) if 338 in directory.entries else None,
        predictor=directory.number(317, 1),
        orientation=directory.number(274, 0),
    )


def _usual_photometric(samples: int, compression: int) -> int:
    """Return what libtiff assumes where a writer omits the tag."""
    if samples >= 3:
        return RGB
    return WHITE_IS_ZERO if compression in _FAX else BLACK_IS_ZERO


def _kind(directory: Directory) -> int:
    return directory.number(254, _OLD_KINDS.get(directory.number(255, 1), 0))


def _integers(values: tuple[Number, ...]) -> tuple[int, ...]:
    return tuple(int(value) if abs(value) < 2**31 else 0 for value in values)


def _for_each(values: tuple[int, ...], samples: int) -> tuple[int, ...]:
    """Return one value for each sample; writers state a single one if all are the same."""
    return (values + values[-1:] * samples)[:samples]
