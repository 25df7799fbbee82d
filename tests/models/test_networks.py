"""Generator, discriminator, aperture renderer, estimator: shapes, and the properties that the paper rests on."""

from typing import get_args

import pytest
import torch
import torch.nn.functional as F

from argan.config import EncoderName
from argan.models import aperture
from argan.models.aperture import ApertureRenderer, aperture_views, render_mixture, rendered_rows
from argan.models.discriminator import Discriminator, ResidualDownBlock
from argan.models.estimator import DepthEstimator, DepthPredictor
from argan.models.generator import AdaIN, Generator, ResidualUpBlock, UpBlock


@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_generator_makes_images_and_disparities_in_range(resolution):
    generator = Generator(resolution, z_dim=16, width=8, max_disparity=3.0)
    image, disparity = generator(torch.randn(2, 16))
    assert image.shape == (2, 3, resolution, resolution)
    assert disparity.shape == (2, 1, resolution, resolution)
    assert image.min() >= 0
    assert image.max() <= 1
    assert disparity.abs().max() <= 3.0 * resolution / 64


def test_generator_starts_nearly_flat_but_not_at_the_dead_point_of_zero_disparity():
    _, disparity = Generator(32, z_dim=16, width=8)(torch.randn(4, 16))
    assert 1e-4 < disparity.std() < 0.5


def test_generator_disparity_scales_with_resolution():
    assert Generator(128, width=8).max_disparity == 2 * Generator(64, width=8).max_disparity


@pytest.mark.parametrize("resolution", [4, 48, 0])
def test_generator_refuses_other_sizes(resolution):
    with pytest.raises(ValueError, match="power of two"):
        Generator(resolution)


def test_depth_stride_draws_disparity_from_an_earlier_block():
    torch.manual_seed(0)
    generator = Generator(32, z_dim=16, width=8, depth_stride=4)
    image, disparity = generator(torch.randn(2, 16))
    assert disparity.shape == (2, 1, *image.shape[-2:])
    # What no earlier block can draw is not there: without its interpolation the map is 8 x 8.
    coarse = F.interpolate(F.avg_pool2d(disparity, 4), scale_factor=4.0, mode="bilinear", align_corners=False)
    assert (coarse - disparity).abs().mean() < 0.5 * disparity.std()
    (grad,) = torch.autograd.grad(disparity.sum(), generator.blocks["8"].weight, retain_graph=True)
    assert grad.abs().max() > 0
    late = torch.autograd.grad(disparity.sum(), list(generator.blocks["32"].parameters()), allow_unused=True)
    assert all(gradient is None for gradient in late)


@pytest.mark.parametrize("stride", [0, 3, 8])
def test_generator_refuses_other_depth_strides(stride):
    with pytest.raises(ValueError, match="power of two from 1 to 4"):
        Generator(32, width=8, depth_stride=stride)


def test_up_block_is_nearest_upsampling_and_convolution():
    block = UpBlock(5, 7, z_dim=3).double()
    x, z = torch.randn(2, 5, 6, 6, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    kernel = block.weight.transpose(0, 1).flip(2, 3)  # a transposed convolution correlates with the mirrored kernel
    expected = F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), kernel, padding=1)
    torch.testing.assert_close(block(x, z), F.leaky_relu(block.norm(expected, z), 0.2))


def test_the_style_sets_mean_and_spread_of_every_channel():
    norm = AdaIN(5, z_dim=3)
    x, z = 7 + 2 * torch.randn(2, 5, 16, 16), torch.randn(2, 3)
    scale, offset = norm.style(z).chunk(2, dim=1)
    styled = norm(x, z)
    torch.testing.assert_close(styled.mean((2, 3)), offset, atol=1e-5, rtol=0)
    torch.testing.assert_close(styled.std((2, 3), correction=0), (1 + scale).abs(), atol=1e-4, rtol=0)


