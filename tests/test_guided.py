"""Settling and guided upsampling: depth edges land on photo edges, and the code can be traced with any size."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from argan.guided import FINE, SPECK, Neighbours, fit, guided_upsample, settle, without_specks
from argan.models.resize import resize


def scene(height: int, width: int, noise: float = 0.0) -> tuple[Tensor, Tensor]:
    """A textured disc, near and orange, over a textured blue background: image (1,3,H,W), disparity (1,1,H,W)."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    inside = ((x - 0.1) ** 2 + (y + 0.05) ** 2 < 0.4).float()
    near, far = torch.tensor([0.8, 0.5, 0.2]), torch.tensor([0.25, 0.35, 0.6])
    texture = 0.08 * torch.sin(25 * x) * torch.sin(31 * y)
    image = inside * near[:, None, None] + (1 - inside) * far[:, None, None] + texture
    image = image + noise * torch.randn(image.shape)
    return image.clamp(0, 1)[None], (0.2 + 0.6 * inside)[None, None]


def area(disparity: Tensor, short_side: int) -> Tensor:
    scale = short_side / min(disparity.shape[2:])
    return F.interpolate(disparity, size=[round(n * scale) for n in disparity.shape[2:]], mode="area")


@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize("short_side", [16, 32, 64])
def test_edges_follow_the_photo(short_side: int, noise: float) -> None:
    image, truth = scene(501, 667, noise)
    coarse = area(truth, short_side)
    smooth = (resize(coarse, (501, 667)) - truth).abs().mean()
    guided = (guided_upsample(coarse, image) - truth).abs().mean()
    assert guided < 0.45 * smooth


def test_edge_is_as_sharp_as_the_photos() -> None:
    """Of the pixels 2 or more from the edge, nearly all are within 5 % of their true depth; 1.5 coarse pixels is 16."""
    image, truth = scene(501, 667)
    result = guided_upsample(area(truth, 48), image)
    edge = F.max_pool2d(truth, 5, 1, 2) - -F.max_pool2d(-truth, 5, 1, 2) > 0
    wrong = (result - truth).abs() > 0.05
    assert wrong[~edge].float().mean() < 0.01


def test_what_is_darker_than_its_surroundings_is_no_nearer() -> None:
    """A grey figure before light ground, with black lines along its edge that are narrower than a cell of the grid."""
    picture = torch.full((384, 384), 0.9)
    picture[:, 128:] = 0.5
    picture[:, 130:136:3] = 0.0
    depth = torch.full((1, 1, 12, 12), 0.2)
    depth[..., 4:] = 0.7
    result = guided_upsample(depth, picture.expand(1, 3, 384, 384))
    assert result.max() < 0.701
    assert result.min() > 0.199


