"""Samples of all kinds that TIFF knows: the expected picture, or a sentence."""

import io
import zlib
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from models.errors import ImageDamaged, ImageEncodingUnsupported
from models.imaging import Photo
from tests.models.imaging.pictures import GREY, QUARTERS, assert_grey, assert_upright, pixels
from tests.tiffs import SHORT, Tags, TiffPage, tiff

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
KINDS = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "f2", "f4", "f8"]
SHARES = QUARTERS / 255
GREY_SHARES = GREY[..., None] / 255
FOUR = np.dstack([QUARTERS, GREY])


def scaled(shares: NDArray[Any], kind: str) -> NDArray[Any]:
    """Return shares of white as samples of the whole range of a type."""
    dtype = np.dtype(kind)
    if dtype.kind == "f":
        return shares.astype(dtype)
    return (shares * float(np.iinfo(dtype).max // 4 * 4 - 4 if dtype.itemsize == 8 else np.iinfo(dtype).max)).astype(
        dtype
    )


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_reads_every_type_of_samples(kind: str, deflate: bool, order: str) -> None:
    for planes in (False, True):
        assert_upright(tiff(TiffPage(scaled(SHARES, kind), RGB, planes, deflate), order=order), atol=3)
    assert_grey(tiff(TiffPage(scaled(GREY_SHARES, kind), BLACK_IS_ZERO, False, deflate), order=order))
    assert_grey(tiff(TiffPage(scaled(1 - GREY_SHARES, kind), WHITE_IS_ZERO, False, deflate), order=order))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", range(9, 16))
def test_reads_packed_samples(bits: int, order: str) -> None:
    grey = np.rint(GREY_SHARES * (2**bits - 1)).astype(np.uint16)[:, :79]  # rows that end within a byte
    colours = np.rint(SHARES * (2**bits - 1)).astype(np.uint16)[:, :79]
    for page, expected in (
        (TiffPage(grey, BLACK_IS_ZERO, packed=bits), np.repeat(GREY[:, :79, None], 3, axis=2)),
        (TiffPage(2**bits - 1 - grey, WHITE_IS_ZERO, packed=bits), np.repeat(GREY[:, :79, None], 3, axis=2)),
        (TiffPage(colours, RGB, packed=bits), QUARTERS[:, :79]),
        (TiffPage(colours, RGB, planes=True, deflate=True, packed=bits), QUARTERS[:, :79]),
    ):
        np.testing.assert_allclose(pixels(tiff(page, order=order)), expected, atol=2)


def test_a_packed_frame_uses_the_stated_bits_even_if_it_is_dark() -> None:
    dark = tiff(TiffPage(GREY[..., None].astype(np.uint16), packed=12))
    np.testing.assert_allclose(pixels(dark)[..., 0], GREY / 4095 * 255, atol=1)


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
@pytest.mark.parametrize("order", "<>")
def test_reads_9_to_12_bits_in_16(factor: int, order: str) -> None:
    colours, grey = QUARTERS.astype(np.uint16) * factor, GREY[..., None].astype(np.uint16) * factor
    assert_upright(tiff(TiffPage(colours, RGB), order=order), atol=6)
    assert_grey(tiff(TiffPage(grey, BLACK_IS_ZERO), order=order), atol=6)
    assert_grey(tiff(TiffPage(256 * factor - 1 - grey, WHITE_IS_ZERO), order=order), atol=6)
    assert_upright(tiff(TiffPage(colours.astype(np.float32), RGB), order=order), atol=6)


@pytest.mark.parametrize("tag", [281, 341])
def test_scales_by_the_largest_sample_that_the_file_states(tag: int) -> None:
    values, kind = (GREY[..., None] / 255 * 3000).astype(np.uint16), SHORT
    assert_grey(tiff(TiffPage(values, tags={tag: (kind, [3000])})))
    assert_grey(tiff(TiffPage((values * 20).astype(np.uint16), tags={tag: (kind, [255])})), atol=25)


@pytest.mark.parametrize(("tag", "kind"), [(281, "u1"), (341, "u1"), (281, "packed")])
def test_statistics_do_not_brighten_samples_whose_bits_are_their_range(tag: int, kind: str) -> None:
    tags: Tags = {280: (SHORT, [10]), tag: (SHORT, [260])}
    packed = tiff(TiffPage(GREY[..., None].astype(np.uint16) * 16, packed=12, tags=tags))
    for encoded in (
        [packed] if kind == "packed" else [tiff(TiffPage(QUARTERS, RGB, p, tags=tags)) for p in (False, True)]
    ):
        assert_grey(encoded) if kind == "packed" else assert_upright(encoded, atol=0)


def test_the_smallest_sample_that_the_file_states_is_black_if_it_is_negative() -> None:
    shares, opacity = SHARES * 2 - 1, np.full((48, 80, 1), 1.0)
    for low, high, samples in (
        (-1.0, 1.0, shares.astype(np.float32)),
        (-1.0, 1.0, (shares / 2 + 0.5).astype(np.float32)),
        (-32768, 32767, (SHARES * 65535 - 32768).astype(np.int16)),
        (-100, 100, (shares * 100).astype(np.int8)),
    ):
        tags: Tags = {
            tag: (9 if isinstance(value, int) else 11, [value] * 3) for tag, value in ((340, low), (341, high))
        }
        expected = (samples.astype(np.float64) - low) / (high - low) * 255
        for page in (TiffPage(samples, RGB, tags=tags), TiffPage(samples, RGB, True, True, tags=tags)):
            np.testing.assert_allclose(pixels(tiff(page)), expected, atol=1)
        opaque = np.dstack([samples, (opacity * high).astype(samples.dtype)])
        np.testing.assert_allclose(pixels(tiff(TiffPage(opaque, RGB, tags=tags))), expected, atol=1)


def test_the_limits_of_a_float_type_state_nothing() -> None:
    limit = float(np.finfo(np.float32).max)
    assert_upright(tiff(TiffPage(SHARES.astype(np.float32), RGB, tags={340: (11, [-limit]), 341: (11, [limit])})))


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
@pytest.mark.parametrize("colours", [1, 3])
def test_blends_opacity_with_white_as_it_is_stated(colours: int, kind: str) -> None:
    shares = SHARES if colours == 3 else GREY_SHARES
    opacity = np.linspace(0.4, 1, 80)[None, :, None].repeat(48, axis=0)
    for extra, own, shown in (
        ([1], shares * opacity, shares * opacity + 1 - opacity),
        ([2], shares, shares * opacity + 1 - opacity),
        (None, shares, shares * opacity + 1 - opacity),
        ([0], shares, shares),
    ):
        tags: Tags = {} if extra is None else {338: (SHORT, extra)}
        samples = scaled(np.concatenate([own, opacity], axis=2), kind)
        for planes in (False, True):
            page = TiffPage(samples, RGB if colours == 3 else BLACK_IS_ZERO, planes, tags=tags)
            expected = np.broadcast_to(shown * 255, (48, 80, 3))
            np.testing.assert_allclose(pixels(tiff(page)), expected, atol=3, err_msg=str((extra, planes)))


def with_predictor(samples: NDArray[Any], predictor: int, order: Literal["<", ">"]) -> bytes:
    """Return a file whose samples are differences of neighbours (TIFF 6.0, section 14; TIFF Technical Note 3)."""
    height, width, count = samples.shape
    if predictor == 2:
        first = samples.view(f"u{samples.dtype.itemsize}")
        differences = np.diff(first, axis=1, prepend=np.zeros((height, 1, count), first.dtype))
        strip = differences.astype(first.dtype.newbyteorder(order)).tobytes()
    else:
        whole = samples.astype(samples.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
        planes = whole.reshape(height, width * count, -1).transpose(0, 2, 1).reshape(height, -1, count)
        strip = np.diff(planes, axis=1, prepend=np.zeros((height, 1, count), np.uint8)).tobytes()
    packed = zlib.compress(strip)
    blank = TiffPage(samples, RGB, tags={259: (SHORT, [8]), 317: (SHORT, [predictor]), 279: (4, [len(packed)])})
    encoded = bytearray(tiff(blank, order=order))
    encoded[8 : 8 + len(packed)] = packed
    return bytes(encoded)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("kind", "predictor"), [("u2", 2), ("i2", 2), ("u4", 2), ("f2", 3), ("f4", 3), ("f8", 3)])
def test_undoes_predictors(kind: str, predictor: int, order: Literal["<", ">"]) -> None:
    assert_upright(with_predictor(scaled(SHARES, kind), predictor, order), atol=3)


@pytest.mark.parametrize("kind", ["u2", "f4"])
@pytest.mark.parametrize("compression", [1, 5, 8, 32773, 32946])
def test_reads_the_compressions_of_libtiff(compression: int, kind: str) -> None:
    values = (QUARTERS[..., ::-1].astype(np.float64) * (257 if kind == "u2" else 1 / 255)).astype(kind)
    options = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 7]
    assert_upright(cv2.imencode(".tiff", values, options)[1].tobytes(), atol=3)


