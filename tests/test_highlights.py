"""Lamps that a photo cut off at white: bright discs where they are out of focus, and nothing else changes."""

import numpy as np
import pytest
import torch

import argan
from argan import highlights
from argan.errors import UsageError
from argan.highlights import Lamps
from argan.kernels.bokeh.areas import Area
from argan.light import to_linear

SIDE = 240  # px, with a background at disparity 0 and a subject at 1 in its right half


def night(*lamps, side=SIDE, size=3, colour=(255, 255, 255)):
    """A dark photo with square lamps of `size` px at these places, (y, x)."""
    photo = np.full((side, side, 3), 12, np.uint8)
    for y, x in lamps:
        photo[y : y + size, x : x + size] = colour
    return photo


def depth(side=SIDE):
    return np.repeat((np.arange(side) >= side // 2)[None], side, 0).astype(np.float32)


def rendered(photo, **options):
    return argan.render(photo, depth=depth(len(photo)), focus=1.0, blur=10, grain=0, **options)


def light(picture):
    return to_linear(torch.from_numpy(picture)).clamp(max=1).sum().item()


@pytest.mark.parametrize(("colour", "sure"), [((255, 255, 255), 1), ((255, 230, 160), 1), ((255, 20, 20), 0.35)])
def test_a_lamp_out_of_focus_is_as_many_times_brighter(colour, sure):
    photo = night((100, 40), colour=colour).astype(np.float32) / 255
    plain, bright = (to_linear(torch.from_numpy(rendered(photo, highlights=n))) for n in (1, 11))
    dark = to_linear(torch.tensor(12 / 255))
    ratio = float((bright - dark).clamp(min=0).sum() / (plain - dark).clamp(min=0).sum())
    assert ratio == pytest.approx(1 + 10 * sure, rel=0.05)


def test_a_lamps_disc_is_flat_and_as_wide_as_the_blur():
    picture = rendered(night((100, 40), size=2), highlights=150)
    row = to_linear(torch.from_numpy(picture[101, :80, 0]))
    inside = row[33:50]
    assert 0.3 < inside.min() <= inside.max() < 1.05 * inside.min()
    assert int((row > inside.mean() / 2).sum()) == pytest.approx(24, abs=2)  # blur 10: a tenth of 240 px


def test_what_is_sharp_and_what_is_white_over_more_of_the_picture_stays():
    photo = night((100, 150), (30, 150))
    photo[31:33, 151:153] = 248  # which might have been cut off
    photo[120:180, 20:80] = 255  # a wall of light
    assert np.array_equal(rendered(photo, highlights=50), rendered(photo))
    white = np.full((60, 60, 3), 255, np.uint8)
    assert np.array_equal(rendered(white, highlights=50), white)
    assert np.array_equal(rendered(night((100, 40))), rendered(night((100, 40)), highlights=1))


def test_lights_that_were_not_cut_off_stay():
    photo = night((100, 40), colour=(235, 235, 235))
    assert np.array_equal(rendered(photo, highlights=50), rendered(photo))


def test_photos_of_all_kinds_have_the_same_lamps():
    photo = night((100, 40), (60, 70))
    expected = rendered(photo, highlights=20).astype(int)
    assert expected[:, :100].max() > 150
    opaque = np.concatenate([photo, np.full((SIDE, SIDE, 1), 255, np.uint8)], 2)
    assert np.abs(rendered(opaque, highlights=20)[..., :3] - expected).max() <= 1
    transparent = opaque.copy()
    transparent[150:, :, 3] = 0  # far from the lamps
    assert np.abs(rendered(transparent, highlights=20)[:130, ..., :3] - expected[:130]).max() <= 1
    deep = rendered(photo.astype(np.uint16) * 257, highlights=20)
    assert np.abs(deep / 257 - expected).max() <= 1
    floats = rendered(photo.astype(np.float32) / 255, highlights=20)
    assert np.abs(255 * floats.clip(0, 1) - expected).max() <= 1.01
    grey = rendered(photo[..., 0], highlights=20)
    assert np.abs(grey - expected[..., 0]).max() <= 1


def test_twice_the_photo_has_the_same_lamps():
    photo = night((100, 40), (60, 71))
    small = rendered(photo.astype(np.float32) / 255, highlights=20)
    large = rendered(photo.repeat(2, 0).repeat(2, 1).astype(np.float32) / 255, highlights=20)
    back = large.reshape(SIDE, 2, SIDE, 2, 3).mean((1, 3))
    error = np.square(small.clip(0, 1) - back.clip(0, 1))[8:-8, 8:110].mean()
    assert -10 * np.log10(error) > 40


@pytest.mark.parametrize("kind", ["integers", "floats"])
def test_a_lamp_does_not_go_on_behind_what_is_beside_it(kind):
    """Half of its disc is hidden there."""
    shining = []
    for photo in (night((100, 60)), night((100, 117))):
        photo = photo if kind == "integers" else photo.astype(np.float32) / 255
        shining.append(light(rendered(photo, highlights=20)) - light(rendered(photo)))
    assert shining[1] == pytest.approx(shining[0] / 2, rel=0.3)


def test_a_photo_is_looked_at_once_in_strips():
    strips = []

    def light(area):
        strips.append(area)
        return torch.zeros(1, 3, *area.size)

    lamps = Lamps(light, Area(0, 300, 0, 200), 5)
    assert [strip.top for strip in strips] == [0] + [strip.bottom for strip in strips[:-1]]
    assert strips[-1].bottom == 300
    assert max(strip.bottom - strip.top for strip in strips) <= highlights.STRIP * lamps.cell < 300


def test_lamps_shine_to_the_last_pixel_of_a_picture_that_is_not_of_whole_cells():
    picture, whole = torch.zeros(1, 3, 301, 601), Area(0, 301, 0, 601)
    picture[..., -1, -1] = 1
    lamps = Lamps(lambda area: picture[..., area.top : area.bottom, area.left : area.right], whole, 5)
    assert lamps.cell == 2
    torch.testing.assert_close(lamps.lit(picture, torch.full((1, 1, 301, 601), -9.0), whole), 5 * picture)


def test_lamps_are_where_they_are_in_every_tile():
    photo = np.full((1400, 80, 3), 12, np.uint8)
    for top in range(20, 1300, 160):
        photo[top : top + 6, 30:36] = 255
    photo[1330:1370, 20:60] = 255  # a wall of light
    options = {"focus": 1.0, "blur": 1, "grain": 0, "highlights": 10}
    upright = argan.render(photo, depth=np.zeros((1400, 80), np.float32), **options)
    lying = argan.render(photo.swapaxes(0, 1).copy(), depth=np.zeros((80, 1400), np.float32), **options)
    floats = argan.render(photo.astype(np.float32) / 255, depth=np.zeros((1400, 80), np.float32), **options)
    assert np.abs(upright.astype(int) - lying.swapaxes(0, 1)).max() <= 1
    assert np.abs(upright - 255 * floats.clip(0, 1)).max() <= 1.01
    assert upright[23, 33].min() > 200
    plain = argan.render(photo, depth=np.zeros((1400, 80), np.float32), **options | {"highlights": 1})
    assert np.array_equal(upright[1312:], plain[1312:])


def test_how_small_a_light_is_does_not_depend_on_what_is_looked_at_together(monkeypatch):
    light = (torch.rand(1, 3, 700, 90, generator=torch.Generator().manual_seed(0)) > 0.8).float()
    light[..., 300:360, 20:70] = 1  # a wall of light
    whole, strips = [], []
    for rows, found in ((64, whole), (7, strips)):
        monkeypatch.setattr(highlights, "STRIP", rows)
        found.append(Lamps(lambda area: light[area.index()], Area.of(light), 5).smallness)
    assert whole[0].unique().numel() > 10
    torch.testing.assert_close(whole[0], strips[0])


def test_gradients_flow_through_lamps():
    photo = torch.from_numpy(night((100, 40))).permute(2, 0, 1)[:, 60:140, :80].double() / 255
    photo.requires_grad_()
    picture = argan.render(photo, depth=np.zeros((80, 80), np.float32), focus=1.0, blur=10, highlights=5)
    picture.sum().backward()
    assert photo.grad.isfinite().all()
    assert photo.grad[:, 40, 41].min() > photo.grad[:, 10, 10].max()


@pytest.mark.parametrize("highlights", [0, 0.5, 1001, float("nan")])
def test_brightness_that_is_none_is_refused(highlights):
    with pytest.raises(UsageError, match="highlights"):
        rendered(night(), highlights=highlights)
