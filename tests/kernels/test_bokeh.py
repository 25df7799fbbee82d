"""The photo renderer: its physics, its gradients, its back ends, and a thin lens's true pictures to compare with."""

import builtins
import copy
import math
from dataclasses import replace
from importlib import import_module
from threading import Event, Thread

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis.strategies import floats, integers
from torch import Tensor

from argan.kernels import BackendUnavailable, backend, render_bokeh, resolve
from argan.kernels.bokeh import APERTURES, Aperture, aperture_kernel, areas, develop_bokeh, reference, regions
from argan.kernels.bokeh.areas import Area, halved, largest_around
from argan.kernels.bokeh.backdrop import backdrop, backdrop_in, farthest_between
from argan.kernels.bokeh.layers import Composite, Sheets, farther, occurrences
from argan.kernels.bokeh.plan import OWN, Plan
from argan.kernels.bokeh.regions import render_tiles
from tests.kernels import truth

LENS = Aperture()


def picture(height: int, width: int, batch: int = 1, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """A colourful picture and a disparity with steps and slopes."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    image = torch.rand(batch, 3, height, width, dtype=dtype)
    figure = (torch.hypot(x - 0.1, y) < 0.5).to(dtype)
    disparity = 0.25 + 0.15 * y + figure * (0.5 - 0.1 * x)
    return image, disparity.to(dtype).expand(batch, 1, height, width)


def in_tiles(image: Tensor | regions.Light, coc: Tensor, tile: int, develop: regions.Develop | None = None) -> Tensor:
    """Rendered by the reference in tiles of this side, whole cells."""
    return render_tiles(image, coc, Plan.of(coc, LENS), reference.STEPS, tile, develop)


def point(radius: float, size: int, **options) -> Tensor:
    """The image of a point light in the middle, on one plane with blur radius `radius` (behind the focal plane)."""
    image = torch.zeros(1, 3, size, size, dtype=torch.float64)
    image[..., size // 2, size // 2] = 1
    return render_bokeh(image, torch.zeros(1, 1, size, size, dtype=torch.float64), radius, 1.0, **options)[0, 0]


# Physics ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [0.3, 3, 11, 30])
@pytest.mark.parametrize("focus", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("brightness", "within"), [(1, 1e-6), (5, 1e-5)])
def test_a_constant_picture_stays_constant(radius, focus, brightness, within):
    _, disparity = picture(90, 77)
    color = brightness * torch.tensor([0.3, 0.7, 0.9]).view(1, 3, 1, 1).expand(1, 3, 90, 77)
    torch.testing.assert_close(render_bokeh(color, disparity, radius, focus), color, rtol=0, atol=within)
    color, disparity = color.double(), disparity.double()
    torch.testing.assert_close(render_bokeh(color, disparity, radius, focus), color, rtol=1e-12, atol=0)


def test_no_blur_returns_the_pixels():
    image, disparity = picture(37, 50)
    assert torch.equal(render_bokeh(image, disparity, 0.0, 0.3), image)
    assert torch.equal(render_bokeh(image, torch.full_like(disparity, 0.3), 20.0, 0.3), image)


def test_what_is_in_focus_and_far_from_blur_keeps_its_pixels():
    image, _ = picture(80, 160)
    disparity = torch.zeros(1, 1, 80, 160)
    disparity[..., 80:] = 1
    for focus, sharp in ((0.0, slice(0, 80 - 12)), (1.0, slice(82, 160))):
        out = render_bokeh(image, disparity, 10.0, focus)
        assert torch.equal(out[..., sharp], image[..., sharp])


@pytest.mark.parametrize("radius", [1.5, 7, 12, 12.3, 26])
def test_light_is_kept(radius):
    spot = point(radius, 141)
    assert float(spot.sum()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("focus", [0.0, 1.0])
@pytest.mark.parametrize("radius", [5.0, 20.0])
def test_light_before_another_surface_is_kept(radius, focus):
    """Of a white square before black, blurred, or the black behind it."""
    side, around = int(5 * radius), int(2 * radius) + 60
    image = F.pad(torch.ones(1, 3, side, side), (around,) * 4)
    blurred = render_bokeh(image, image[:, :1].contiguous(), radius, focus)
    assert float(blurred.sum() / image.sum()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("square", "ground"),
    [
        *((-5, -11), (-10, -20), (-18, -23), (-20, -30), (-60, -90)),
        *((0, -60), (20, -20), (60, -60)),
        *((10, 5), (15, 12), (20, 15), (30, 20), (30, 0), (60, 20), (60, 0), (100, 0)),
    ],
)
def test_light_of_two_blurred_surfaces_is_kept(square, ground):
    """Wherever the square lies among the cells that are filled in."""
    for aside in (0, 3):
        assert light_of_square(60, aside, square, ground) == pytest.approx(1, abs=1e-3)


@given(near=floats(-40, 80), apart=floats(2, 80), side=integers(8, 100), aside=integers(0, 63))
@example(near=12.375, apart=37, side=28, aside=0)  # what is moved would be more than opaque
@example(near=30, apart=24, side=100, aside=24)  # the backdrop of a wide thing would be in part the thing itself
@settings(max_examples=20, derandomize=True, database=None)
def test_light_of_any_two_surfaces_is_kept(near, apart, side, aside):
    """Unless they share a slab, or the nearer one lies where slabs of the photo end and those of its half begin."""
    far = near - apart - 0.2 * abs(near)
    assert light_of_square(side, aside, near, far) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("square", "ground"), [(48, 46.1), (-46.1, -48), (96, 92.2), (-92.2, -96)])
@pytest.mark.parametrize("side", [3, 5, 10])
def test_light_of_small_things_is_kept_where_one_size_ends_and_the_next_begins(side, square, ground):
    """They lie too close to the ground to be taken apart there: up to a third of their light was missing, or new."""
    assert light_of_square(side, 4, square, ground) == pytest.approx(1, abs=3e-3)


def light_of_square(side: int, aside: int, square: float, ground: float) -> float:
    """What light there is of a white square before black, rendered with these blur radii, of what there was."""
    around = 2 * math.ceil(max(abs(square), abs(ground))) + 40
    image = F.pad(torch.ones(1, 3, side, side), (around + aside, around, around + aside, around))
    coc = torch.where(image[:, :1] > 0, float(square), float(ground))
    return float(render_bokeh(image, coc, 1.0).sum() / image.sum())


@pytest.mark.parametrize("radius", [2.5, 3, 4.4, 7.7, 11.99, 12, 12.3, 17.5, 23.9, 24.1, 31, 47.9, 48.1, 64.2, 80])
def test_a_point_becomes_a_centred_disc_of_the_right_radius(radius):
    size = 2 * math.ceil(1.3 * radius) + 13
    spot = point(radius, size)
    at = torch.arange(size, dtype=torch.float64) - size // 2
    x, y = (spot.sum(0) @ at, spot.sum(1) @ at)
    assert max(abs(float(x)), abs(float(y))) < 0.1
    moment = float((spot * (at[:, None] ** 2 + at[None] ** 2)).sum())  # r^2 / 2 for a disc
    assert math.sqrt(2 * moment) == pytest.approx(radius, abs=0.1)


@pytest.mark.parametrize("radius", [1.3, 2.4, 5.45, 9.7])
def test_what_is_blurred_most_shows_one_disc(radius):
    """No mixture of a smaller and a larger one. Up to 3 % of the radius, by which plans are rounded up."""
    spot = point(radius, 41)
    n = 20 - len(kernel := aperture_kernel("disk", -radius)) // 2
    assert float((spot[n : 41 - n, n : 41 - n] - kernel).abs().sum()) < 0.07


def test_a_disc_is_flat_and_has_an_edge():
    spot = point(20, 61)
    y, x = torch.meshgrid(*[torch.arange(61.0) - 30] * 2, indexing="ij")
    distance = torch.hypot(x, y)
    inside, outside = spot[distance < 16], spot[distance > 25]
    assert float(inside.std() / inside.mean()) < 0.02
    assert float(inside.mean()) == pytest.approx(1 / (math.pi * 20**2), rel=0.05)
    assert float(outside.max()) < 0.01 * float(inside.mean())


@pytest.mark.parametrize("aperture", ["disk", "hexagon"])
def test_twice_the_photo_is_the_same_picture(aperture):
    scene = truth.scenes()[2]
    image, disparity = scene.all_in_focus()
    image = image.clamp(max=1)
    large = [torch.repeat_interleave(torch.repeat_interleave(x, 2, -1), 2, -2) for x in (image, disparity)]
    small = render_bokeh(image, disparity, truth.RADIUS, 0.3, aperture=aperture)
    back = halved(render_bokeh(*large, 2 * truth.RADIUS, 0.3, aperture=aperture), 1)
    assert truth.psnr(truth.crop(small)[0], truth.crop(back)[0]) > 40


def test_four_times_as_many_pixels_show_the_same_picture():
    with truth.enlarged(2):
        scene = truth.scenes()[9]  # slopes: whose nearest surface is known in the smaller picture's pixels, too
        image, disparity = scene.all_in_focus()
    less = F.pixel_unshuffle(disparity, 2).sort(1).values[:, 1:2]
    small = render_bokeh(halved(image, 1), less, truth.RADIUS, 0.5)
    back = halved(render_bokeh(image, disparity, 2 * truth.RADIUS, 0.5), 1)
    assert truth.psnr(truth.crop(small)[0], truth.crop(back)[0]) > 50


def test_no_light_is_negative():
    for scene in truth.scenes()[:3]:
        image, disparity = scene.all_in_focus()
        for focus in scene.focus.values():
            assert float(render_bokeh(image, disparity, truth.RADIUS, focus).min()) >= 0


@pytest.mark.parametrize("impl", ["reference", "numba"])
@pytest.mark.parametrize("radius", [3, 11, 30, 90])
def test_what_is_below_black_stays_as_it_is(impl, radius):
    """A constant picture of it, and with depth edges, on both sides of the focal plane."""
    _, disparity = picture(90, 77)
    color = torch.tensor([-0.5, 0.3, -0.01]).view(1, 3, 1, 1).expand(1, 3, 90, 77)
    torch.testing.assert_close(render_bokeh(color, disparity, radius, 0.4, impl=impl), color, rtol=0, atol=1e-6)


def test_mixed_pixels_are_taken_apart():
    """A line two pixels wide, half-covered pixels on either side: both surfaces get their own colour."""
    share = torch.zeros(1, 1, 21, 21)
    share[..., 9:13] = torch.tensor([0.5, 1, 1, 0.5])
    near, far = (torch.tensor(c).view(1, 3, 1, 1) for c in ([0.8, 0.3, 0.1], [0.1, 0.2, 0.4]))
    image, coc = share * near + (1 - share) * far, 6 * (share > 0.6).float()
    sheets = reference.unmix(image, coc.expand(-1, 4, -1, -1), Plan.of(coc, LENS))
    torch.testing.assert_close(sheets.near[0, 3, 10, 9:13], torch.tensor([0.5, 1, 1, 0.5]), rtol=0, atol=0.1)
    whole = sheets.near[:, :3].sum((-1, -2)) + sheets.far[:3].sum(1)
    torch.testing.assert_close(whole, image.sum((-1, -2)))
    of_near = sheets.weighted(lambda place: (place > 3).float(), Area.of(image))[0, :, 10, 7:15].sum(1)
    torch.testing.assert_close(of_near[:3] / of_near[3], near.flatten(), rtol=0, atol=0.05)


def test_mixed_pixels_are_taken_apart_a_few_at_a_time(monkeypatch):
    """As all at once, and no more of them at a time than is allowed."""
    image, disparity = picture(40, 50)
    coc, many = 6 * disparity, []

    def sheets():
        return reference.unmix(image, coc.expand(-1, 4, -1, -1), Plan.of(coc, LENS))

    whole, two_colours = sheets(), reference.two_colours
    monkeypatch.setattr(reference, "two_colours", lambda *x: many.append(x[0].shape[1]) or two_colours(*x))
    monkeypatch.setattr(reference, "AT_ONCE", 7)
    few = sheets()
    assert max(many) == 7 and sum(many) == 2 * len(whole.rows) > 100
    for name in ("near", "place", "far", "far_place", "rows", "columns"):
        assert torch.equal(getattr(few, name), getattr(whole, name)), name


@pytest.mark.parametrize("end", [slice(0, 32), slice(32, 64)])
def test_slabs_hold_nothing_beyond_where_they_occur(end):
    """What is far in mixed pixels, too, where a depth edge lies between two cells."""
    image, coc = torch.rand(1, 3, 24, 64), torch.zeros(1, 1, 24, 64)
    coc[..., end] = 6
    plan = Plan.of(coc, LENS)
    assert 32 % plan.cell == 0
    sheets = reference.unmix(image, coc.expand(-1, 4, -1, -1), plan)
    for k, (seen, _) in enumerate(occurrences(sheets, plan)):
        held = reference.weigh(sheets, "seen", k, Area.of(coc), 0)
        if seen is not None:
            held[seen.index()] = 0
        assert not bool(held.any())


def test_the_frame_edge_is_extended():
    """A picture of stripes across the edge looks the same at the edge as far from it."""
    image = torch.rand(1, 3, 1, 90).expand(1, 3, 60, 90)
    out = render_bokeh(image, torch.zeros(1, 1, 60, 90), 9.0, 1.0)
    torch.testing.assert_close(out, out[..., 30:31, :].expand_as(out), rtol=0, atol=1e-5)


def test_a_slanted_surface_stays_opaque():
    """Nothing behind it shines through, however many slabs it runs through."""
    for slope in (0.5, 2.0):  # blur radius over the width of the picture: up to 0.4 pixels a pixel
        disparity = torch.linspace(-slope / 2, slope / 2, 200).expand(1, 1, 80, 200).clone()
        image = torch.full((1, 3, 80, 200), 0.25)
        disparity[..., :20, :] = -slope
        image[..., :20, :] = 4.0  # a bright wall behind, far from the rows that are looked at
        out = render_bokeh(image, disparity, 40 / slope, 0.0)
        torch.testing.assert_close(out[..., 75:, 30:170], image[..., 75:, 30:170], rtol=0.01, atol=0)


def test_nothing_shines_through_a_slanted_surface_from_farther_away_than_its_blur():
    """A bright wall behind, blurred by 80 pixels and 180 pixels away; the surface is blurred by 40 at its ends."""
    disparity = torch.linspace(-0.5, 0.5, 400).expand(1, 1, 240, 400).clone()
    image = torch.full((1, 3, 240, 400), 0.25)
    disparity[..., :20, :], image[..., :20, :] = -1, 4.0
    out = render_bokeh(image, disparity, 80.0, 0.0)
    torch.testing.assert_close(out[..., 200:, 60:340], image[..., 200:, 60:340], rtol=0.01, atol=0)


def test_nearer_blur_covers_and_farther_blur_does_not():
    """Black in front of white: in focus it is black up to its edge; out of focus its edge is soft on both sides."""
    image = torch.ones(1, 3, 64, 120)
    image[..., 60:] = 0
    disparity = (1 - image[:, :1]).clone()
    sharp = render_bokeh(image, disparity, 8.0, 1.0)[0, 0, 32]
    assert float(sharp[60:].max()) < 1e-4
    assert float(sharp[:58].min()) > 0.999
    soft = render_bokeh(image, disparity, 8.0, 0.0)[0, 0, 32]
    assert 0.05 < float(soft[64]) < 0.45
    assert 0.55 < float(soft[55]) < 0.95
    assert float(soft[60]) == pytest.approx(0.5, abs=0.08)
    assert float(soft[:48].min()) > 0.999
    assert float(soft[72:].max()) < 1e-3


@pytest.mark.parametrize("turned", [lambda x: x.mT, lambda x: x.flip(-1), lambda x: x.flip(-2)])
def test_a_picture_on_its_side_or_in_a_mirror_is_blurred_as_it_is_upright(turned):
    """Things on both sides of the focal plane, at several levels; whole cells of the backdrop, which begin top left."""
    image, disparity = picture(128, 192)
    disparity = disparity + 0.5 * (torch.arange(192) > 60) * (torch.arange(128)[:, None] > 50)
    out, other = (render_bokeh(f(image), f(disparity), 30.0, 0.5) for f in (lambda x: x, turned))
    torch.testing.assert_close(turned(out), other, rtol=0, atol=2e-5)


@pytest.mark.parametrize("over", [reference.over, pytest.param("numba", id="numba")])
def test_layers_with_an_empty_slab_between_are_independent(over):
    """Neighbours hold parts of one surface and block different rays; the next but one gets half of what passes."""
    if over == "numba":
        from argan.kernels.bokeh.numba import over
    front, layer, area = Composite(torch.zeros(1, 1, 4, 8)), torch.full((1, 4, 4, 8), 0.5), Area(0, 4, 0, 8)
    over(front, layer, 2.0, area)
    both = copy.deepcopy(front)
    over(both, layer, 1.0, area)
    front.add_nothing()
    over(front, layer, 0.0, area)
    torch.testing.assert_close(both.through, torch.zeros(1, 1, 4, 8), rtol=0, atol=1e-6)
    torch.testing.assert_close(front.through, torch.full((1, 1, 4, 8), 0.25))


def test_what_lies_behind_two_groups_is_seen_past_both():
    front, groups = Composite(torch.zeros(1, 1, 16, 20)), [composite(16, 20, 0, 1, "cpu") for _ in range(2)]
    for group in groups:
        front.add_group(group, reference.behind)
    torch.testing.assert_close(front.middle, groups[0].passing() + groups[1].passing())


def test_what_is_missing_is_what_lies_farthest():
    """All of it, so that no light passes any more."""
    front = Composite(torch.zeros(1, 1, 16, 16))
    front.rgba, front.through = torch.full((1, 4, 16, 16), 0.25), torch.full((1, 1, 16, 16), 0.75)
    front.farthest = torch.tensor([0.5, 0, 0, 1, -3]).view(1, 5, 1, 1).expand(-1, -1, 4, 4)
    front.add_group(front.beyond(None), reference.behind)
    torch.testing.assert_close(front.rgba[0, :, 5, 5], torch.tensor([0.625, 0.25, 0.25, 1]))
    assert float(front.through.abs().max()) < 1e-6


# Apertures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aperture", APERTURES)
@pytest.mark.parametrize("radius", [0.4, 1, 3.3, 20])
def test_kernels_are_normalised_and_have_the_disc_s_area(aperture, radius):
    kernel = aperture_kernel(aperture, radius)
    assert kernel.shape[0] == kernel.shape[1]
    assert kernel.shape[0] % 2 == 1
    assert float(kernel.sum()) == pytest.approx(1)
    assert float(kernel.min()) >= 0
    if radius > 10:
        assert 1 / float(kernel.max()) == pytest.approx(math.pi * radius**2, rel=0.03)


def test_an_aperture_stands_upright_behind_and_upside_down_in_front():
    mask = torch.zeros(9, 9)
    mask[:4, :4] = 1  # upper left
    image = torch.zeros(1, 3, 41, 41)
    image[..., 20, 20] = 1
    plane = torch.zeros(1, 1, 41, 41)
    behind, before = (render_bokeh(image, plane, 9.0, f, aperture=mask)[0, 0] for f in (1.0, -1.0))
    assert float(behind[:20, :20].sum()) > 0.9
    assert float(before[21:, 21:].sum()) > 0.9
    torch.testing.assert_close(behind, before.flip(0, 1))


def test_an_image_of_a_disc_is_the_disc():
    y, x = torch.meshgrid(*[torch.arange(200) - 99.5] * 2, indexing="ij")
    mask = (torch.hypot(x, y) < 100).float()
    image, disparity = truth.scenes()[0].all_in_focus()
    options = [render_bokeh(image, disparity, 9.0, 0.9, aperture=a) for a in ("disk", mask)]
    assert truth.psnr(options[0][0], options[1][0]) > 45


# Cat's eyes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [3, 30])
def test_cat_s_eyes_keep_a_constant_picture(radius):
    _, disparity = picture(50, 67)
    color = torch.tensor([0.3, 0.7, 0.9]).view(1, 3, 1, 1).expand(1, 3, 50, 67)
    out = render_bokeh(color, disparity, radius, 0.4, aperture=Aperture(cat_eye=1))
    torch.testing.assert_close(out, color, rtol=0, atol=1e-6)


def test_cat_s_eyes_are_the_rays_that_pass():
    """In the corners, where the truth without cat's eyes is 30 dB away."""
    scene = truth.scenes()[0]
    image, disparity = scene.all_in_focus()
    out = render_bokeh(image, disparity, truth.RADIUS, scene.focus["near"], aperture=Aperture(cat_eye=1))
    away = torch.linspace(-1, 1, truth.SIZE)
    seen = truth.photograph(scene, scene.focus["near"], 400, cat_eye=1)
    assert truth.psnr(truth.crop(out)[0], seen, torch.hypot(away[:, None], away) > 0.8) > 50


def test_cat_s_eyes_have_no_seams():
    image, disparity = picture(150, 190)
    plan = Plan.of(14 * (disparity - 0.4), Aperture("hexagon", cat_eye=0.8))
    whole, tiles = (render_tiles(image, 14 * (disparity - 0.4), plan, reference.STEPS, tile) for tile in (256, 64))
    torch.testing.assert_close(tiles, whole, rtol=0, atol=1e-5)


def test_cat_s_eyes_of_tiles_are_those_of_the_picture():
    """In tiles so far from its left edge that what they depend on does not begin there."""
    image, coc = torch.rand(1, 3, 60, 640), torch.full((1, 1, 60, 640), -6.0)
    plan = Plan.of(coc, Aperture(cat_eye=1))
    assert 512 - plan.margin > 0
    whole, tiles = (render_tiles(image, coc, plan, reference.STEPS, tile) for tile in (640, 128))
    torch.testing.assert_close(tiles, whole, rtol=0, atol=1e-5)


def test_gradients_of_cat_s_eyes():
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(1, 3, 6, 7, generator=generator, dtype=torch.float64)
    disparity = 0.2 + 0.5 * torch.rand(1, 1, 6, 7, generator=generator, dtype=torch.float64)
    inputs = [x.double().requires_grad_() for x in (image, disparity, torch.tensor(2.3), torch.tensor(0.41))]
    lens = Aperture(cat_eye=0.9)
    assert torch.autograd.gradcheck(
        lambda *x: render_bokeh(*x, aperture=lens), inputs, eps=1e-7, atol=1e-4, rtol=1e-3, fast_mode=True
    )


@pytest.mark.triton
def test_triton_spreads_by_the_kernels_of_blocks(device, poisoned_memory):
    """Two rows of three blocks of 8 x 8 pixels, one of them not visible: values and gradients."""
    from argan.kernels.bokeh import triton

    kernels = torch.rand(2, 3, 5, 5, dtype=torch.float64, device=device)
    kernels[..., 0, :3] = kernels[..., 4, :] = 0
    layer = torch.rand(1, 4, 16 + 4, 24 + 4, dtype=torch.float64, device=device).requires_grad_()
    visible = torch.ones(1, 1, 16, 24, device=device)
    visible[..., :8, 8:16] = 0
    area = Area(2, 18, 2, 26)
    both = reference.STEPS, triton.steps(torch.float64)
    expected, out = (steps.spread(layer, area, visible, kernels) for steps in both)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    weights = torch.rand_like(expected) * visible
    grads = [torch.autograd.grad((x * weights).sum(), layer)[0] for x in (expected, out)]
    torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=1e-12)


