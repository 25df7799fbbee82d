"""Viewpoints: planes seen from two cameras, whose right answer is known, and what the generator does with a camera."""

import math

import pytest
import torch

from argan.config import ModelConfig
from argan.models.camera import FOCAL_LENGTH, depth_of, reproject, rotation, sample_at
from argan.models.generator import Generator
from argan.training import losses
from argan.training.draws import draw_cameras

SIZE, STEP = 24, 0.05
A = FOCAL_LENGTH * SIZE * STEP
CAMERAS = torch.tensor([[0.1, -0.2], [-0.05, 0.25]], dtype=torch.float64)  # pitch, yaw: a pair of views


def plane_disparity(camera: torch.Tensor, normal=(0.3, -0.2, 1.0), offset=0.1) -> torch.Tensor:
    """Signed disparity (B, 1, S, S) of the plane n . X = offset (X in the scene's frame), by solving for each ray."""
    normal = torch.tensor(normal, dtype=torch.float64)
    middle, focal = (SIZE - 1) / 2, FOCAL_LENGTH * SIZE
    pixel = (torch.arange(SIZE, dtype=torch.float64) - middle) / focal
    y, x = torch.meshgrid(pixel, pixel, indexing="ij")
    rays = torch.stack([x, y, torch.ones_like(x)]).flatten(1)
    turned = rotation(camera) @ normal  # the normal in camera coordinates
    depth = (offset + turned[:, 2:]) / (turned @ rays)
    return (A * (1 / depth - 1)).view(-1, 1, SIZE, SIZE)


def test_rotations_are_rotations_and_the_front_is_none():
    turns = rotation(CAMERAS)
    torch.testing.assert_close(turns @ turns.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(2, 3, 3))
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(2, dtype=torch.float64))
    assert torch.equal(rotation(torch.zeros(1, 2)), torch.eye(3)[None])


def test_depth_and_disparity_follow_the_thin_lens():
    """Two pinholes one aperture step apart, focused at the orbit's centre, see a point displaced by its disparity."""
    depth = torch.tensor([0.75, 1.0, 1.6], dtype=torch.float64).view(1, 1, 1, 3).expand(1, 1, 3, 3)
    size = depth.shape[-1]
    displacement = FOCAL_LENGTH * size * STEP * (1 / depth - 1 / 1.0)
    torch.testing.assert_close(depth_of(displacement, STEP), depth)
    assert depth_of(torch.zeros(1, 1, 4, 4), STEP).eq(1).all()


def test_the_same_camera_sees_the_same():
    depth = 0.7 + torch.rand(2, 1, SIZE, SIZE, dtype=torch.float64)
    position, moved = reproject(depth, CAMERAS, CAMERAS)
    y, x = torch.meshgrid(*2 * [torch.arange(SIZE, dtype=torch.float64)], indexing="ij")
    torch.testing.assert_close(position, torch.stack([x, y]).expand(2, 2, SIZE, SIZE), atol=1e-9, rtol=0)
    torch.testing.assert_close(moved, depth)
    image = torch.rand(2, 3, SIZE, SIZE, dtype=torch.float64)
    torch.testing.assert_close(sample_at(image, position), image, atol=1e-9, rtol=0)


def test_a_plane_moves_onto_itself():
    disparity = plane_disparity(CAMERAS)
    position, moved = reproject(depth_of(disparity, STEP), CAMERAS, CAMERAS.flip(0))
    found = depth_of(sample_at(disparity.flip(0), position), STEP)
    inside = ((position >= 0) & (position <= SIZE - 1)).all(dim=1, keepdim=True)
    assert 0.5 < inside.double().mean() < 1
    torch.testing.assert_close(moved[inside], found[inside], atol=1e-9, rtol=1e-9)


def test_a_point_of_the_axis_moves_as_the_orbit_says():
    """Seen from the front at depth d, the point (0, 0, d - 1) turns by the yaw about the centre."""
    depth = torch.full((1, 1, 25, 25), 1.3, dtype=torch.float64)
    yaw = 0.3
    position, moved = reproject(depth, torch.zeros(1, 2).double(), torch.tensor([[0.0, yaw]]).double())
    z = 1 + 0.3 * math.cos(yaw)
    assert moved[0, 0, 12, 12].item() == pytest.approx(z)
    assert position[0, :, 12, 12].tolist() == pytest.approx([12 + FOCAL_LENGTH * 25 * 0.3 * math.sin(yaw) / z, 12])