def test_residual_blocks_double_and_halve():
    up, down = ResidualUpBlock(5, 7, z_dim=3), ResidualDownBlock(5, 7)
    x, z = torch.randn(2, 5, 6, 6), torch.randn(2, 3)
    assert up(x, z).shape == (2, 7, 12, 12)
    assert down(x).shape == (2, 7, 3, 3)
    torch.nn.init.zeros_(down.down.weight)
    torch.nn.init.zeros_(down.down.bias)
    torch.testing.assert_close(down(x), down.shortcut(F.avg_pool2d(x, 2)) * 0.5**0.5)  # the shortcut alone is left
    torch.nn.init.zeros_(up.norm.style.weight)
    up.norm.style.bias.data = torch.tensor(7 * [-1.0] + 7 * [0.0])  # scale and offset: nothing passes
    expected = F.interpolate(up.shortcut(x), scale_factor=2.0, mode="nearest") * 0.5**0.5
    torch.testing.assert_close(up(x, z), expected)


def test_residual_networks_play_at_every_size():
    image, disparity = Generator(32, z_dim=4, width=8, blocks="residual")(torch.randn(2, 4))
    assert image.shape == (2, 3, 32, 32)
    assert disparity.shape == (2, 1, 32, 32)
    assert Discriminator(32, width=8, blocks="residual")(image).shape == (2,)


def test_discriminator_judges_each_image():
    logits = Discriminator(32, width=8)(torch.rand(3, 3, 32, 32))
    assert logits.shape == (3,)


def test_discriminator_sees_whether_a_batch_is_all_alike():
    discriminator, (image, other) = Discriminator(32, width=8), torch.rand(2, 1, 3, 32, 32)
    alone, alike, varied = (discriminator(torch.cat(batch))[0] for batch in ([image], [image, image], [image, other]))
    torch.testing.assert_close(alike, alone)
    assert (varied - alike).abs() > 1e-4


def test_aperture_is_the_papers_five_by_five_less_the_corners():
    views = aperture_views(5)
    assert views.shape == (21, 2)
    assert not any((view.abs() == 2).all() for view in views)
    torch.testing.assert_close(views.sum(dim=0), torch.zeros(2))
    assert aperture_views(1).tolist() == [[0.0, 0.0]]
    with pytest.raises(ValueError, match="odd"):
        aperture_views(4)


def random_renderer(expansion: bool = True) -> ApertureRenderer:
    """One whose expansion T has learned something."""
    torch.manual_seed(0)
    renderer = ApertureRenderer(5, expansion)
    if renderer.expansion is not None:
        torch.nn.init.normal_(renderer.expansion.convs[-1].weight, std=0.1)
    return renderer


def test_views_are_in_the_order_that_shipped_expansions_have_learned():
    assert aperture_views(5)[:5].tolist() == [[-1, -2], [0, -2], [1, -2], [-2, -1], [-1, -1]]


def test_the_expansion_bends_and_its_loss_is_by_how_much():
    renderer = ApertureRenderer(5)
    for conv in renderer.expansion.convs:
        torch.nn.init.constant_(conv.weight, 0.01)
    rays = -torch.rand(1, 21, 8, 8)
    first, second, third = (conv.weight for conv in renderer.expansion.convs)
    inside = F.elu(F.conv2d(F.elu(F.conv2d(rays, first, padding=1)), second, padding=1))
    bent = renderer.expansion(rays)
    torch.testing.assert_close(bent, rays + F.conv2d(inside, third, padding=1))
    torch.testing.assert_close(renderer.expansion_loss(bent, rays), (bent - rays).abs().mean())


@pytest.mark.triton
def test_all_of_a_renderer_runs_on_the_back_end_that_it_is_given(device, monkeypatch):
    asked = []
    for name in ("warp_disparity", "expand_rays", "render_light_field"):
        own = getattr(aperture, name)
        watched = lambda *given, own=own, impl, **more: asked.append(impl) or own(*given, impl=impl, **more)  # noqa: E731
        monkeypatch.setattr(aperture, name, watched)
    image, disparity = torch.rand(1, 3, 8, 8, device=device), torch.randn(1, 1, 8, 8, device=device)
    pictures = []
    for impl in ("reference", "triton"):
        renderer = ApertureRenderer(5, impl=impl).to(device)
        renderer.load_state_dict(random_renderer().state_dict())
        asked.clear()
        pictures.append(renderer(image, disparity, torch.ones(1, device=device)))
        assert asked == 3 * [impl]
    torch.testing.assert_close(*pictures, rtol=0, atol=1e-3)