# The truth ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scores() -> dict[tuple[str, str], list[float]]:
    """PSNR around depth edges by (renderer, focus), a value a scene."""
    renderers = {
        "argan": lambda image, disparity, focus: render_bokeh(image, disparity, truth.RADIUS, focus),
        "gather": lambda *scene: truth.light_field_gather(*scene, samples=128),
        "layers": truth.nearest_fill_layers,
    }
    table: dict[tuple[str, str], list[float]] = {}
    for scene in truth.scenes():
        image, disparity = scene.all_in_focus()
        for name, focus in scene.focus.items():
            seen, band = truth.photograph(scene, focus, 256), scene.edge_band(focus)
            for who, render in renderers.items():
                rendered = truth.crop(render(image, disparity, focus))[0]
                table.setdefault((who, name), []).append(truth.psnr(rendered, seen, band))
    return table


@pytest.mark.parametrize(("focus", "margin"), [("near", 9), ("far", 13), ("between", 6)])
def test_edges_are_nearer_to_the_truth_than_a_gather_s(scores, focus, margin):
    ours, theirs = (sum(scores[who, focus]) / len(scores[who, focus]) for who in ("argan", "gather"))
    assert ours > theirs + margin, (ours, theirs)


@pytest.mark.parametrize("focus", ["near", "far", "between"])
def test_edges_are_nearer_to_the_truth_than_nearest_fill_layers(scores, focus):
    ours, theirs = (sum(scores[who, focus]) / len(scores[who, focus]) for who in ("argan", "layers"))
    assert ours > theirs + 2, (ours, theirs)