def consistent_pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Two views of a plane with a smooth texture: the second's is linear in its pixels, the first's what it shows."""
    disparity = plane_disparity(CAMERAS)
    ramp = torch.linspace(0.2, 0.8, SIZE, dtype=torch.float64)
    second = torch.stack([ramp.expand(SIZE, SIZE), ramp.view(-1, 1).expand(SIZE, SIZE), 0 * ramp.expand(SIZE, SIZE)])
    position, _ = reproject(depth_of(disparity[:1], STEP), CAMERAS[:1], CAMERAS[1:])
    slope = 0.6 / (SIZE - 1)
    first = torch.cat([0.2 + slope * position, 0 * position[:, :1]], dim=1)
    return torch.cat([first, second[None]]), disparity


def test_views_of_one_plane_are_consistent_and_others_are_not():
    deep, disparity = consistent_pair()
    loss, compared = losses.consistency_loss(deep, disparity, CAMERAS, STEP, geometry=3.0)
    assert loss < 2e-4  # the first view is linear only up to perspective
    assert 0.5 < compared < 1
    nearer = disparity + torch.tensor([0.2, 0.0], dtype=torch.float64).view(2, 1, 1, 1)
    assert losses.consistency_loss(deep, nearer, CAMERAS, STEP, 3.0)[0] > 100 * loss
    assert losses.consistency_loss(deep.roll(3, dims=3), disparity, CAMERAS, STEP, 3.0)[0] > 100 * loss


def test_what_a_nearer_surface_hides_is_not_compared():
    disparity = torch.zeros(2, 1, SIZE, SIZE)
    disparity[1, :, :, SIZE // 2 :] = 0.8  # 0.75 of the distance: an occluder that only the second view has
    front = torch.zeros(2, 2)
    deep = torch.rand(2, 3, SIZE, SIZE)
    _, compared = losses.consistency_loss(deep, disparity, front, STEP, 3.0)
    assert compared.item() == pytest.approx(0.75)  # all of the second view, the uncovered half of the first


@pytest.mark.parametrize(("nearer", "share"), [(0.08, 0.75), (0.03, 1)])
def test_a_surface_hides_what_is_more_than_a_twentieth_behind_it(nearer, share):
    """Less is an error of depth, to learn from."""
    disparity = torch.zeros(2, 1, SIZE, SIZE)
    disparity[1, :, :, SIZE // 2 :] = A * (1 / (1 - nearer) - 1)
    _, compared = losses.consistency_loss(torch.rand(2, 3, SIZE, SIZE), disparity, torch.zeros(2, 2), STEP, 3.0)
    assert compared.item() == pytest.approx(share)


def test_gradients_reach_colour_and_depth_of_both_views():
    deep, disparity = consistent_pair()
    generator = torch.Generator().manual_seed(0)
    noise = 0.02 * torch.rand(disparity.shape, dtype=torch.float64, generator=generator)
    deep, disparity = deep.requires_grad_(), (disparity + noise).requires_grad_()

    def loss(deep, disparity):
        return losses.consistency_loss(deep, disparity, CAMERAS, STEP, 3.0)[0]

    assert torch.autograd.gradcheck(loss, (deep, disparity), fast_mode=True)
    loss(deep, disparity).backward()
    for gradient in (*deep.grad, *disparity.grad):
        assert gradient.abs().sum() > 0
    color_only = losses.consistency_loss(deep, disparity, CAMERAS, STEP, 0.0)[0]
    (gradient,) = torch.autograd.grad(color_only, disparity)
    assert gradient.abs().sum() > 0  # colour alone tells both rows and columns where to look
    tilted = torch.tensor([[0.2, 0.0], [-0.2, 0.0]], dtype=torch.float64)  # a move along the rows only
    (gradient,) = torch.autograd.grad(losses.consistency_loss(deep, disparity, tilted, STEP, 0.0)[0], disparity)
    assert gradient.abs().sum() > 0


def test_cameras_come_in_pairs_within_the_range():
    model = ModelConfig(yaw=0.8, pitch=0.2)
    camera = draw_cameras(4000, model, torch.Generator().manual_seed(0))
    first, second = camera[0::2], camera[1::2]
    limits = torch.tensor([0.2, 0.8])
    assert (camera.abs() <= limits).all()
    assert (first.abs().amax(0) > 0.95 * limits).all()
    assert ((first - second).abs() <= 0.5 * limits).all()
    moved = (first - second) * first.sign()
    assert (moved >= 0).all()  # towards the front
    assert (moved.mean(0) / limits).tolist() == pytest.approx([0.25, 0.25], abs=0.02)


def test_generator_turns_with_the_camera_and_starts_from_the_front():
    generator = Generator(16, z_dim=8, width=8, viewpoints=True)
    z = torch.randn(2, 8)
    front, turned = generator(z), generator(z, torch.tensor([[0.1, 0.3], [0.0, -0.3]]))
    torch.testing.assert_close(generator(z, torch.zeros(2, 2)), front)
    assert (turned[0] - front[0]).abs().mean() > 1e-3
    torch.testing.assert_close(generator(z, torch.tensor([[0.0, 2 * math.pi]] * 2))[0], front[0], atol=1e-4, rtol=0)


def test_generator_refuses_an_aperture_step_that_allows_infinite_depth():
    with pytest.raises(ValueError, match="aperture_step"):
        Generator(32, viewpoints=True, max_disparity=3.0, aperture_step=0.02)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of instance_norm's own size check
@pytest.mark.parametrize("blocks", ["plain", "residual"])
def test_traced_and_exported_generators_take_any_batch(blocks):
    """What exporters do with a generator of viewpoints: the frontal camera, and a batch that stays dynamic."""
    generator = Generator(16, z_dim=8, width=8, viewpoints=True, blocks=blocks).eval().requires_grad_(False)
    dynamic = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(generator, (torch.randn(2, 8),), dynamic_shapes=dynamic).module()
    traced = torch.jit.trace(generator, torch.randn(2, 8))
    z = torch.randn(5, 8)
    for form in (exported, traced):
        torch.testing.assert_close(tuple(form(z)), generator(z), atol=1e-5, rtol=1e-4)


def test_consistency_is_summed_over_both_directions_and_weighs_depth():
    """By hand, where nothing is hidden and nothing leaves the frame: two frontal views of planes at two depths."""
    camera = torch.zeros(2, 2, dtype=torch.float64)
    deep = torch.stack([torch.full((3, 8, 8), value, dtype=torch.float64) for value in (0.2, 0.5)])
    disparity = torch.stack([torch.full((1, 8, 8), value, dtype=torch.float64) for value in (0.0, 0.01)])
    apart = float((depth_of(disparity, STEP)[0] - depth_of(disparity, STEP)[1]).abs().mean())
    for geometry in (0.0, 1.0, 3.0):
        loss, compared = losses.consistency_loss(deep, disparity, camera, STEP, geometry)
        assert compared == 1
        assert float(loss) == pytest.approx(2 * (0.3 + geometry * apart))


def test_pitch_looks_from_above():
    """The scene's origin stays in the middle; what lies behind it, above: with y down, a smaller y."""
    size = 25
    position, depth = reproject(torch.full((1, 1, size, size), 1.3), torch.zeros(1, 2), torch.tensor([[0.3, 0.0]]))
    seen_at = 1 + 0.3 * math.cos(0.3)
    up = FOCAL_LENGTH * size * 0.3 * math.sin(0.3) / seen_at
    assert position[0, :, 12, 12].tolist() == pytest.approx([12, 12 - up], abs=1e-4)
    assert float(depth[0, 0, 12, 12]) == pytest.approx(seen_at)


def test_yaw_turns_first():
    both, yaw, pitch = (rotation(torch.tensor([angles])) for angles in ([0.2, 0.3], [0.0, 0.3], [0.2, 0.0]))
    torch.testing.assert_close(both, pitch @ yaw)
    assert not torch.allclose(both, yaw @ pitch, atol=1e-3)


def test_beyond_the_border_is_the_border_and_nothing_is_behind_the_camera():
    image = torch.rand(1, 1, 4, 4)
    corner = image[..., :1, :1].expand(1, 1, 4, 4)
    assert torch.equal(sample_at(image, torch.full((1, 2, 4, 4), -9.0)), corner)
    _, depth = reproject(torch.full((1, 1, 4, 4), 0.01), torch.zeros(1, 2), torch.tensor([[0.0, 1.5]]))
    assert depth.min() >= 0.1
    near = torch.full((1, 1, 4, 4), 0.3)
    torch.testing.assert_close(reproject(near, torch.zeros(1, 2), torch.zeros(1, 2))[1], near)


def test_the_field_of_view_is_rgbd_gans():
    assert math.degrees(2 * math.atan(0.5 / FOCAL_LENGTH)) == pytest.approx(28.07, abs=0.01)
