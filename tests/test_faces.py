"""Focus on a face, on the photograph that scikit-image brings along: an astronaut."""

import sys

import numpy as np
import pytest
import torch

import argan
from argan.errors import MissingError
from argan.faces import SIDE, at_face, largest_face, small_grey

data = pytest.importorskip("skimage.data", reason="the extra faces")


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    """(512, 512, 3); the face is left of the middle, in the upper half."""
    return data.astronaut()


KINDS = {
    "bytes": lambda x: x,
    "16 bits": lambda x: x.astype(np.uint16) * 257,
    "floats": lambda x: x.astype(np.float32) / 255,
    "half floats": lambda x: (x / 255).astype(np.float16),
    "grey": lambda x: x[:, :, 1:2],
    "grey and alpha": lambda x: np.dstack([x[:, :, 1], np.zeros_like(x[:, :, 0])]),
    "alpha": lambda x: np.dstack([x, np.zeros_like(x[:, :, 0])]),
    "large": lambda x: x.repeat(5, 0).repeat(5, 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_face_is_found_in_pixels_of_any_kind(astronaut: np.ndarray, kind: str) -> None:
    assert largest_face(KINDS[kind](astronaut)) == pytest.approx((0.44, 0.23), abs=0.03)


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (23, 23), (300, 200)])
def test_no_face(size: tuple[int, int]) -> None:
    ramp = np.linspace(0, 255, size[0] * size[1]).reshape(*size, 1).astype(np.uint8)
    assert largest_face(ramp) is None
    assert at_face("face", ramp) == "subject"


@pytest.mark.parametrize("focus", ["auto", "subject", 0.3, (0.1, 0.9)])
def test_another_focus_stays_as_it_is(focus: argan.focus.Focus) -> None:
    assert at_face(focus, np.zeros((40, 40, 3), np.uint8)) == focus


def test_what_is_looked_at_is_small() -> None:
    assert small_grey(np.full((3000, 4000, 3), 65535, np.uint16)).shape == (SIDE * 3 // 4, SIDE)
    assert small_grey(np.full((30, 40, 4), 200, np.uint8)).tolist() == [[200] * 40] * 30


@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_render(astronaut: np.ndarray, kind: str) -> None:
    """The face's depth is in focus and stays as it is, the rest is blurred."""
    photo = astronaut[:240, 80:400]
    x, y = largest_face(photo)
    depth = np.full(photo.shape[:2], 0.2, np.float32)
    face = np.s_[int(y * 240) - 15 : int(y * 240) + 15, int(x * 320) - 15 : int(x * 320) + 15]
    depth[face] = 0.8
    image = photo if kind == "array" else torch.from_numpy(photo).permute(2, 0, 1)
    given = depth if kind == "array" else torch.from_numpy(depth)
    rendered = argan.render(image, depth=given, focus="face", blur=6)
    pixels = rendered if kind == "array" else rendered.permute(1, 2, 0).numpy()
    inside = np.s_[face[0].start + 8 : face[0].stop - 8, face[1].start + 8 : face[1].stop - 8]
    assert np.array_equal(pixels[inside], photo[inside])
    assert np.abs(pixels[:, :60].astype(int) - photo[:, :60]).mean() > 3


def test_without_scikit_image(monkeypatch: pytest.MonkeyPatch, astronaut: np.ndarray) -> None:
    from argan import faces

    faces._cascade.cache_clear()
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    with pytest.raises(MissingError, match="scikit-image") as caught:
        largest_face(astronaut)
    assert "argan[faces]" in caught.value.hint