@pytest.mark.parametrize(
    ("radius", "focus", "decibels"), [(15, 0, 33.5), (30, 0, 36.3), (60, 0, 36.7), (60, 0.5, 43.7), (60, 1, 39)]
)
def test_what_is_behind_is_seen_through_strongly_blurred_things(radius, focus, decibels):
    """Without a backdrop 60 px had 35.5 dB with the focus behind, 35.3 with it between."""
    image, disparity, seen, band = truth.two_planes(radius, focus)
    assert truth.psnr(render_bokeh(image, disparity, radius, focus)[0], seen, band) > decibels


def test_a_backdrop_shows_what_is_farthest_around():
    """Behind a red disc, blurred by 30 pixels, the blue that surrounds it, and nothing behind the blue."""
    y, x = torch.meshgrid(*[torch.arange(200.0) - 100] * 2, indexing="ij")
    disc = (torch.hypot(x, y) < 50).float()[None, None]
    image = torch.cat([disc, torch.zeros_like(disc), 1 - disc], 1)
    plan = Plan.of(30 * disc, LENS)
    found = backdrop(
        regions.extended(regions.picture_light(image), Area.of(image)), 30 * disc, plan, 64, recorded=False
    )
    rgba = areas.enlarged(backdrop_in(Area.of(image), found, plan), 4)
    inside, outside = torch.hypot(x, y) < 46 - 2**plan.fill, torch.hypot(x, y) > 54 + 2 * 2**plan.fill
    assert torch.equal(rgba[0, 3, outside], torch.zeros(int(outside.sum())))
    reached = inside & (torch.hypot(x, y) > 20)
    assert float(rgba[0, 3, reached].min()) == 1
    assert float(rgba[0, 2, reached].min()) > 0.95 and float(rgba[0, 0, reached].max()) < 0.05
    assert 0 <= float(rgba[0, 4, reached].max()) < 1  # pixel of blur radius: in focus
    assert backdrop(lambda area: image[area.index()], 8 * disc, Plan.of(8 * disc, LENS), 64, recorded=False) is None


