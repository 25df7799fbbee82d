"""The thin lens against a published value, against ray optics, and at its limits."""

import math

import pytest

from argan.errors import UsageError
from argan.lens import ThinLens


def circle_of_confusion(lens: ThinLens, dioptres: float, focus: float) -> float:
    """Signed diameter in mm on the sensor."""
    return lens.spread(focus) * (dioptres - focus)


def test_published_value() -> None:
    """The example of the package circle-of-confusion 0.3.0: 100 mm, f/2, focused at 30 m, a point at 10 m, a film of
    24.576 x 18.672 mm in 1920 x 1080 pixels: a radius of -11.9353 pixels, by its convention (near is negative, pixels
    by the diagonals)."""
    diameter = circle_of_confusion(ThinLens(2, 100, 24.576), 1 / 10, 1 / 30)
    pixels_per_mm = math.hypot(1920, 1080) / math.hypot(24.576, 18.672)
    assert diameter / 2 * pixels_per_mm == pytest.approx(11.9353, abs=2e-3)


@pytest.mark.parametrize("focal", [14, 50, 200])
@pytest.mark.parametrize("distance", [0.8, 3, 50, 1e9])
@pytest.mark.parametrize("focus", [0.7, 5, 100])
def test_is_where_rays_through_the_rim_meet_the_sensor(focal: float, distance: float, focus: float) -> None:
    """By 1/f = 1/z + 1/v for the point and for the sensor, and similar triangles over the aperture."""
    f, z, s = focal / 1000, distance, focus
    v, sensor_at = 1 / (1 / f - 1 / z), 1 / (1 / f - 1 / s)
    expected = 1000 * f / 2.8 * (v - sensor_at) / v  # positive: rays have not met yet, the point is in front
    lens = ThinLens(2.8, focal)
    assert circle_of_confusion(lens, 1 / distance, 1 / focus) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_sign_and_units() -> None:
    lens = ThinLens(2, 50, 36)
    assert circle_of_confusion(lens, 1 / 1, 1 / 2) > 0 > circle_of_confusion(lens, 1 / 4, 1 / 2)
    assert circle_of_confusion(lens, 0.5, 0.5) == 0
    at_infinity = circle_of_confusion(lens, 0, 1 / 2)  # about f^2 / (N s): 2500 / 4000 mm
    assert at_infinity == pytest.approx(-(0.05**2) / 2 / (2 - 0.05) * 1000, rel=1e-9)


def test_blur_is_what_render_takes() -> None:
    """Percent of the long side at disparity difference 1; disparity 0 is ten metres away, 1 just under half a metre."""
    lens = ThinLens(1.8, 85, 36)
    blur = lens.blur(focus=1 / 3, dioptres=(0.1, 2.1))
    difference = (1 / 1.5 - 1 / 3) / 2  # of disparity, between 1.5 m and 3 m
    assert blur / 100 * 36 * difference == pytest.approx(circle_of_confusion(lens, 1 / 1.5, 1 / 3))


def test_doubling_the_f_number_halves_the_blur() -> None:
    assert ThinLens(2).spread(0.3) == pytest.approx(2 * ThinLens(4).spread(0.3))


def test_a_lens_is_a_normal_one_on_full_frame_unless_told_otherwise() -> None:
    assert ThinLens(0.95) == ThinLens(0.95, focal=50, sensor=36)  # f-numbers below 1 are rare, and real


@pytest.mark.parametrize("values", [(0,), (-1,), (2, 0), (2, 50, 0), (math.nan,), (math.inf,)])
def test_what_is_no_lens(values: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="above 0"):
        ThinLens(*values)


def test_no_farther_than_the_focal_length() -> None:
    for distance in (0.04, 0.05):
        with pytest.raises(UsageError, match="cannot focus at"):
            ThinLens(2, 50).spread(1 / distance)
    with pytest.raises(UsageError, match="beyond infinity"):
        ThinLens(2, 50).spread(-0.1)