@pytest.mark.parametrize("expansion", [False, True])
def test_no_disparity_and_a_pinhole_both_leave_the_image_alone(expansion):
    renderer = random_renderer(expansion)
    image, disparity = torch.rand(2, 3, 15, 17), torch.randn(2, 1, 15, 17)
    torch.testing.assert_close(renderer(image, torch.zeros_like(disparity), torch.ones(2)), image)
    torch.testing.assert_close(renderer(image, disparity, torch.zeros(2)), image)


def test_expansion_starts_as_the_identity():
    renderer = ApertureRenderer(5)
    expanded, warped = renderer.rays(torch.randn(2, 1, 9, 9))
    torch.testing.assert_close(expanded, warped)
    assert renderer.expansion_loss(expanded, warped) == 0


def test_without_expansion_rendering_is_even_in_disparity():
    """The ambiguity that the centre focus prior is there to resolve."""
    renderer = ApertureRenderer(5, expansion=False).double()
    image, disparity = torch.rand(1, 3, 16, 16).double(), torch.full((1, 1, 16, 16), 0.7).double()
    one = torch.ones(1).double()
    torch.testing.assert_close(renderer(image, disparity, one), renderer(image, -disparity, one))


def test_mixture_renders_the_open_lenses_only():
    renderer = random_renderer()
    image, disparity = torch.rand(3, 3, 16, 16), torch.randn(3, 1, 16, 16)
    scale = torch.tensor([0.0, 1.0, 0.3])
    mixed, loss = render_mixture(renderer, image, disparity, scale)
    torch.testing.assert_close(mixed, renderer(image, disparity, scale))
    assert torch.equal(mixed[0], image[0])
    assert loss > 0
    pinholes, loss = render_mixture(renderer, image, disparity, torch.zeros(3))
    assert torch.equal(pinholes, image)
    assert loss == 0


def test_mixture_has_the_gradients_of_rendering_every_sample():
    renderer, weight = random_renderer().double(), torch.rand(4, 3, 12, 12).double()
    inputs = torch.rand(4, 3, 12, 12).double().requires_grad_(), torch.randn(4, 1, 12, 12).double().requires_grad_()
    scale = torch.tensor([0.3, 0.0, 1.0, 0.0]).double()
    wanted = [*inputs, *renderer.parameters()]
    mixed, loss = render_mixture(renderer, *inputs, scale)
    found = torch.autograd.grad((weight * mixed).sum() + loss, wanted)
    expanded, warped = renderer.rays(scale.view(4, 1, 1, 1) * inputs[1])
    every = (weight * renderer.lens(inputs[0], expanded)).sum()
    of_open = renderer.expansion_loss(expanded[scale > 0], warped[scale > 0])
    for gradient, expected in zip(found, torch.autograd.grad(every + of_open, wanted), strict=True):
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("least", [3, 4])
def test_rendering_closed_lenses_too_changes_nothing(least):
    renderer = random_renderer().double()
    inputs = torch.rand(4, 3, 12, 12).double().requires_grad_(), torch.randn(4, 1, 12, 12).double().requires_grad_()
    scale, weight = torch.tensor([0.3, 0.0, 1.0, 0.0]).double(), torch.rand(4, 3, 12, 12).double()
    wanted, found = [*inputs, *renderer.parameters()], []
    for rows in (rendered_rows(scale), rendered_rows(scale, least)):
        mixed, loss = render_mixture(renderer, *inputs, scale, rows)
        found.append([mixed, loss, *torch.autograd.grad((weight * mixed).sum() + loss, wanted)])
    assert len(rows) == least
    for plain, padded in zip(*found, strict=True):
        torch.testing.assert_close(padded, plain)