def test_the_farther_of_two_counts_where_slabs_would_hide_it():
    """By a pixel of blur radius not yet, by two wholly; where one is not there, the other."""

    def surface(red, alpha, radius):
        alpha = torch.tensor(alpha)
        return torch.stack([red * alpha, 0 * alpha, 0 * alpha, alpha, alpha * torch.tensor(radius)]).view(1, 5, 1, -1)

    one = surface(0, [1.0, 1, 1, 1, 0, 0.5], [-4.0, -4, -4, -4, 0, -4])
    other = surface(1, [1.0, 1, 1, 0, 1, 1], [-5.0, -5.5, -6, 0, 9, -4])
    found = farther(one, other)[0, :, 0]
    torch.testing.assert_close(found[0], torch.tensor([0, 0.5, 1, 0, 1, 0.5]))
    torch.testing.assert_close(found[3], torch.ones(6))
    torch.testing.assert_close(found[4], torch.tensor([-4, -4.75, -6, -4, 9, -4]))


def test_cells_of_the_backdrop_go_over_into_each_other_but_for_what_is_nearer():
    cells = torch.cat([torch.rand(1, 3, 6, 5), torch.full((1, 1, 6, 5), 7.0)], 1)
    torch.testing.assert_close(farthest_between(cells), areas.enlarged(cells, 2))
    cells[..., 2, 3], cells[..., 3:, 3:] = torch.tensor([1.0, 0, 0, 40]), 2
    near = farthest_between(cells)[..., 4:6, 6:8]
    assert float(near[0, 3].max()) < 10, "a near cell shows only where nothing else is beside it"


def test_the_blur_radius_of_a_smaller_photo_s_light_is_one_that_it_has():
    """Where there is light below black, too, and none at all."""
    image, coc = torch.randn(1, 3, 40, 40), torch.rand(1, 1, 40, 40) * 20
    image[..., :10, :] = 0
    image[..., 30:, :] = -1
    light = regions.extended(regions.picture_light(image), Area.of(image))
    _, spans = regions.half_size(light, coc.expand(-1, 4, -1, -1), 64, recorded=False)
    assert float(coc.min()) / 2 - 1e-3 < float(spans[:, 1].min())
    assert float(spans[:, 1].max()) < float(coc.max()) / 2 + 1e-3


def test_a_backdrop_takes_no_more_memory_than_the_picture_needs():
    """Cells that are larger than all of it hold nothing else."""
    image, disparity = picture(16, 16)
    coc = 1e5 * disparity
    plan = Plan.of(coc, LENS)
    found = backdrop(lambda area: areas.window(image, area), coc, plan, 1024, recorded=False)
    assert max(found.shape[-2:]) <= 4
    assert bool(torch.isfinite(render_bokeh(image, disparity, 1e5)).all())


def test_what_is_behind_is_seen_past_a_blurred_edge():
    """Stripes behind the focal plane, beside an edge before it: the free side of the aperture shows them shifted."""
    at = torch.arange(truth.CANVAS) - truth.CANVAS / 2
    stripes = 0.5 + 0.4 * torch.sin(at * (2 * math.pi / 20)).expand(3, truth.CANVAS, -1)
    edge = (at > 0).float().expand(1, truth.CANVAS, -1)
    planes = [truth.Plane(stripes, truth.everywhere(), 0.1), truth.Plane(torch.full_like(stripes, 0.1), edge, 0.9)]
    scene = truth.Scene("edge", planes, {})
    image, disparity = scene.all_in_focus()
    rendered = truth.crop(render_bokeh(image, disparity, truth.RADIUS, 0.5))[0]
    seen = truth.photograph(scene, 0.5, 256)
    assert truth.psnr(rendered, seen, scene.edge_band(0.5)) > 25.5  # 23.2 if both were independent


def test_lamps_are_not_continued_behind_things():
    """A bright light at the edge of a thing in focus adds nothing to what is hidden; other ranges of values stay."""
    image = torch.full((1, 3, 48, 64), 0.2)
    disparity = torch.zeros(1, 1, 48, 64)
    disparity[..., 32:] = 1
    image[..., 20:28, 26:31] = 20.0
    plain, lit = (render_bokeh(x, disparity, 8.0, 0.0) for x in (image.clamp(max=1), image))
    torch.testing.assert_close(lit[..., 36:], plain[..., 36:], rtol=0, atol=0.01)
    torch.testing.assert_close(render_bokeh(0 * image + 9, disparity, 8.0, 0.0), 0 * image + 9, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("around", "brightest", "white"), [(0.1, 5.0, 1.0), (0.8, 5.0, 1.6), (9.0, 9.0, 18.0), (0.9, 1.0, math.inf)]
)
def test_lamps_are_twice_as_bright_as_the_picture_and_brighter_than_white(around, brightest, white):
    image = torch.full((1, 3, 100, 100), around, dtype=torch.float64)
    image[:, 0, 3, 4] = brightest
    assert regions.lamps_from(image) == pytest.approx(white, rel=2e-3)


def test_lamps_are_not_continued_deep_behind_blurred_things():
    """Where the backdrop shows: there, too."""
    image, disparity = torch.full((1, 3, 160, 240), 0.2), torch.zeros(1, 1, 160, 240)
    disparity[..., 120:] = 1
    image[..., 76:82, 110:116] = 20.0
    plain, lit = (render_bokeh(x, disparity, 60.0, 0.0) for x in (image.clamp(max=1), image))
    torch.testing.assert_close(lit[..., 124:], plain[..., 124:], rtol=0, atol=0.02)


@pytest.mark.parametrize("times", [1, 2])
def test_the_truth_is_right_where_it_is_known(times):
    """One plane: the thin lens gives the picture convolved with a disc; in focus, its pixels or their means."""
    with truth.enlarged(times):
        scene = truth.Scene("plane", [truth.Plane(truth.noise(1), truth.everywhere(), 0.2)], {})
    image, disparity = scene.all_in_focus()
    torch.testing.assert_close(truth.photograph(scene, 0.2, 1), truth.crop(image)[0])
    seen = truth.photograph(scene, 0.9, 400)
    assert truth.psnr(truth.crop(render_bokeh(image, disparity, truth.RADIUS, 0.9))[0], seen) > 50


# Shapes, types, memory ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (17, 31), (65, 129)])
def test_any_size(size):
    image, disparity = picture(*size)
    out = render_bokeh(image, disparity, 6.0, 0.5)
    assert out.shape == image.shape
    assert bool(torch.isfinite(out).all())


def test_tiles_have_no_seams():
    image, disparity = picture(150, 190)
    coc = 14 * (disparity - 0.4)
    whole, tiles = (in_tiles(image, coc, tile) for tile in (1024, 48))
    torch.testing.assert_close(tiles, whole, rtol=0, atol=1e-5)


def test_tiles_have_no_seams_below_black():
    """Of those that have surfaces on both sides of the focal plane, and of those that have not."""
    image, disparity = picture(150, 190)
    image = image - 0.5
    image[..., :80] = image[..., :80].abs()
    coc = 14 * (disparity - 0.4)
    whole, tiles = (in_tiles(image, coc, tile) for tile in (1024, 48))
    torch.testing.assert_close(tiles, whole, rtol=0, atol=1e-5)


def test_tiles_in_threads_are_the_same_tiles():
    image, disparity = picture(150, 190)
    coc, cores = 14 * (disparity - 0.4), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = in_tiles(image, coc, 48)
        torch.set_num_threads(3)
        with torch.inference_mode():
            inferred = in_tiles(image, coc, 48)
        together = in_tiles(image, coc, 48)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(cores)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    torch.testing.assert_close(inferred, alone, rtol=0, atol=1e-6)
    wanted = image.clone().requires_grad_()
    assert in_tiles(wanted, coc, 48).requires_grad


def test_threads_of_calls_that_overlap_are_all_given_back():
    """One call begins, in a thread of its own, when another has given its workers fewer threads, and ends after it."""
    cores, left, begun, ended = torch.get_num_threads(), [], Event(), Event()

    def wait(_: Area) -> None:
        begun.set()
        ended.wait(60)

    def second() -> None:
        begun.wait(60)
        areas.in_threads(lambda _: ended.set(), [Area(0, 1, 0, 1)] * 4, True)
        left.append(torch.get_num_threads())

    try:
        torch.set_num_threads(4)
        thread = Thread(target=second)
        thread.start()
        areas.in_threads(wait, [Area(0, 1, 0, 1)] * 4, True)
        thread.join()
        for call in (lambda: left.append(torch.get_num_threads()),) * 2:
            thread = Thread(target=call)
            thread.start()
            thread.join()
        assert left == [4, 4, 4]
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(cores)


def test_what_fails_in_a_thread_is_raised():
    def work(area: Area) -> None:
        if area.top == 2:
            raise MemoryError("of one tile")

    cores = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with pytest.raises(MemoryError, match="of one tile"):
            areas.in_threads(work, [Area(top, top + 1, 0, 1) for top in range(4)], True)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(cores)


def test_tiles_are_developed_one_by_one():
    """Light is asked for by tiles and what lies around them; each pixel is developed once, in its place."""
    image, disparity = picture(150, 190)
    coc, asked, developed = 6 * (disparity - 0.4), [], torch.zeros(150, 190)

    def light(area: Area) -> Tensor:
        asked.append(area.pixels)
        return image[area.index()]

    def develop(rendered: Tensor, area: Area) -> Tensor:
        developed[area.index()] += 1
        return 2 * rendered[:, :1] + coc[area.index()]

    out = in_tiles(light, coc, 32, develop)
    assert max(asked) < image[0, 0].numel()
    assert bool((developed == 1).all())
    expected = 2 * render_bokeh(image, disparity, 6.0, 0.4)[:, :1] + coc
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(develop_bokeh(light, coc, develop), expected, rtol=0, atol=1e-5)