def test_reads_tiles() -> None:
    values, tiles = np.pad(QUARTERS, ((0, 16), (0, 16), (0, 0))).astype(np.uint16) * 257, []
    for row in range(0, 64, 32):
        for column in range(0, 96, 32):
            tiles.append(values[row : row + 32, column : column + 32].tobytes())
    places = [8 + number * len(tiles[0]) for number in range(len(tiles))]
    tags: Tags = {322: (4, [32]), 323: (4, [32]), 324: (4, places), 325: (4, [len(tiles[0])] * len(tiles))}
    encoded = bytearray(tiff(TiffPage(values, RGB, tags={**tags, 256: (4, [80]), 257: (4, [48])})))
    encoded[8 : 8 + len(b"".join(tiles))] = b"".join(tiles)
    assert_upright(bytes(encoded), atol=3)


def test_reads_reversed_bits() -> None:
    reverse = np.array([int(f"{byte:08b}"[::-1], 2) for byte in range(256)], np.uint8)
    for samples, photometric in ((GREY[..., None], 1), (QUARTERS, RGB), (QUARTERS.astype(np.uint16) * 257, RGB)):
        stored = reverse[np.ascontiguousarray(samples).view(np.uint8)].view(samples.dtype)
        encoded = tiff(TiffPage(stored, photometric, tags={266: (SHORT, [2])}))
        assert_upright(encoded, atol=3) if photometric == RGB else assert_grey(encoded)


