"""The renderer's export form against `render_bokeh`: the same look, the same conventions, at any size."""

import math

import pytest
import torch
import torch.nn.functional as F

from argan.kernels import render_bokeh
from argan.kernels.bokeh.graph import LARGEST, LEVELS, BokehGraph, enter, leave, radii
from tests.kernels import truth


@pytest.fixture(scope="module")
def lens():
    return BokehGraph().eval()


def through(lens, image, coc):
    with torch.no_grad():
        return leave(lens(enter(image, coc)), like=image)


def scene(height=150, width=210, seed=0):
    """Linear light and disparity: a textured slope, a near disc, a nearer bar, and small bright lights."""
    random = torch.Generator().manual_seed(seed)
    y, x = (
        torch.linspace(0, 1, height)[:, None].expand(height, width),
        torch.linspace(0, 1, width).expand(height, width),
    )
    coarse = torch.rand(1, 3, height // 12 + 1, width // 12 + 1, generator=random)
    image = 0.2 + 0.5 * F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    image = image * (1 + 0.2 * torch.sin(90 * x + 40 * y))
    disparity = 0.4 * y
    for where, d, colour in (
        ((x - 0.4) ** 2 + (y - 0.5) ** 2 < 0.05, 0.7, (0.7, 0.2, 0.1)),
        ((x - 0.75).abs() < 0.04, 0.95, (0.1, 0.3, 0.6)),
    ):
        disparity = torch.where(where, torch.tensor(d), disparity)
        image = torch.where(where, 0.5 * image + 0.5 * torch.tensor(colour)[None, :, None, None], image)
    image = torch.where(torch.rand(1, 1, height, width, generator=random) > 0.9995, 1.0, image)
    return image.clamp(0, 1), disparity[None, None]


@pytest.mark.parametrize(("blur", "focus"), [(0.5, 0.7), (2.0, 0.0), (5.0, 0.7), (10.0, 0.2), (10.0, 1.0), (25.0, 0.5)])
def test_looks_like_the_reference(lens, blur, focus):
    image, disparity = scene()
    radius = blur / 200 * 210
    expected = render_bokeh(image, disparity, radius, focus, impl="reference")
    assert truth.psnr(through(lens, image, radius * (disparity - focus))[0], expected[0]) >= 35


@pytest.mark.parametrize(("radius", "decibels"), [(60, 35.5), (120, 35.5)])
def test_strongly_blurred_things_show_no_stairs(lens, radius, decibels):
    """Filled in no deeper than to cells of 8 pixels, they had 33.0 and 31.3 dB."""
    image, disparity, seen, band = truth.two_planes(radius, focus=0)
    assert truth.psnr(through(lens, image, radius * disparity)[0], seen, band) > decibels


def test_no_blur_changes_nothing(lens):
    image, disparity = scene(61, 83)
    torch.testing.assert_close(through(lens, image, 0 * disparity), image, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("sign", [-1, 1])
def test_more_blur_than_the_largest_is_drawn_as_that(sign):
    """And stays within the range of half precision."""
    image, most = torch.rand(1, 3, 64, 64), torch.full((1, 1, 64, 64), sign * LARGEST)
    scene = enter(image, 100 * most)
    assert torch.equal(scene, enter(image, most))
    assert bool(torch.isfinite(scene.half()).all())


@pytest.mark.parametrize("size", [(16, 16), (16, 131), (65, 64), (97, 131)])
def test_a_constant_stays_constant_at_every_size(lens, size):
    image = torch.full((1, 3, *size), 0.4)
    coc = torch.linspace(-30, 30, size[1]).expand(1, 1, *size)
    torch.testing.assert_close(through(lens, image, coc), image, atol=1e-5, rtol=0)


def test_pictures_of_a_batch_are_independent(lens):
    pairs = [scene(64, 80, seed) for seed in (1, 2)]
    image, disparity = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    both = through(lens, image, 8 * (disparity - 0.5))
    for one, (image, disparity) in zip(both, pairs, strict=True):
        torch.testing.assert_close(through(lens, image, 8 * (disparity - 0.5))[0], one, atol=1e-5, rtol=0)


@pytest.mark.parametrize("radius", [3.5, -3.5, 9.0, -9.0, 24.0, -24.0, 60.0])
def test_a_point_becomes_a_disc_of_its_radius(lens, radius):
    side = 2 * math.ceil(abs(radius)) + 65
    image = torch.zeros(1, 3, side, side)
    image[..., side // 2, side // 2] = 1000
    disc = through(lens, image, torch.full((1, 1, side, side), radius))[0, 0]
    at = torch.arange(side) - side // 2
    total = disc.sum()
    assert total == pytest.approx(1000, rel=2e-3)
    centroid = torch.stack([(disc.sum(1 - axis) * at).sum() for axis in (0, 1)]) / total
    assert centroid.abs().max() < 0.1
    spread = (disc * (at[:, None] ** 2 + at**2)).sum() / total  # r^2 / 2 for a disc
    assert math.sqrt(2 * spread) == pytest.approx(abs(radius), rel=0.03)


def test_nothing_is_negative(lens):
    image, disparity = scene(seed=3)
    assert through(lens, image, 40 * (disparity - 0.3)).min() >= 0


def test_slabs_go_on_ascending_from_level_to_level():
    ascending = [r for level in range(LEVELS) for r in radii(level)]
    assert ascending == sorted(ascending)
    assert ascending[-1] == LARGEST