def test_tiles_in_focus_are_taken_as_they_are():
    """No light around them is asked for, whatever is blurred elsewhere."""
    image, _ = picture(96, 256)
    coc, asked = torch.zeros(1, 1, 96, 256), []
    coc[..., 200:] = 3

    def light(area: Area) -> Tensor:
        asked.append((area.left, area.right))
        return image[area.index()]

    out = in_tiles(light, coc, 32)
    assert asked.count((32, 64)) == 3
    assert torch.equal(out[..., :160], image[..., :160])
    torch.testing.assert_close(out, in_tiles(image, coc, 256), rtol=0, atol=1e-5)


@pytest.mark.parametrize("radius", [0.0, -12.0])
def test_tiles_show_what_is_blurred_beyond_their_margin(radius):
    """Tiles in focus, and behind the focal plane: what is seen past something before it is seen shifted."""
    image, coc = torch.rand(1, 3, 32, 448), torch.full((1, 1, 32, 448), radius)
    coc[..., 320:] = 300
    tiles, whole = (in_tiles(image, coc, tile) for tile in (32, 448))
    assert float((whole - image)[..., 128:160].abs().min()) > 0
    torch.testing.assert_close(tiles, whole, rtol=0, atol=1e-5)


def test_tiles_on_one_side_of_the_focal_plane_have_their_wide_discs():
    """Although the picture has both, and its wide discs are kept by side."""
    image, coc = torch.rand(1, 3, 32, 640), torch.full((1, 1, 32, 640), -60.0)
    coc[..., 592:] = 60
    assert Plan.of(coc, LENS).levels > OWN + 1
    tiles, whole = (in_tiles(image, coc, tile) for tile in (128, 640))
    torch.testing.assert_close(tiles, whole, rtol=0, atol=1e-5)


def test_what_is_in_focus_is_on_neither_side_of_the_focal_plane():
    """It is not seen shifted past what is before it; and where all is on one side, nothing is."""
    both, before, behind = (Plan.of(torch.tensor([[[ends]]]), LENS) for ends in ([-3.0, 3.0], [0.0, 3.0], [-3.0, 0.0]))
    assert [both.side(k) for k in range(7)] == [-1, -1, -1, 0, 1, 1, 1]
    for plan in (before, behind):
        assert [plan.side(k) for k in range(4)] == [0, 0, 0, 0]


class FullSize(Plan):
    """Every slab is worked at full size."""

    def level_of(self, radius: float) -> int:
        return 0


def test_levels_agree_with_full_size():
    image, disparity = truth.scenes()[0].all_in_focus()
    coc = 40 * (disparity - 0.1)
    levels, full = Plan.of(coc, LENS), FullSize.of(coc, LENS)
    assert max(levels.level(k) for k in range(len(levels.radii))) >= 2
    a, b = (render_tiles(image, coc, plan, reference.STEPS, 256) for plan in (levels, full))
    assert truth.psnr(a[0], b[0]) > 45


@pytest.mark.parametrize(
    ("scene", "radius", "focus", "least"),
    [(0, 60, 0.0, 50), (0, 60, 1.0, 42), (0, 130, 0.5, 43), (9, 60, 1.0, 48.5), (11, 130, 0.5, 39.4)],
)
def test_wide_discs_from_smaller_photos_agree_with_full_size(scene, radius, focus, least):
    """Radii up to 65 in a picture of 152 pixels; the slabs beyond 48 are from the picture at half the size.

    With the focus between, those behind it are seen past those before it. Slopes run on in the slab that is the
    nearest of another size; and what lies between the two surfaces of a smaller pixel is known.
    """
    image, disparity = truth.scenes()[scene].all_in_focus()
    coc = radius * (disparity - focus)
    levels, full = Plan.of(coc, LENS), FullSize.of(coc, LENS)
    assert len(levels.own_slabs()) < len(levels.radii)
    a, b = (render_tiles(image, coc, plan, reference.STEPS, 512) for plan in (levels, full))
    assert truth.psnr(truth.crop(a)[0], truth.crop(b)[0]) > least


def test_cat_s_eyes_of_wide_discs_are_those_of_their_places():
    """Slabs from the picture at half the size: a light in the middle is a disc about it, one aside shows a lemon."""
    coc = torch.full((1, 1, 200, 260), -60.0)
    plan = Plan.of(coc, Aperture(cat_eye=1))
    assert plan.levels > OWN + 1
    for y, x in ((100, 130), (70, 80)):
        image = torch.zeros(1, 3, 200, 260)
        image[..., y - 2 : y + 2, x - 2 : x + 2] = 1
        out = render_tiles(image, coc, plan, reference.STEPS, 8 * plan.cell)[0, 0]
        down, across = (out.sum(1) @ (torch.arange(200.0) + 0.5 - y), out.sum(0) @ (torch.arange(260.0) + 0.5 - x))
        aside = float(torch.hypot(down, across) / out.sum())
        assert aside < 1 if (y, x) == (100, 130) else aside > 10


@pytest.mark.parametrize("lens", [Aperture(), Aperture("hexagon", cat_eye=0.9)])
def test_tiles_of_wide_discs_leave_no_seams(lens):
    image, disparity = picture(300, 420)
    coc = 130 * (disparity - 0.5)
    plan = Plan.of(coc, lens)
    assert plan.levels == OWN + 2
    tiles, whole = (render_tiles(image, coc, plan, reference.STEPS, tile) for tile in (8 * plan.cell, 32 * plan.cell))
    torch.testing.assert_close(tiles, whole, rtol=0, atol=1e-5)


def test_a_batch_is_its_pictures():
    image, disparity = picture(40, 50, batch=3)
    disparity = disparity * torch.tensor([0.5, 1, 0.8]).view(3, 1, 1, 1)
    radius, focus = torch.tensor([2.0, 9.0, 0.0]), torch.tensor([0.1, 0.5, 0.9])
    together = render_bokeh(image, disparity, radius, focus)
    for i in range(3):
        alone = render_bokeh(image[i : i + 1], disparity[i : i + 1], float(radius[i]), focus[i])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=0)
    assert torch.equal(together[2], image[2])


@pytest.mark.parametrize("impl", ["reference", "numba", pytest.param("triton", marks=pytest.mark.triton)])
def test_non_contiguous(impl, device):
    """Pixel by pixel, every other column, and column by column."""
    image, disparity = (x.to(device if impl == "triton" else "cpu") for x in picture(24, 40))
    expected = render_bokeh(image, disparity, 5.0, 0.5, impl=impl)
    for strided in (
        lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
        lambda x: torch.repeat_interleave(x, 2, -1)[..., ::2],
        lambda x: x.mT.contiguous().mT,
    ):
        torch.testing.assert_close(render_bokeh(strided(image), strided(disparity), 5.0, 0.5, impl=impl), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types(dtype):
    image, disparity = picture(32, 40)
    out = render_bokeh(image.to(dtype), disparity.to(dtype), 5.0, 0.5)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), render_bokeh(image, disparity, 5.0, 0.5), rtol=0, atol=0.03)


def test_the_input_is_left_alone():
    image, disparity = picture(40, 40)
    before = image.clone(), disparity.clone()
    out = render_bokeh(image, disparity, 0.0)
    out += 1
    render_bokeh(image, disparity, 5.0)
    assert torch.equal(image, before[0])
    assert torch.equal(disparity, before[1])


def test_memory_is_written(poisoned_memory):
    image, disparity = picture(70, 90)
    assert bool(torch.isfinite(render_bokeh(image, disparity, 14.0, 0.5, impl="reference")).all())


def test_what_is_hidden_and_not_spread_shows_nowhere():
    """A wall in focus up to the end of a block, before things at two distances: what shows is interpolated, too."""
    image, coc = torch.zeros(1, 3, 640, 640, dtype=torch.float64), torch.full((1, 1, 640, 640), -13.0).double()
    image[:, 0], image[:, :, :300], coc[..., :300, :] = 1, torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1), -60
    image[..., :256], coc[..., :256] = 0.5, 0

    def spread_all(layer, area, visible, kernels):
        return reference.spread(layer, area, torch.ones_like(visible), kernels)

    steps = reference.STEPS
    out, expected = (regions.render(image, coc, Aperture(), s) for s in (steps, replace(steps, spread=spread_all)))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


def test_a_lamp_takes_no_light_from_what_is_dark():
    """Sums are of how colours differ from their mean: that of the light up to white."""
    image = torch.full((1, 3, 200, 200), 1e-3)
    image[..., 20, 20] = 1e5
    out = render_bokeh(image, torch.zeros(1, 1, 200, 200), 20.0, 1.0, impl="reference")
    far = out[..., 100:, 100:]
    torch.testing.assert_close(far, torch.full_like(far, 1e-3), rtol=1e-3, atol=0)