def test_reads_cmyk_of_any_width() -> None:
    inks = np.asarray(Image.fromarray(QUARTERS).convert("CMYK"))
    for samples in (inks, inks.astype(np.uint16) * 257):
        for planes in (False, True):
            assert_upright(tiff(TiffPage(samples, CMYK, planes)), atol=3)


def test_blends_cmyk_and_lab_with_white_by_their_opacity() -> None:
    opacity = np.full((48, 80, 1), 102, np.uint8)
    inks = np.asarray(Image.fromarray(QUARTERS).convert("CMYK"))
    for samples in (np.dstack([inks, opacity]), np.dstack([inks, opacity]).astype(np.uint16) * 257):
        shown = pixels(
            tiff(TiffPage(samples, CMYK, tags={336: (SHORT, [0, 2 ** (8 * samples.itemsize) - 1]), 338: (SHORT, [2])}))
        )
        np.testing.assert_allclose(shown, QUARTERS * 0.4 + 255 * 0.6, atol=2)
        spot = pixels(tiff(TiffPage(samples, CMYK, tags={338: (SHORT, [0])})))
        np.testing.assert_allclose(spot, QUARTERS, atol=2)
    neutral = np.dstack([np.full((48, 80), 0, np.uint8), np.full((48, 80, 2), 0, np.uint8), opacity])
    np.testing.assert_allclose(pixels(tiff(TiffPage(neutral, CIELAB, tags={338: (SHORT, [2])}))), 153, atol=2)


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (4, 4), ()])
def test_reads_the_subsampling_of_ycbcr(subsampling: tuple[int, ...]) -> None:
    across, down = subsampling or (2, 2)
    ycbcr = np.asarray(Image.fromarray(QUARTERS).convert("YCbCr"))
    light = ycbcr[..., 0].reshape(48 // down, down, 80 // across, across).transpose(0, 2, 1, 3)
    units = np.dstack([light.reshape(48 // down, 80 // across, -1), ycbcr[::down, ::across, 1:]])
    page: Tags = {256: (4, [80]), 257: (4, [48]), 258: (SHORT, [8] * 3), 277: (SHORT, [3]), 278: (4, [48])}
    stated: Tags = {530: (SHORT, subsampling)} if subsampling else {}
    flat = units.reshape(1, -1, 1)
    assert_upright(tiff(TiffPage(flat, YCBCR, deflate=True, tags={**page, 339: (SHORT, [1] * 3), **stated})))


def test_reads_lab() -> None:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(Image.fromarray(QUARTERS), *profiles, outputMode="LAB")
    assert image is not None
    stream = io.BytesIO()
    image.save(stream, "TIFF")
    assert_upright(stream.getvalue())
    signed = np.frombuffer(image.tobytes(), np.uint8).reshape(48, 80, 3)
    shifted = signed ^ np.array([0, 0x80, 0x80], np.uint8)
    assert_upright(tiff(TiffPage(signed, CIELAB, planes=True)))
    assert_upright(tiff(TiffPage(signed.astype(np.uint16) << 8, CIELAB)))
    assert_upright(tiff(TiffPage(shifted, ICCLAB)))


def test_reads_a_colour_map_of_8_and_of_16_bits() -> None:
    palette = Image.fromarray(QUARTERS).convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    colours = np.zeros((256, 3), np.uint16)
    own = palette.getpalette() or []
    colours[: len(own) // 3] = np.array(own).reshape(-1, 3)
    for factor in (1, 257):
        tags: Tags = {320: (SHORT, (colours.T.reshape(-1) * factor).tolist())}
        assert_upright(tiff(TiffPage(np.asarray(palette)[..., None], PALETTE, tags=tags)), atol=3)


def test_without_a_photometric_interpretation_zero_is_black() -> None:
    for samples in (GREY[..., None], GREY[..., None].astype(np.uint16) * 257):
        encoded = tiff(TiffPage(samples))
        entry = encoded.index(np.array([262, 3], "<u2").tobytes())
        assert_grey(encoded[:entry] + np.array([261, 3], "<u2").tobytes() + encoded[entry + 4 :])


def test_undefined_samples_are_unsigned() -> None:
    assert_upright(tiff(TiffPage(QUARTERS, RGB, tags={339: (SHORT, [4, 4, 4])})))
    assert_upright(tiff(TiffPage(QUARTERS.astype(np.uint16) * 257, RGB, tags={339: (SHORT, [4])})))


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (TiffPage(SHARES * 2 - 1, RGB), "negative samples"),
        (TiffPage((GREY[..., None].astype(np.int32) * 257 - 32768).astype(np.int16)), "negative samples"),
        (TiffPage(QUARTERS, YCBCR, planes=True, tags={530: (SHORT, [1, 1])}), "YCbCr of 8 bits"),
        (TiffPage(QUARTERS.astype(np.uint16), YCBCR, tags={530: (SHORT, [1, 1])}), "YCbCr of 16 bits"),
        (TiffPage(GREY[..., None].astype(np.uint16), PALETTE), "palette of 16 bits"),
        (TiffPage(QUARTERS, RGB, tags={258: (SHORT, [8, 8, 16])}), "samples of different widths"),
        (TiffPage(QUARTERS, RGB, tags={258: (SHORT, [24] * 3)}), "unsigned samples of 24 bits"),
        (TiffPage(QUARTERS, RGB, tags={339: (SHORT, [5] * 3)}), "complex samples"),
        (TiffPage(QUARTERS, RGB, tags={259: (SHORT, [4242])}), "the compression 4242"),
        (TiffPage(QUARTERS.astype(np.uint16), RGB, tags={259: (SHORT, [7])}), "the compression 7"),
        (TiffPage(QUARTERS.astype(np.uint16), RGB, tags={317: (SHORT, [9])}), "the predictor 9"),
        (TiffPage(QUARTERS, 32845), "the photometric interpretation 32845"),
        (TiffPage(QUARTERS, 4), "the photometric interpretation 4"),
        (TiffPage(FOUR, CMYK, tags={332: (SHORT, [2])}), "inks other than CMYK"),
        (TiffPage(FOUR, CMYK, tags={336: (SHORT, [255, 0])}), "CMYK with the dot range 255 to 0"),
        (
            TiffPage(FOUR.astype(np.uint16), CMYK, tags={336: (SHORT, [10, 60000])}),
            "CMYK with the dot range 10 to 60000",
        ),
        (TiffPage(FOUR.astype(np.int8), CMYK), "CMYK of signed samples"),
        (TiffPage(FOUR.astype(np.int16), CMYK, True), "CMYK of signed samples"),
        (TiffPage(FOUR.astype(np.float16), CMYK), "CMYK of float samples"),
        (TiffPage(QUARTERS.astype(np.int16), CIELAB), "Lab of signed samples"),
        (TiffPage(QUARTERS.astype(np.int8), ICCLAB), "Lab of signed samples"),
        (TiffPage(QUARTERS.astype(np.float32), CIELAB), "Lab of 32 bits"),
        (TiffPage(QUARTERS, RGB, tags={339: (SHORT, [1, 2, 2])}), "samples of different types .unsigned, signed"),
        (TiffPage(np.dstack([FOUR, GREY]), CMYK), "CMYK with a further sample"),
        (TiffPage(np.dstack([FOUR, GREY]), CMYK, tags={338: (SHORT, [1])}), "CMYK with associated opacity"),
        (TiffPage(QUARTERS, YCBCR), "YCbCr with the subsampling 2 x 2"),
        (TiffPage(QUARTERS, YCBCR, tags={530: (SHORT, [2, 1])}), "YCbCr with the subsampling 2 x 1"),
        (TiffPage(QUARTERS, YCBCR, False, True, tags={530: (SHORT, [3, 1])}), "YCbCr with the subsampling 3 x 1"),
        (TiffPage(np.dstack([QUARTERS] * 3), RGB), "9 samples per pixel"),
        (TiffPage(QUARTERS, RGB, tags={32997: (4, [5])}), "a volume"),
    ],
)
def test_names_what_it_does_not_read(page: TiffPage, words: str) -> None:
    with pytest.raises(ImageEncodingUnsupported, match=f"the TIFF holds .*{words}.*; save it as RGB or grey of 8 bits"):
        Photo(tiff(page)).raster()


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_refuses_a_page_that_is_cut_off(kind: str) -> None:
    samples = scaled(SHARES, kind)
    for deflate in (False, True):
        half = len(TiffPage(samples, RGB, deflate=deflate).strips("<")[0]) // 2
        encoded = tiff(TiffPage(samples, RGB, deflate=deflate, tags={279: (4, [half])}))
        if not deflate:
            page = TiffPage(samples, RGB)
            encoded = tiff(TiffPage(samples, RGB, tags={273: (4, [len(tiff(page)) - half])}))
        with pytest.raises(ImageDamaged):
            Photo(encoded).raster()
