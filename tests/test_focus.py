"""What is in focus: the centre, a point, the subject, bands."""

import numpy as np
import pytest
import torch

import argan
from argan.errors import UsageError
from argan.focus import blur_radius, centre_median, disparity_at, focus_band, resolve_focus, resolve_range, subject


def scene(size: int = 90) -> np.ndarray:
    """Ground at 0.2 with a little relief, a subject at 0.7 left of the centre that covers a fifth of it."""
    disparity = 0.2 + 0.02 * np.random.default_rng(0).random((size, size))
    disparity[size // 3 : size // 2, size // 3 : size // 2] = 0.7
    return disparity


def test_subject_is_the_near_thing_about_the_centre() -> None:
    disparity = scene()
    assert subject(disparity) == pytest.approx(0.7, abs=1e-6)
    assert centre_median(disparity) < 0.25  # the ground is more of the centre
    assert resolve_focus("subject", disparity) == pytest.approx(0.7, abs=1e-6)


def test_what_is_near_at_the_frame_is_no_subject() -> None:
    disparity = scene()
    disparity[-6:] = 1.0
    assert subject(disparity) == pytest.approx(0.7, abs=1e-6)


def test_subject_is_sharp_before_others_that_stand_behind_it() -> None:
    """A round subject at 0.8 to 0.9 left of the centre; on the right others at all distances behind it."""
    y, x = np.mgrid[:90, :120]
    disparity = np.where(x > 70, 0.55 + 0.2 * np.random.default_rng(0).random(x.shape), 0.2)
    away = np.hypot(x - 38, y - 40) / 24
    disparity = np.where(away < 1, 0.9 - 0.1 * away**2, disparity)
    assert (np.abs(disparity[away < 1] - subject(disparity)) <= 0.05).mean() > 0.9


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (40, 3)])
def test_subject_of_an_even_picture(size: tuple[int, int]) -> None:
    assert subject(np.full(size, 0.4)) == pytest.approx(0.4)


def test_points() -> None:
    disparity = scene()
    assert disparity_at(disparity, 0.4, 0.4) == pytest.approx(0.7)
    assert disparity_at(disparity, 1, 1) < 0.25


@pytest.mark.parametrize(
    ("asked", "focus", "learned", "found"),
    [
        ("auto", "auto", 0.3, 0.3),
        ("auto", "subject", 0.3, 0.3),
        ("auto", (0.5, 0.5), 0.3, 0.3),
        ("auto", [0.5, 0.5], 0.3, 0.3),
        ("auto", 0.5, 0.3, 0.0),  # a disparity is a plane
        ("auto", np.float32(0.5), 0.3, 0.0),
        ("auto", "auto", None, 0.0),  # a given map
        (0.1, "auto", 0.3, 0.1),
        ((0.1, 0.2), "auto", 0.3, (0.1, 0.2)),
    ],
)
def test_what_is_sharp_unless_told_otherwise(
    asked: object, focus: object, learned: float | None, found: object
) -> None:
    assert resolve_range(asked, focus, learned) == found  # type: ignore[arg-type]


def test_blur_is_a_diameter_in_percent_of_the_long_side() -> None:
    assert 2 * blur_radius(3, 400) == pytest.approx(3 / 100 * 400)


def test_bands() -> None:
    assert focus_band(0.5, 0.2) == pytest.approx((0.4, 0.6))
    assert focus_band(0.5, (0.1, 0.3)) == (0.1, 0.3)
    assert focus_band(0.5, (0.0, 1.0)) == (0, 1)  # everything
    assert focus_band(0.5, (0.3, 0.3)) == (0.3, 0.3)  # a plane
    assert focus_band(1.4, 0.0) == (1.4, 1.4)  # a plane nearer than everything


def test_what_is_no_range() -> None:
    with pytest.raises(UsageError, match="wide"):
        resolve_range("wide", "auto", 0.3)


@pytest.mark.parametrize("around", [-0.1, 1.5, float("nan"), (0.6, 0.4), (-0.1, 0.5), (0.5, 1.1), (0.1, 0.2, 0.3)])
def test_what_is_no_band(around: object) -> None:
    with pytest.raises(UsageError, match="focus range"):
        focus_band(0.5, around)  # type: ignore[arg-type]


def test_what_is_no_focus() -> None:
    with pytest.raises(UsageError, match="near"):
        resolve_focus("near", scene())


def test_a_band_is_sharp_and_the_rest_blurred_from_its_ends() -> None:
    """A ramp: inside the band pixels come back, outside blur is that of the distance to the nearer end."""
    image = torch.rand(3, 24, 120)
    depth = torch.linspace(0, 1, 120).expand(24, 120)
    banded = argan.render(image, blur=8, depth=depth, focus_range=(0.4, 0.6))
    assert (banded - image).abs()[..., 54:66].max() < 1e-4
    assert (banded - image).abs()[..., :30].mean() > 0.05
    wide = argan.render(image, blur=8, depth=depth, focus=0.5, focus_range=0.2)
    torch.testing.assert_close(wide, banded, rtol=0, atol=1e-4)
    narrow = argan.render(image, blur=8, depth=depth, focus=0.5)
    assert (narrow - image).abs()[..., 20:40].mean() > (banded - image).abs()[..., 20:40].mean()


def test_a_band_is_the_plane_of_a_clipped_map() -> None:
    """Blur beyond the band is measured from its end: as if everything inside it lay there."""
    image = torch.rand(3, 30, 40)
    depth = torch.full((30, 40), 0.9)
    banded = argan.render(image, blur=10, depth=depth, focus_range=(0.2, 0.6))
    torch.testing.assert_close(banded, argan.render(image, blur=10, depth=depth, focus=0.6))


def test_a_subject_may_stand_aside() -> None:
    """Small, at a sixth of the width, and in the middle something that is a little before the ground."""
    disparity = np.full((90, 120), 0.2)
    disparity[30:60, 54:66] = 0.3
    disparity[34:46, 15:27] = 0.7
    assert subject(disparity) == pytest.approx(0.7)


def test_a_point_is_as_large_as_the_long_side_says() -> None:
    """Two percent of 400 px: a square of 9, of which most is as near as what is beside the point."""
    disparity = np.zeros((40, 400))
    disparity[:, 196:204] = 0.5
    disparity[20, 200] = 1.0
    assert disparity_at(disparity, 0.5, 0.5) == pytest.approx(0.5)


def test_panoramas_are_looked_at_closely() -> None:
    disparity = np.full((20, 6000), 0.2)
    disparity[8:12, 2995:3005] = 0.9  # what a step by the long side would jump over
    disparity[:, ::23] = 0.2
    assert subject(disparity) == pytest.approx(0.9)