@pytest.mark.parametrize("what", ["image", "disparity"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_is_refused(what, bad):
    given = dict(zip(("image", "disparity"), picture(20, 30), strict=True))
    given[what][0, 0, 3, 4] = bad
    with pytest.raises(ValueError, match=f"{what} must be finite"):
        render_bokeh(**given, radius=3.0)


def test_autocast_does_not_reach_the_rendering():
    image, disparity = picture(40, 50)
    expected = render_bokeh(image, disparity, 9.0, 0.4, impl="reference")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(render_bokeh(image, disparity, 9.0, 0.4, impl="reference"), expected)


def test_an_aperture_keeps_its_shape():
    mask = torch.ones(5, 5)
    lens = Aperture(mask)
    mask.zero_()
    assert lens.shape.sum() == 25


def test_developing_refuses_what_rendering_refuses():
    light = lambda area: torch.ones(1, 3, *area.size)  # noqa: E731
    with pytest.raises(ValueError, match="coc"):
        develop_bokeh(light, torch.ones(2, 1, 20, 30), lambda x, _: x)
    with pytest.raises(ValueError, match="coc must be finite"):
        develop_bokeh(light, torch.full((1, 1, 20, 30), torch.nan), lambda x, _: x)
    half = develop_bokeh(light, torch.ones(1, 1, 20, 30).half(), lambda x, _: x)
    torch.testing.assert_close(half, torch.ones(1, 3, 20, 30))


@pytest.mark.parametrize("impl", ["reference", "numba"])
def test_developing_is_rendering_with_the_same_lens(impl):
    """In full precision, and without gradients, wherever it is called."""
    image, disparity = picture(40, 50)
    coc = (9 * (disparity - 0.4)).requires_grad_()
    options = {"aperture": Aperture("triangle", rotation=40, cat_eye=0.5), "impl": impl}
    with torch.no_grad():
        expected = render_bokeh(image, disparity, 9.0, 0.4, **options)
    with torch.autocast("cpu", torch.bfloat16):
        out = develop_bokeh(lambda area: image[area.index()], coc, lambda x, _: x, **options)
    assert not out.requires_grad
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("impl", ["reference", "numba"])
def test_developing_is_told_what_is_a_lamp(impl):
    """What is brighter than `white`; nothing is where that is not given."""
    image, coc = torch.full((1, 3, 48, 64), 0.2), torch.zeros(1, 1, 48, 64)
    coc[..., 32:] = 8
    image[..., 20:28, 26:31] = 20.0
    assert regions.lamps_from(image) == 1

    def developed(**options):
        return develop_bokeh(lambda area: image[area.index()], coc, lambda x, _: x, impl=impl, **options)

    expected = render_bokeh(image, coc, 1.0, impl=impl)
    torch.testing.assert_close(developed(white=1.0), expected, rtol=0, atol=1e-5)
    assert float((developed() - expected)[..., 32:].max()) > 0.1


# Gradients ----------------------------------------------------------------------------------------------------------


def test_gradients():
    """Of image, disparity, radius and focus, away from the kinks (c on a slab, mixtures at the ends of their range)."""
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(1, 3, 8, 8, generator=generator, dtype=torch.float64)
    disparity = 0.2 + 0.5 * torch.rand(1, 1, 8, 8, generator=generator, dtype=torch.float64)
    inputs = [image, disparity, torch.tensor(2.3), torch.tensor(0.41)]
    inputs = [x.double().requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(render_bokeh, inputs, eps=1e-7, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("radius", "levels"), [(31.7, 2), (143.2, OWN + 2)])
def test_gradients_through_levels(radius, levels):
    """The larger radius takes slabs from the picture at half the size."""
    image, disparity = picture(24, 24, dtype=torch.float64)
    assert Plan.of(radius * (disparity - 0.473), LENS).levels == levels
    image = image.requires_grad_()
    weights = torch.rand_like(image)

    def loss(radius: Tensor, focus: Tensor) -> Tensor:
        return (render_bokeh(image, disparity, radius, focus) * weights).sum()

    inputs = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (radius, 0.473)]
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-7, atol=1e-4, rtol=1e-3)
    (grad,) = torch.autograd.grad(loss(*inputs), image)
    direction = torch.rand_like(image)
    moved = [(render_bokeh(image.detach() + e * direction, disparity, *inputs) * weights).sum() for e in (1e-6, -1e-6)]
    assert ((moved[0] - moved[1]) / 2e-6).item() == pytest.approx((grad * direction).sum().item(), rel=1e-5)


def test_lamps_have_a_gradient():
    image, disparity = picture(24, 24, dtype=torch.float64)
    image = (3 * image).requires_grad_()
    (grad,) = torch.autograd.grad(render_bokeh(image, disparity, 6.0, 0.4).sum(), image)
    assert bool(torch.isfinite(grad).all())
    assert float(grad.mean()) == pytest.approx(1, abs=0.2)


def test_no_blur_has_a_gradient():
    image, disparity = picture(12, 12)
    (grad,) = torch.autograd.grad(render_bokeh(image.requires_grad_(), disparity, 0.0).sum(), image)
    assert torch.equal(grad, torch.ones_like(grad))
    inputs = [disparity.clone().requires_grad_(), torch.zeros(1, requires_grad=True)]
    for grad in torch.autograd.grad(render_bokeh(image.detach(), *inputs).sum(), inputs):
        assert bool(torch.isfinite(grad).all())


@pytest.mark.parametrize("which", ["image", "disparity", "radius", "focus"])
def test_any_input_alone_has_its_gradient(which):
    """Those that all of them have together, whatever `impl` is chosen."""
    image, disparity = picture(14, 16, dtype=torch.float64)
    inputs = {"image": image, "disparity": disparity, "radius": torch.tensor(3.3), "focus": torch.tensor(0.41)}
    inputs = {name: x.double().clone().requires_grad_() for name, x in inputs.items()}
    weights = torch.rand_like(image)
    (expected,) = torch.autograd.grad((render_bokeh(**inputs) * weights).sum(), inputs[which])
    alone = {name: x if name == which else x.detach() for name, x in inputs.items()}
    (grad,) = torch.autograd.grad((render_bokeh(**alone) * weights).sum(), inputs[which])
    torch.testing.assert_close(grad, expected)
    assert bool(grad.any())


# Parts of pictures --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 5), (4, 3)])
@pytest.mark.parametrize("beyond", [(1, 1, 1, 1), (3, 0, 2, 5), (0, 0, 0, 0)])
def test_gradients_of_replicated_edges_are_pytorch_s(size, beyond):
    """Which adds them atomically on a GPU: argan's own do not."""
    x = torch.rand(2, 3, *size, dtype=torch.float64).requires_grad_()
    ours, theirs = areas.replicated(x, beyond), F.pad(x, beyond, mode="replicate")
    assert torch.equal(ours, theirs)
    weights = torch.rand_like(ours)
    grads = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-14)
    assert torch.autograd.gradgradcheck(lambda x: areas.replicated(x, beyond), x, fast_mode=True)


@pytest.mark.parametrize("size", [(1, 5), (4, 3)])
@pytest.mark.parametrize("times", [2, 8])
def test_gradients_of_enlarging_are_pytorch_s(size, times):
    x = torch.rand(2, 3, *size, dtype=torch.float64).requires_grad_()
    ours, theirs = areas.enlarged(x, times), F.interpolate(x, scale_factor=times, mode="bilinear")
    assert torch.equal(ours, theirs)
    weights = torch.rand_like(ours)
    grads = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-13)
    assert torch.autograd.gradgradcheck(lambda x: areas.enlarged(x, times), x, fast_mode=True)


def test_autocast_does_not_reach_the_gradients():
    image, disparity = picture(40, 48)
    inputs = [image.requires_grad_(), disparity.contiguous().requires_grad_()]
    expected = torch.autograd.grad(render_bokeh(*inputs, 20.0, 0.3).square().sum(), inputs)
    with torch.autocast("cpu", torch.bfloat16):
        grads = torch.autograd.grad(render_bokeh(*inputs, 20.0, 0.3).square().sum(), inputs)
    assert all(map(torch.equal, grads, expected))


@pytest.mark.gpu
def test_the_same_gradients_every_time(device):
    image, disparity = (x.to(device) for x in picture(200, 330))
    inputs = [image.requires_grad_(), disparity.contiguous().requires_grad_()]
    both = [torch.autograd.grad(render_bokeh(*inputs, 60.0, 0.4).square().sum(), inputs) for _ in range(2)]
    for first, second in zip(*both, strict=True):
        assert torch.equal(first, second)


# Back ends ----------------------------------------------------------------------------------------------------------


@pytest.mark.triton
@pytest.mark.parametrize(
    ("aperture", "radius", "size", "batch"), [("disk", 3.7, (37, 31), 1), ("pentagon", 1.6, (19, 70), 2)]
)
def test_triton_is_the_reference(aperture, radius, size, batch, device, poisoned_memory):
    image, disparity = (x.to(device) for x in picture(*size, batch=batch))
    expected = render_bokeh(image, disparity, radius, 0.45, aperture=aperture, impl="reference")
    out = render_bokeh(image, disparity, radius, 0.45, aperture=aperture, impl="triton")
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


