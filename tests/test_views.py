"""Pictures to judge by: what is coloured, where, and how much."""

import numpy as np
import pytest
from PIL import Image

from argan import views

COC = np.linspace(-8, 4, 120)[None].repeat(40, 0)  # behind on the left, in front on the right


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def test_coc_is_blue_behind_and_orange_in_front() -> None:
    shown = pixels(views.coc_view(np.full(COC.shape, 0.5), COC))[:40]
    red, blue = shown[..., 0], shown[..., 2]
    assert (blue - red)[:, :70].min() > 0
    assert (red - blue)[:, 90:].min() > 0
    sharp = np.abs(COC[0]).argmin()
    assert np.abs(red - blue)[:, sharp].max() < 25
    assert (blue - red)[0, 0] > (blue - red)[0, 40] > (blue - red)[0, 70]


def test_coc_has_a_scale_below() -> None:
    image = views.coc_view(np.full((40, 400), 0.5), np.zeros((40, 400)))
    below = pixels(image)[40:]
    assert image.width == 400 and image.height > 40
    assert below[0, 5, 2] > below[0, 5, 0] and below[0, -5, 0] > below[0, -5, 2]
    assert (below.min(-1) > 200).sum() > 50  # white text


def test_the_scale_says_on_which_side(monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    monkeypatch.setattr(views.ImageDraw.ImageDraw, "text", lambda _self, place, text, *_: said.append((place[0], text)))
    views.coc_view(np.full((40, 400), 0.5), np.full((40, 400), 7.25))
    assert [text for _, text in sorted(said)] == ["7.25 px behind", "sharp", "7.25 px in front"]


def test_sharp_is_less_than_a_pixel() -> None:
    grey = np.full((20, 20, 3), 0.5)
    assert pixels(views.focus_view(grey, np.full((20, 20), 0.7)))[5, 5, 0] == 127
    assert pixels(views.focus_view(grey, np.full((20, 20), -1.0)))[5, 5, 0] < 64


def test_layers_are_cut_half_way_between_radii() -> None:
    shown = pixels(views.layers_view(COC, [-8.0, -4.0, 0.0, 4.0]))[0, :]
    edges = [x for x in range(1, 120) if (shown[x] != shown[x - 1]).any()]
    assert [round(float(COC[0, x]), 0) for x in edges] == [-6, -2, 2]


def test_focus_shows_colour_where_it_is_sharp_and_marks_details() -> None:
    colour = np.zeros((60, 90, 3)) + [0.8, 0.3, 0.2]
    colour[20:40, ::6] = 0.1  # details everywhere
    coc = np.where(np.arange(90) < 45, 0.2, 5.0)[None].repeat(60, 0)
    shown = pixels(views.focus_view(colour, coc))[:60]
    assert (shown[5, 10] == [204, 76, 51]).all()
    assert shown[5, 80].max() - shown[5, 80].min() == 0
    marked = (shown == views.PEAK).all(-1)
    assert marked[20:40, :45].mean() > 0.2
    assert not marked[:, 45:].any()


@pytest.mark.parametrize("size", [(1, 1), (7, 3)])
def test_small_and_even_pictures(size: tuple[int, int]) -> None:
    grey, coc = np.full(size, 0.5), np.zeros(size)
    assert views.coc_view(grey, coc).width == size[1]
    assert views.layers_view(coc, [0.0]).width == size[1]
    assert (
        views.focus_view(
            np.full((max(size[0], 2), max(size[1], 2), 3), 0.5), np.zeros((max(size[0], 2), max(size[1], 2)))
        ).height
        > 0
    )
    assert views.depth_view(coc).size == (size[1], size[0])


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1)])
def test_pictures_one_pixel_wide(size: tuple[int, int]) -> None:
    assert views.focus_view(np.full((*size, 3), 0.5), np.zeros(size)).width >= size[1]