def test_mixture_waits_for_no_device():
    """Tensors without values, which nothing can be asked about: which samples are rendered is known from s alone."""
    renderer = random_renderer().to("meta")
    image, disparity = torch.rand(3, 3, 16, 16, device="meta"), torch.randn(3, 1, 16, 16, device="meta")
    mixed, _ = render_mixture(renderer, image, disparity, torch.tensor([0.0, 1.0, 0.3]))
    assert mixed.shape == image.shape


def test_renderer_passes_gradients_to_image_and_disparity():
    renderer = random_renderer()
    image, disparity = torch.rand(1, 3, 16, 16, requires_grad=True), torch.randn(1, 1, 16, 16, requires_grad=True)
    renderer(image, disparity, torch.ones(1)).square().sum().backward()
    assert image.grad.abs().sum() > 0
    assert disparity.grad.abs().sum() > 0
    assert all(conv.weight.grad.abs().sum() > 0 for conv in renderer.expansion.convs)


@pytest.mark.parametrize("encoder", get_args(EncoderName))
@pytest.mark.parametrize("size", [(16, 16), (33, 47), (64, 24)])
def test_estimator_takes_any_size(size, encoder):
    assert DepthEstimator(8, encoder=encoder)(torch.rand(1, 3, *size)).shape == (1, 1, *size)


@pytest.mark.parametrize("size", [(16, 16), (97, 133), (200, 64)])
def test_predictor_gives_unit_disparity_at_the_photos_size(size):
    predictor = DepthPredictor(DepthEstimator(8), resolution=32, far=-1.0, near=0.25)
    assert predictor.focus == pytest.approx(0.8)
    assert predictor.focus_range == pytest.approx(0.4)  # half a px a step of 1.25
    with torch.no_grad():
        disparity = predictor(torch.rand(2, 3, *size))
    assert disparity.shape == (2, 1, *size)
    assert disparity.min() >= 0
    assert disparity.max() <= 1


def test_predictor_maps_the_generators_focal_plane_to_its_focus():
    predictor = DepthPredictor(DepthEstimator(8), resolution=32, far=-1.5, near=0.5)
    torch.nn.init.zeros_(predictor.estimator.head.weight)
    torch.nn.init.zeros_(predictor.estimator.head.bias)  # signed disparity 0 everywhere
    with torch.no_grad():
        disparity = predictor(torch.rand(1, 3, 40, 50))
    torch.testing.assert_close(disparity, torch.full_like(disparity, predictor.focus))


@pytest.mark.parametrize("encoder", get_args(EncoderName))
def test_predictor_sees_a_photo_and_its_mirror_image_alike(encoder):
    predictor = DepthPredictor(DepthEstimator(8, encoder=encoder), resolution=32, far=-1.0, near=1.0)
    photo = torch.rand(1, 3, 48, 64)
    with torch.no_grad():
        torch.testing.assert_close(predictor.coarse(photo.flip(3)), predictor.coarse(photo).flip(3), atol=1e-5, rtol=0)


def test_predictor_takes_the_mean_of_two_looks():
    predictor = DepthPredictor(DepthEstimator(8), resolution=32, far=-1.0, near=1.0)
    sizes = []

    def estimate(image):
        sizes.append(image.shape[2:])
        return torch.full_like(image[:, :1], len(sizes) / 8)

    predictor.estimator.forward = estimate
    signed = 2 * predictor.coarse(torch.rand(1, 3, 64, 96)) - 1
    assert sizes == [(32, 48), (32, 48), (24, 36), (24, 36)]  # each of them and its mirror image
    torch.testing.assert_close(signed, torch.full((1, 1, 32, 48), (1 + 2 + 3 + 4) / 4 / 8))


@pytest.mark.parametrize(("far", "near"), [(0.0, 1.0), (-1.0, 0.0), (0.2, 1.0)])
def test_predictor_refuses_a_range_without_the_focal_plane(far, near):
    with pytest.raises(ValueError, match="focal plane"):
        DepthPredictor(DepthEstimator(8), 32, far, near)