def test_texture_does_not_become_depth() -> None:
    """Strong texture on a slanted plane: the plane comes back."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 300), torch.linspace(0, 1, 400), indexing="ij")
    image = (0.5 + 0.4 * torch.sin(60 * x) * torch.sin(47 * y)).expand(3, -1, -1)[None]
    plane = (0.2 + 0.5 * y + 0.1 * x)[None, None]
    error = guided_upsample(area(plane, 48), image) - plane
    assert error.abs().mean() < 0.01


def test_constant_depth_stays_constant() -> None:
    image, _ = scene(97, 131, noise=0.1)
    for value in (0.0, 0.37, 1.0):
        result = guided_upsample(torch.full((1, 1, 12, 16), value), image)
        torch.testing.assert_close(result, torch.full((1, 1, 97, 131), value), rtol=0, atol=1e-4)


def test_flat_photo_gives_a_smooth_resize() -> None:
    """Where the photo says nothing, what is left is spatial interpolation: within the range, and rising."""
    ramp = torch.linspace(0, 1, 16).expand(1, 1, 12, 16)
    result = guided_upsample(ramp, torch.full((1, 3, 96, 128), 0.5))
    assert result.diff(dim=3).min() > -1e-4
    torch.testing.assert_close(result, resize(ramp, (96, 128)), rtol=0, atol=0.04)


def test_batches_do_not_mix() -> None:
    first, second = scene(64, 80), scene(64, 80, noise=0.05)
    depths = torch.rand(2, 1, 8, 10)
    both = guided_upsample(depths, torch.cat([first[0], second[0]]))
    torch.testing.assert_close(both[:1], guided_upsample(depths[:1], first[0]))
    torch.testing.assert_close(both[1:], guided_upsample(depths[1:], second[0]))


@settings(max_examples=20)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(16, 70), st.integers(16, 70))
def test_any_size(h: int, w: int, height: int, width: int) -> None:
    result = guided_upsample(torch.rand(1, 1, h, w), torch.rand(1, 3, height, width))
    assert result.shape == (1, 1, height, width)
    assert torch.isfinite(result).all()
    assert 0 <= result.min() <= result.max() <= 1


def test_float32_is_enough() -> None:
    """Grey photos make the colour covariance singular: the regularised solution must not lose its digits."""
    image, truth = scene(120, 160)
    for guide in (image, image.mean(1, keepdim=True).expand(-1, 3, -1, -1)):
        coarse = area(truth, 12)
        exact = guided_upsample(coarse.double(), guide.double())
        torch.testing.assert_close(guided_upsample(coarse, guide).double(), exact, rtol=0, atol=2e-3)


def test_gradients() -> None:
    image = torch.rand(1, 3, 16, 17, dtype=torch.float64)
    disparity = (0.4 + 0.2 * torch.rand(1, 1, 2, 3, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: guided_upsample(d, image), disparity)


def test_weights_made_in_inference_mode_serve_gradients_too() -> None:
    """A first `argan.render` under torch.inference_mode imports the module there."""
    with torch.inference_mode():
        neighbours = Neighbours(fine=2, reach=1, apart=1, sigma_space=0.5, sigma_colour=0.05)
    assert not any(row.is_inference() for row in neighbours.nearness)


def test_not_contiguous() -> None:
    image, depth = torch.rand(1, 40, 50, 3), torch.rand(1, 8, 6, 1)
    expected = guided_upsample(depth.permute(0, 3, 1, 2).contiguous(), image.permute(0, 3, 1, 2).contiguous())
    torch.testing.assert_close(guided_upsample(depth.permute(0, 3, 1, 2), image.permute(0, 3, 1, 2)), expected)


def ramps(disparity: Tensor, times: int) -> Tensor:
    """Edges as a small network draws them: means over 3 x 3 pixels, some times."""
    for _ in range(times):
        disparity = F.avg_pool2d(F.pad(disparity, (1,) * 4, mode="replicate"), 3, 1)
    return disparity


@pytest.mark.parametrize(("times", "left"), [(1, 0.5), (3, 0.4), (6, 0.65)])
def test_ramps_become_steps_at_the_photos_edges(times: int, left: float) -> None:
    """Whatever photo they are brought to the size of: without `settle`, that alone leaves them."""
    image, truth = scene(384, 512, noise=0.02)
    soft, small = ramps(area(truth, 48), times), resize(image, (48, 64))
    before, after = ((guided_upsample(x, image) - truth).abs().mean() for x in (soft, settle(soft, small)))
    assert after < left * before


def test_an_edge_settles_where_the_photo_has_it() -> None:
    """A ramp beside the photo's edge, not on it: the step is the photo's."""
    x = torch.arange(40.0).expand(1, 1, 30, 40)
    image = (x < 20).float().expand(1, 3, -1, -1)
    settled = settle((0.8 - 0.1 * (x - 18)).clamp(0.2, 0.8), image)  # half-way at 21
    assert settled[..., :20].min() > 0.7
    assert settled[..., 21:].max() < 0.3


def test_what_recedes_is_not_settled() -> None:
    """A floor that rises by the whole range in the height of a map, textured."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 85), indexing="ij")
    image = (0.5 + 0.4 * torch.sin(60 * x) * torch.sin(47 * y)).expand(1, 3, -1, -1)
    floor = y[None, None].contiguous()
    assert (settle(floor, image) - floor).abs().max() < 0.02


@settings(max_examples=20)
@given(st.integers(1, 20), st.integers(1, 20), st.floats(0, 1))
def test_settling_keeps_constants_and_adds_no_extremes(h: int, w: int, value: float) -> None:
    image, disparity = torch.rand(2, 3, h, w), torch.rand(2, 1, h, w)
    constant = torch.full((2, 1, h, w), value)
    torch.testing.assert_close(settle(constant, image), constant)
    settled = settle(disparity, image)
    assert (disparity.amin((1, 2, 3)) - 1e-6 <= settled.amin((1, 2, 3))).all()
    assert (settled.amax((1, 2, 3)) <= disparity.amax((1, 2, 3)) + 1e-6).all()
    torch.testing.assert_close(settle(disparity.flip(3), image.flip(3)), settled.flip(3))


