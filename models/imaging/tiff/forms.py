"""The forms of TIFF pages: which Pillow reads right, which `samples.py` reads, and the names of the others."""

from models.errors import ImageEncodingUnsupported
from models.imaging.tiff import page as tags
from models.imaging.tiff.jpeg import JPEG, OLD_JPEG, is_one_stream
from models.imaging.tiff.page import Page
from models.imaging.tiff.samples import BYTE_COMPRESSIONS, PACKED_BITS, WHOLE_BITS

ADVICE = "save it as RGB or grey of 8 bits"

_RAW_SENSOR = {32803: "a mosaic of a sensor", 34892: "linear samples of a sensor"}
_NAMES = {tags.PALETTE: "palette", tags.CMYK: "CMYK", tags.YCBCR: "YCbCr", tags.CIELAB: "Lab", tags.ICCLAB: "Lab"}
_DEPTH = 32997  # of a volume, by SGI
_INK_SET, _NUMBER_OF_INKS, _DOT_RANGE = 332, 334, 336
_CMYK_INKS = 1
_SUBSAMPLING = 530  # of Cb and Cr, horizontal and vertical (TIFF 6.0, section 21)
_USUAL_SUBSAMPLING = (2, 2)
_SUBSAMPLINGS = {(1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4)}  # those of libtiff


def is_plain(page: Page) -> bool:
    """Return whether Pillow reads the form of a page, and reads it right."""
    if 262 not in page.directory.entries or len(set(page.bits)) > 1 or set(page.formats) != {tags.UNSIGNED}:
        return False
    if page.planes == 2 and page.compression in BYTE_COMPRESSIONS:
        return False
    if page.directory.number(_DEPTH, 1) != 1:
        return False
    if page.directory.file.big and page.directory.file.order == ">":
        return False
    depths = {tags.WHITE_IS_ZERO: (1, 2, 4, 8), tags.BLACK_IS_ZERO: (1, 2, 4, 8), tags.PALETTE: (1, 2, 4, 8)}
    if page.bits[0] not in depths.get(page.photometric, (8,)):
        return False
    if page.compression == OLD_JPEG and not is_one_stream(page):
        return False
    if page.photometric == tags.YCBCR and _unknown_subsampling(page):
        return False
    if page.photometric in (tags.WHITE_IS_ZERO, tags.BLACK_IS_ZERO, tags.PALETTE, tags.YCBCR):
        return page.samples == page.colours
    if page.photometric == tags.RGB:
        return 3 <= page.samples <= 4
    return page.photometric == tags.CMYK and page.samples == 4 and not _has_other_inks(page) and not _dot_range(page)


def refuse_unsupported(page: Page) -> None:
    """Raise an error if a page is of no form that `Samples` and `to_colours` read.

    Raises:
        ImageEncodingUnsupported: The sentence names what was found.
    """
    found = _unsupported(page)
    if found:
        raise ImageEncodingUnsupported(f"the TIFF holds {found}, which is not supported; {ADVICE}")


def _unsupported(page: Page) -> str:
    bits = ", ".join(map(str, dict.fromkeys(page.bits)))
    if page.photometric in _RAW_SENSOR:
        return _RAW_SENSOR[page.photometric]
    if page.compression == OLD_JPEG:
        return "JPEG in the old form, of which parts lie apart"
    if page.photometric == tags.YCBCR and _unknown_subsampling(page):
        return f"YCbCr with the subsampling {_unknown_subsampling(page)}"
    if page.photometric in (tags.PALETTE, tags.YCBCR):
        return f"{_NAMES[page.photometric]} of {bits} bits in this arrangement"
    if page.photometric > tags.ICCLAB or page.photometric == 4:
        return f"the photometric interpretation {page.photometric}"
    if page.photometric == tags.CMYK and _has_other_inks(page):
        return "inks other than CMYK"
    if page.photometric == tags.CMYK and _dot_range(page):
        return f"CMYK with the dot range {_dot_range(page)}"
    if page.directory.number(_DEPTH, 1) != 1:
        return "a volume"
    if not page.colours <= page.samples <= page.colours + 3 or page.planes not in (1, 2):
        return f"{page.samples} samples per pixel"
    if len(set(page.bits)) > 1:
        return f"samples of different widths ({bits} bits)"
    if len(set(page.formats)) > 1:
        return f"samples of different types ({', '.join(map(_kind, dict.fromkeys(page.formats)))})"
    if not _is_number(page.bits[0], page.formats[0]):
        return f"{_kind(page.formats[0])} samples of {bits} bits"
    if page.photometric in (tags.CMYK, tags.CIELAB, tags.ICCLAB):
        name = _NAMES[page.photometric]
        if page.bits[0] not in (8, 16):
            return f"{name} of {bits} bits"
        if page.formats[0] != tags.UNSIGNED:
            return f"{name} of {_kind(page.formats[0])} samples"
        if page.alpha and (page.extra is None or page.alpha[1] == tags.ASSOCIATED):
            return f"{name} with {'a further sample' if page.extra is None else 'associated opacity'}"
    if page.compression not in BYTE_COMPRESSIONS:
        return f"samples of {bits} bits in the compression {page.compression}"
    if (page.predictor == 3 and page.formats[0] != tags.FLOAT) or page.predictor not in (1, 2, 3):
        return f"samples with the predictor {page.predictor}"
    if page.predictor == 2 and page.bits[0] in PACKED_BITS:
        return f"samples of {bits} bits with a predictor"
    return ""


def _kind(sample_format: int) -> str:
    return {tags.UNSIGNED: "unsigned", tags.SIGNED: "signed", tags.FLOAT: "float"}.get(sample_format, "complex")


def _is_number(bits: int, kind: int) -> bool:
    if kind == tags.FLOAT:
        return bits in (16, 32, 64)
    return bits in WHOLE_BITS if kind == tags.SIGNED else kind == tags.UNSIGNED and bits in (*WHOLE_BITS, *PACKED_BITS)


def _has_other_inks(page: Page) -> bool:
    return page.directory.number(_INK_SET, _CMYK_INKS) != _CMYK_INKS or page.directory.number(_NUMBER_OF_INKS, 4) != 4


def _unknown_subsampling(page: Page) -> str:
    """Return the subsampling of YCbCr if it is not read right; a JPEG states its own.

    Pillow reads uncompressed samples itself, as if there were none, and libtiff the other ones.
    """
    if page.compression in (OLD_JPEG, JPEG):
        return ""
    stated = (*page.directory.numbers(_SUBSAMPLING, 2), *_USUAL_SUBSAMPLING)[:2]
    known = {(1, 1)} if page.compression == 1 else _SUBSAMPLINGS
    return "" if stated in known else f"{stated[0]} x {stated[1]}"


def _dot_range(page: Page) -> str:
    """Return the values of no ink and of full ink, if they are not the limits of the samples; else an empty text."""
    stated = page.directory.numbers(_DOT_RANGE, 2 * page.samples)
    usual = {0: 0, 1: 2 ** page.bits[0] - 1}
    return " to ".join(map(str, stated[:2])) if any(value != usual[n % 2] for n, value in enumerate(stated)) else ""