@pytest.mark.triton
def test_triton_stores_half_precision_as_it_is(device):
    """Taps in float16, sums in float32: within what the result is rounded to; highlights up to the largest number."""
    from argan.kernels.bokeh import triton

    layer = torch.rand(1, 4, 20, 23, device=device)
    layer[..., 10, 10] = 1e6
    kernel = aperture_kernel("hexagon", -3.0)[None, None].to(layer)
    area = Area.of(layer).grown(-(kernel.shape[-1] // 2))
    visible = torch.ones(1, 1, *area.size, device=device)
    stored = triton.spread(layer, area, visible, kernel, torch.float16)
    whole = reference.spread(layer, area, visible, kernel)
    layer[..., 10, 10] = 65504
    clamped = reference.spread(layer, area, visible, kernel)
    assert float((stored - clamped).abs().max()) > 0
    torch.testing.assert_close(stored, clamped, rtol=1e-3, atol=1e-6)
    assert bool(whole.amax() > 2 * stored.amax())


def surfaces(dtype: torch.dtype, device: str) -> tuple[dict, list[Tensor]]:
    """What sheets of 24 x 28 pixels are made of: far surfaces in some, places from 0 to 5, many on a slab; leaves."""
    rgba, rows = torch.rand(1, 4, 24, 28, dtype=dtype, device=device), torch.arange(24, device=device)
    places = torch.randint(0, 21, (1, 1, 24, 28), device=device).to(dtype) / 4
    far, far_places = torch.rand(4, 24, dtype=dtype, device=device), places[0, :, :, 3].floor()
    leaves = [x.contiguous().requires_grad_() for x in (rgba, places, far, far_places)]
    names = "near", "place", "far", "far_place", "rows", "columns"
    return dict(zip(names, (*leaves, rows, (5 * rows) % 28), strict=True), cell=4), leaves


@pytest.mark.triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("what", reference.WEIGHTS)
def test_triton_weighs_surfaces(what, level, dtype, device, poisoned_memory):
    """In all of a region and in a part of it; at the rims of parts pixels are extended."""
    from argan.kernels.bokeh import triton

    parts, leaves = surfaces(dtype, device)
    sheets, ours = Sheets(**parts), triton.Surfaces(**parts)
    for area in (Area(0, 24, 0, 28), Area(4, 12, 8, 28), Area(20, 24, 0, 4)):
        expected, out = reference.weigh(sheets, what, 2, area, level), triton.weigh(ours, what, 2, area, level)
        tolerance = 1e-6 if dtype == torch.float32 else 1e-14
        torch.testing.assert_close(out, expected, rtol=0, atol=tolerance)
        weights = torch.rand_like(expected)
        grads = [
            torch.autograd.grad((x * weights).sum(), leaves, retain_graph=True, materialize_grads=True)
            for x in (expected, out)
        ]
        for leaf, gradient, wanted in zip(leaves, grads[1], grads[0], strict=True):
            if not gradient_at_the_end_of_a_clamp():  # PyTorch 2.15 has 0 on slabs, where either is right
                gradient, wanted = (x.masked_fill(leaf % 1 == 0, 0) for x in (gradient, wanted))
            torch.testing.assert_close(gradient, wanted, rtol=0, atol=4 * tolerance)


def gradient_at_the_end_of_a_clamp() -> float:
    """PyTorch's: 1 up to 2.14, then 0."""
    x = torch.zeros(1, requires_grad=True)
    return torch.autograd.grad(x.clamp(min=0), x)[0].item()


@pytest.mark.triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [1, 3])
def test_triton_fills_in_hidden_surfaces(levels, dtype, device, poisoned_memory):
    """Parts of larger tensors, known here and there and nowhere; all of it wanted, and a part."""
    from argan.kernels.bokeh import triton

    known = (torch.rand(1, 1, 48, 50, dtype=dtype, device=device) - 0.6).clamp(min=0)
    known[..., 20:] = 0
    layer = torch.rand(1, 4, 48, 50, dtype=dtype, device=device) * known
    leaves = [layer.requires_grad_(), known.requires_grad_()]
    for wanted in (Area(0, 40, 0, 32), Area(8, 24, 16, 24)):
        expected, out = (
            inpaint(layer[..., 2:42, 5:37], known[..., 2:42, 5:37], levels, wanted)
            for inpaint in (reference.inpaint, triton.inpaint)
        )
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-14)
        weights = torch.rand_like(expected)
        grads = [
            torch.autograd.grad((x * weights).sum(), leaves, retain_graph=True, materialize_grads=True)
            for x in (expected, out)
        ]
        for gradient, right in zip(grads[1], grads[0], strict=True):
            tolerance = 1e-6 if dtype == torch.float32 else 1e-13
            torch.testing.assert_close(gradient, right, rtol=10 * tolerance, atol=tolerance)


def composite(height: int, width: int, level: int, side: int, device: str) -> Composite:
    """With something in it everywhere."""
    made = Composite(torch.rand(1, 1, height, width, device=device), level, side)
    made.rgba, made.through = torch.rand_like(made.rgba), torch.rand_like(made.through)
    made.radial, made.farthest = torch.rand_like(made.radial), torch.rand_like(made.farthest)
    return made


@pytest.mark.triton
@pytest.mark.parametrize("side", [-1, 0, 1])
def test_triton_composites_layers(side, device, poisoned_memory):
    """A layer over a part of the picture, not contiguous, then one over all of it."""
    from argan.kernels.bokeh import triton

    both = [composite(13, 21, 2, side, device)] * 2
    both = [copy.deepcopy(made) for made in both]
    for area in (Area(3, 11, 5, 12), Area(0, 13, 0, 21)):
        layer = torch.rand(1, 4, *area.size[::-1], device=device).mT
        for made, over in zip(both, (reference.over, triton.over), strict=True):
            over(made, layer, -7.5, area)
        torch.testing.assert_close(both[1].state(), both[0].state(), rtol=1e-6, atol=1e-6)