def test_gradients_of_settling() -> None:
    image = torch.rand(1, 3, 7, 6, dtype=torch.float64)
    disparity = (0.1 * torch.rand(1, 1, 7, 6, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: settle(d, image), disparity)


LINES = {
    "level": [(0, n) for n in range(SPECK)],
    "upright": [(n, 0) for n in range(SPECK)],
    "falling": [(n, n) for n in range(SPECK)],
    "rising": [(n, -n) for n in range(SPECK)],
}


def drawn(cells: list[tuple[int, int]], value: float, ground: float = 0.4) -> Tensor:
    """A map (1,1,30,36) of one disparity, but for these cells."""
    disparity = torch.full((1, 1, 30, 36), ground)
    for y, x in cells:
        disparity[0, 0, 10 + y, 18 + x] = value
    return disparity


@pytest.mark.parametrize("value", [0.9, 0.1])
@pytest.mark.parametrize("line", LINES)
def test_what_is_long_in_one_direction_is_no_speck(line: str, value: float) -> None:
    """Near or far, one cell wide: as long as a coarse pixel it stays, one cell shorter it goes."""
    kept = drawn(LINES[line], value)
    assert torch.equal(without_specks(kept), kept)
    assert torch.equal(without_specks(drawn(LINES[line][1:], value)), drawn([], value))


@pytest.mark.parametrize("value", [0.9, 0.1])
def test_specks_go_and_pixels_of_the_map_stay(value: float) -> None:
    side = SPECK - 1
    speck = [(y, x) for y in range(side) for x in range(side) if min(y, side - 1 - y) + min(x, side - 1 - x) > 1]
    assert torch.equal(without_specks(drawn(speck, value)), drawn([], value))  # round: no diagonal is longer
    pixel = drawn([(y, x) for y in range(FINE) for x in range(FINE)], value)
    assert torch.equal(without_specks(pixel), pixel)


def test_no_outline_moves_that_has_no_specks() -> None:
    """Steps at any angle, a disc, a ramp, and what touches the frame; in every picture of a batch by itself."""
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(70.0), indexing="ij")
    shapes = [(y * a + x * b > 40).float() for a, b in ((0, 1), (1, 0), (0.5, 0.9), (1, -0.3), (-0.7, 1.2))]
    shapes += [((y - 30) ** 2 + (x - 35) ** 2 < 20**2).float(), (0.3 * y + 0.7 * x) / 70]
    shapes += [(x < 1).float(), ((x < 3) & (y > 20) & (y < 50)).float()]
    maps = torch.stack(shapes)[:, None]
    torch.testing.assert_close(without_specks(maps), maps, rtol=0, atol=1e-6)


def test_taking_specks_away_adds_no_values_and_has_no_side() -> None:
    noise = torch.rand(2, 1, 33, 41)
    found = without_specks(noise)
    assert torch.isin(found, noise).all()
    torch.testing.assert_close(without_specks(noise.flip(3)), found.flip(3), rtol=0, atol=0)
    torch.testing.assert_close(without_specks(noise.mT), found.mT, rtol=0, atol=0)


def test_specks_that_look_like_the_other_side_stay_where_they_are() -> None:
    """Orange leaves in the blue background, beside an orange figure: they do not come forward with it."""
    image, truth = scene(384, 512)
    edge = F.max_pool2d(truth, 25, 1, 12) - truth > 0.3  # within 12 px of the figure
    y, x = torch.meshgrid(torch.arange(384), torch.arange(512), indexing="ij")
    leaves = (edge[0, 0] & (y % 16 < 5) & (x % 16 < 5))[None, None]
    leaves = leaves & (F.max_pool2d(truth, 9, 1, 4) < 0.5)  # which do not touch it
    image = torch.where(leaves, torch.tensor([0.8, 0.5, 0.2])[:, None, None], image)
    result = guided_upsample(area(truth, 48), image)
    assert leaves.sum() > 500
    assert (result[leaves] > 0.5).float().mean() < 0.1


class Guided(nn.Module):
    def forward(self, disparity: Tensor, image: Tensor) -> Tensor:
        return whole(disparity, image)


def whole(disparity: Tensor, image: Tensor) -> Tensor:
    return guided_upsample(settle(disparity, resize(image, disparity.shape[-2:])), image)


@pytest.mark.slow
def test_export_with_dynamic_sizes() -> None:
    dynamic = torch.export.Dim.DYNAMIC
    shapes = {0: dynamic, 2: dynamic, 3: dynamic}
    program = torch.export.export(
        Guided(), (torch.rand(2, 1, 6, 8), torch.rand(2, 3, 49, 65)), dynamic_shapes=(shapes, shapes)
    )
    for inputs in (
        (torch.rand(1, 1, 5, 9), torch.rand(1, 3, 33, 70)),
        (torch.rand(3, 1, 12, 7), torch.rand(3, 3, 101, 16)),
    ):
        torch.testing.assert_close(program.module()(*inputs), whole(*inputs))


def test_trace_with_other_sizes() -> None:
    traced = torch.jit.trace(Guided(), (torch.rand(2, 1, 6, 8), torch.rand(2, 3, 49, 65)))
    inputs = torch.rand(1, 1, 5, 9), torch.rand(1, 3, 33, 70)
    torch.testing.assert_close(traced(*inputs), whole(*inputs))


def test_photo_size_does_not_matter() -> None:
    """The same scene with four times the pixels has the same depth."""
    image, truth = scene(96, 128)
    coarse = area(truth, 12)
    small = guided_upsample(coarse, resize(image, (12 * FINE, 16 * FINE)))
    large = guided_upsample(coarse, resize(image, (384, 512)))
    assert (resize(large, (96, 128)) - small).abs().mean() < 0.01


def test_a_map_that_is_coarse_one_way_alone_is_resized() -> None:
    coarse, image = torch.rand(1, 1, 4, 200), torch.rand(1, 3, 64, 256)
    torch.testing.assert_close(fit(coarse, image), resize(coarse, (64, 256)))
    small = torch.rand(1, 1, 4, 16)
    torch.testing.assert_close(fit(small, image), guided_upsample(small, image))
