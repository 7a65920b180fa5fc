import numpy as np
import pytest

from models.imaging.depth import is_signed_range, to_8_bits, white_of
from tests.models.imaging.pictures import GREY, QUARTERS, assert_grey, assert_upright, wide_png


@pytest.mark.parametrize("bits", range(8, 17))
def test_takes_white_from_samples_of_fewer_bits_than_16(bits: int) -> None:
    ramp = np.linspace(0, 2**bits - 1, 4096).astype(np.uint16).reshape(64, 64)
    assert white_of(ramp, 16) == 2**bits - 1


def test_a_few_saturated_pixels_do_not_make_the_frame_black() -> None:
    frame = np.linspace(0, 1000, 10_000).astype(np.uint16).reshape(100, 100)
    frame[0, :5] = 65535
    assert white_of(frame, 16) == 1023


def test_noise_is_not_amplified_beyond_8_bits() -> None:
    assert white_of(np.full((8, 8), 3, np.uint16), 16) == 255


def test_the_stated_white_precedes_unless_samples_exceed_it() -> None:
    ramp = np.linspace(0, 900, 4096).reshape(64, 64)
    assert white_of(ramp.astype(np.uint16), 16, stated=3000) == 3000
    assert white_of(ramp.astype(np.float32), 32, stated=3000) == 3000
    assert white_of(ramp.astype(np.uint16), 16, stated=255) == 1023
    assert white_of(ramp.astype(np.uint16), 16, stated=65535) == 1023, "the default of writers states nothing"
    assert white_of(ramp.astype(np.uint16), 12) == 4095, "packed samples use their bits"


@pytest.mark.parametrize(
    ("high", "white"), [(1.0, 1), (1.3, 1), (0.06, 1 / 16), (255.0, 255), (4000.0, 4095), (0.0, 1), (1e-9, 1 / 256)]
)
def test_takes_white_from_float_samples(high: float, white: float) -> None:
    assert white_of(np.linspace(0, high, 4096, dtype=np.float32).reshape(64, 64), 32) == white


def test_tells_a_signed_range_from_noise_around_zero() -> None:
    noise = np.random.default_rng(0).normal(0.3, 0.2, (64, 64)).clip(-0.05)
    assert not is_signed_range(noise, 1.0)
    assert is_signed_range(np.linspace(-1, 1, 4096).reshape(64, 64), 1.0)


@pytest.mark.parametrize("kind", ["u2", "i4", "f4", "f8"])
def test_scales_clips_and_inverts(kind: str) -> None:
    values = np.array([[0, 500, 1000, 1500]], kind)
    assert to_8_bits(values, 1000).tolist() in ([[0, 127, 255, 255]], [[0, 128, 255, 255]])
    assert to_8_bits(values, 1000, inverted=True).tolist() in ([[255, 127, 0, 0]], [[255, 128, 0, 0]])


def test_nan_is_black_and_infinity_is_white() -> None:
    assert to_8_bits(np.array([[np.nan, np.inf, -np.inf]], np.float32), 1).tolist() == [[0, 255, 0]]


@pytest.mark.parametrize("factor", [2, 4, 8, 16, 64, 257])
def test_a_png_shows_the_same_picture_at_any_number_of_bits(factor: int) -> None:
    colours = QUARTERS.astype(np.uint16) * factor
    assert_grey(wide_png(GREY.astype(np.uint16) * factor), atol=6)
    assert_upright(wide_png(colours), atol=6)
    for opacity in (65535, 255 * factor):
        assert_upright(wide_png(np.dstack([colours, np.full((48, 80), opacity, np.uint16)])), atol=6)