@pytest.mark.triton
@pytest.mark.parametrize("side", [-1, 0, 1])
def test_triton_composites_with_gradients(side, device, poisoned_memory):
    """Of all that layers and composites are; where a layer and what is free beside the one before are equal, too."""
    from argan.kernels.bokeh import triton

    made = composite(13, 21, 2, side, device)
    leaves = [x.double().requires_grad_() for x in (made.rgba, made.through, made.nearer, made.radial)]
    leaves[2].data[..., :5, :] = 1.0  # nothing is free
    areas = Area(3, 11, 5, 12), Area(0, 13, 0, 21)
    layers = [torch.rand(1, 4, *area.size, dtype=torch.float64, device=device).requires_grad_() for area in areas]
    layers[0].data[:, 3, :2] = 0.0
    layers[0].data[:, 3, 2] = 1 - leaves[2].data[0, 0, 5, 5:12]
    results = []
    for over in (reference.over, triton.over):
        front = Composite(made.nearer, 2, side)
        front.rgba, front.through, front.nearer, front.radial = (x.clone() for x in leaves)
        for layer, area in zip(layers, areas, strict=True):
            over(front, layer, -7.25, area)
        results.append(front.state())
    torch.testing.assert_close(results[1], results[0], rtol=1e-8, atol=1e-12)  # EPS is a float32 in kernels
    weights = torch.rand_like(results[0])
    wanted = [*leaves[: 4 if side else 3], *layers]
    grads = [torch.autograd.grad((x * weights).sum(), wanted) for x in results]
    for gradient, right in zip(grads[1], grads[0], strict=True):
        torch.testing.assert_close(gradient, right, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("impl", ["numba", pytest.param("triton", marks=pytest.mark.triton)])
@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_what_lies_farthest_is_kept_as_by_the_reference(impl, level, device, poisoned_memory):
    """Layers of a part of the picture and of all of it, some of them hardly there."""
    where = device if impl == "triton" else "cpu"
    over = import_module(f"argan.kernels.bokeh.{impl}").over
    both = [copy.deepcopy(made) for made in [composite(24, 16, level, 0, where)] * 2]
    for radius, area in ((2.0, Area(0, 24, 0, 16)), (-3.0, Area(8, 20, 4, 12)), (-9.0, Area(0, 24, 0, 16))):
        layer = torch.rand(1, 4, *area.size, device=where)
        layer[..., :5] *= 0.03
        layer[..., :4, :] = 0
        for made, put in zip(both, (reference.over, over), strict=True):
            put(made, layer, radius, area)
    kept = both[0].farthest
    assert kept.shape[-2:] == (24 >> both[0].finer, 16 >> both[0].finer)
    assert float(kept[:, 3].max()) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(both[1].farthest, kept, rtol=1e-6, atol=1e-6)


@pytest.mark.triton
@pytest.mark.parametrize("level", [0, 1, 3])
def test_triton_puts_groups_behind(level, device, poisoned_memory):
    """All of a group, and a part of one, of which more is known than is wanted."""
    from argan.kernels.bokeh import triton

    unit = 2**level
    group = composite(7, 9, level, 0, device)
    part = copy.deepcopy(group)
    part.view = Area(2, 5 * unit, 3, 6 * unit + 1)
    for behind_all, size in ((group, (7 * unit, 9 * unit)), (part, part.view.size)):
        both = [copy.deepcopy(made) for made in [composite(*size, 0, 0, device)] * 2]
        for made, behind in zip(both, (reference.behind, triton.behind), strict=True):
            behind(made, behind_all)
        for plane in ("rgba", "through", "nearer"):
            torch.testing.assert_close(getattr(both[1], plane), getattr(both[0], plane), rtol=1e-6, atol=1e-6)


@pytest.mark.triton
def test_triton_works_at_the_reference_s_levels(device):
    image, disparity = (x.to(device) for x in picture(40, 33))
    disparity = (disparity > 0.45).float()
    expected, out = (render_bokeh(image, disparity, 26.0, 1.0, impl=impl) for impl in ("reference", "triton"))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


@pytest.mark.triton
@pytest.mark.parametrize("impl", ["reference", "triton"])
def test_gradients_after_inference(impl, device):
    """What a rendering in inference mode keeps, discs, can be used where gradients are recorded."""
    image, disparity = (x.to(device) for x in picture(15, 17))
    lens = Aperture("hexagon", rotation=11.0)  # that no other test keeps anything for
    with torch.inference_mode():
        render_bokeh(image, disparity, 2.6, 0.45, aperture=lens, impl=impl)
    image = image.clone().requires_grad_()
    render_bokeh(image, disparity, 2.6, 0.45, aperture=lens, impl=impl).sum().backward()
    assert bool(image.grad.any())


@pytest.mark.triton
def test_triton_has_the_reference_s_gradients(device):
    inputs = [*picture(15, 17), torch.tensor(2.6), torch.tensor(0.45)]
    inputs = [x.double().to(device).contiguous().requires_grad_() for x in inputs]
    weights = torch.rand_like(inputs[0])
    grads = [
        torch.autograd.grad((render_bokeh(*inputs, impl=impl) * weights).sum(), inputs)
        for impl in ("reference", "triton")
    ]
    for expected, grad in zip(*grads, strict=True):
        torch.testing.assert_close(grad, expected, rtol=1e-8, atol=1e-10)


WIDE = [Aperture(), Aperture("hexagon", rotation=10, cat_eye=0.9), Aperture(rim=0.7), Aperture(anamorphic=1.6)]


@pytest.mark.gpu
@pytest.mark.parametrize("lens", WIDE)
@pytest.mark.parametrize("radius", [60.0, 130.0])
def test_triton_is_the_reference_at_wide_discs(lens, radius):
    """With a lamp; larger than the interpreter can do in a test's time."""
    image, disparity = (x.cuda() for x in picture(300, 420))
    image[..., 150, 40] = 50
    expected, out = (
        render_bokeh(image, disparity, radius, 0.4, aperture=lens, impl=impl) for impl in ("reference", "triton")
    )
    torch.testing.assert_close(out, expected, rtol=5e-5, atol=5e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("lens", WIDE[:2])
def test_tiles_of_triton_leave_no_seams(lens, monkeypatch):
    image, disparity = (x.cuda() for x in picture(900, 1300))
    whole = render_bokeh(image, disparity, 130.0, 0.4, aperture=lens, impl="triton")
    monkeypatch.setattr("argan.kernels.bokeh.triton.TILE", 128)
    tiles = render_bokeh(image, disparity, 130.0, 0.4, aperture=lens, impl="triton")
    torch.testing.assert_close(tiles, whole, rtol=1e-5, atol=1e-5)


def test_triton_without_a_device_says_why(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    image, disparity = picture(8, 8)
    with pytest.raises(BackendUnavailable, match="CUDA"):
        render_bokeh(image, disparity, 1.0, impl="triton")


# Numba --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(1, 1), (37, 50), (130, 171)])
@pytest.mark.parametrize(("radius", "focus"), [(0.4, 0.3), (9.0, 0.45), (40.0, 0.1), (110.0, 1.0)])
def test_numba_agrees_with_the_reference(dtype, size, radius, focus):
    image, disparity = picture(*size, batch=2, dtype=dtype)
    image[..., -1, -1] = 50  # a lamp, which does not go on behind nearer things
    expected, out = (render_bokeh(image, disparity, radius, focus, impl=impl) for impl in ("reference", "numba"))
    exact = 5e-5 if dtype == torch.float32 else 1e-12  # 1e-6 of the lamp: the reference's own rounding
    torch.testing.assert_close(out, expected, rtol=exact, atol=exact)


@pytest.mark.parametrize(("radius", "focus"), [(9.0, 0.2), (9.0, 0.45), (9.0, 0.8)])
def test_numba_agrees_with_the_reference_about_lamps_at_depth_edges(radius, focus):
    image, disparity = picture(60, 80, dtype=torch.float64)
    edge = largest_around(disparity) + largest_around(-disparity) > 0.2
    image[:, :, ::3, ::3] += 50 * edge[..., ::3, ::3]
    expected, out = (render_bokeh(image, disparity, radius, focus, impl=impl) for impl in ("reference", "numba"))
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "lens", [Aperture("hexagon", rotation=10), Aperture(rim=0.7), Aperture(anamorphic=1.6), Aperture(cat_eye=0.9)]
)
@pytest.mark.parametrize("radius", [14.0, 30.0, 60.0])
def test_numba_agrees_with_the_reference_through_any_aperture(lens, radius):
    """Their kernels' columns have runs of equal taps, or hardly any, or differ from block to block."""
    image, disparity = picture(90, 140, dtype=torch.float64)
    options = {"radius": radius, "focus": 0.4, "aperture": lens}
    expected, out = (render_bokeh(image, disparity, impl=impl, **options) for impl in ("reference", "numba"))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("what", ["seen", "known", "hidden"])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_numba_weighs_surfaces_as_the_reference_does(what, level):
    from argan.kernels.bokeh import numba

    sheets = Sheets(**surfaces(torch.float64, "cpu")[0])
    area = Area(4, 20, 8, 24)
    with torch.no_grad():
        for k in range(6):
            expected, out = (steps.weigh(sheets, what, k, area, level) for steps in (reference.STEPS, numba.STEPS))
            torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


def test_numba_is_chosen_on_the_cpu_where_no_gradients_are_asked_for():
    assert resolve("auto", "cpu", numba=True) == "numba"
    assert resolve("auto", "cpu") == "reference"
    image, disparity = picture(20, 24)
    image.requires_grad_()
    with torch.no_grad():
        fast = render_bokeh(image, disparity, 5.0, 0.4)
    recorded = render_bokeh(image, disparity, 5.0, 0.4)
    assert recorded.requires_grad and not fast.requires_grad
    torch.testing.assert_close(recorded.detach(), fast, rtol=0, atol=1e-5)


def test_numba_refuses_to_record_gradients():
    image, disparity = picture(8, 8)
    radius = torch.ones(1, requires_grad=True)
    for inputs in ((image.clone().requires_grad_(), disparity, 1.0), (image, disparity, radius)):
        with pytest.raises(BackendUnavailable, match="gradients"):
            render_bokeh(*inputs, impl="numba")


def test_numba_compiles_where_nothing_can_be_kept(monkeypatch):
    from argan.kernels.bokeh import numba as loops

    njit = loops.numba.njit

    def nowhere(function, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(function, **options)

    monkeypatch.setattr(loops.numba, "njit", nowhere)
    assert loops.compiled(loops.between_cells.py_func)(5, 4, 2) == (2, 3, 0.25)


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'numba'"), ImportError("needs another NumPy")])
def test_without_numba_the_reference_renders(monkeypatch, error):
    reason = "argan\\[fast\\]" if isinstance(error, ModuleNotFoundError) else "another NumPy"

    def fail(name, *arguments, **options):
        if name == "numba":
            raise error
        return found(name, *arguments, **options)

    found = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", fail)
    monkeypatch.setattr(backend, "_why_no_numba", backend._why_no_numba.__wrapped__)
    image, disparity = picture(20, 24)
    expected = render_bokeh(image, disparity, 5.0, 0.4, impl="reference")
    assert torch.equal(render_bokeh(image, disparity, 5.0, 0.4), expected)
    with pytest.raises(BackendUnavailable, match=reason):
        render_bokeh(image, disparity, 5.0, 0.4, impl="numba")


# Bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"image": torch.rand(3, 8, 8)}, ValueError, "image"),
        ({"image": torch.rand(1, 4, 8, 8)}, ValueError, "image"),
        ({"image": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}, TypeError, "image"),
        ({"disparity": torch.rand(1, 1, 8, 9)}, ValueError, "disparity"),
        ({"disparity": torch.rand(2, 1, 8, 8)}, ValueError, "disparity"),
        ({"disparity": torch.full((1, 1, 8, 8), torch.nan)}, ValueError, "disparity"),
        ({"radius": -1.0}, ValueError, "radius"),
        ({"radius": math.inf}, ValueError, "radius"),
        ({"radius": torch.ones(3)}, ValueError, "radius"),
        (
            {"image": torch.rand(2, 3, 8, 8), "disparity": torch.rand(2, 1, 8, 8), "radius": torch.tensor([1.0, -1.0])},
            ValueError,
            "radius must not be negative",
        ),
        ({"focus": torch.nan}, ValueError, "focus"),
        ({"aperture": "round"}, ValueError, "disk"),
        ({"aperture": torch.zeros(5, 5)}, ValueError, "aperture"),
        ({"aperture": torch.ones(5)}, ValueError, "aperture"),
        ({"aperture": 6}, TypeError, "aperture"),
        ({"impl": "cuda"}, ValueError, "impl"),
    ],
)
def test_bad_input_is_named(change, error, message):
    arguments = {"image": torch.rand(1, 3, 8, 8), "disparity": torch.rand(1, 1, 8, 8), "radius": 2.0} | change
    with pytest.raises(error, match=message):
        render_bokeh(**arguments)
