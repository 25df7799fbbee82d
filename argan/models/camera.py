"""Viewpoints: a pinhole camera on an orbit around the scene, and where one view's pixels lie in another view.

After RGBD-GAN (Noguchi and Harada, ICLR 2020). The orbit has radius 1: its centre, the scene's origin, lies at depth 1
on the optical axis of every camera. The plane there is AR-GAN's focal plane, which ties metric depth d to signed
disparity D: two points of the lens, one aperture step b apart, see a point at depth d displaced by

    D = a (1 / d - 1),   a = f b,

where f is the focal length in px. So D = 0 at d = 1 and D > 0 in front of it; D is bounded by less than a, so that
every d is positive. (RGBD-GAN has an unbounded depth and a penalty where it comes too near.)
"""

import torch
import torch.nn.functional as F
from torch import Tensor

FOCAL_LENGTH = 2.0  # image widths, as in RGBD-GAN: a field of view of 28 degrees
POSE_FEATURES = 4


def pose_features(camera: Tensor) -> Tensor:
    """camera (B, 2), pitch and yaw in rad -> (B, 4), zero at the frontal camera and without a seam at a full turn."""
    return torch.cat([camera.cos() - 1, camera.sin()], dim=1)


def rotation(camera: Tensor) -> Tensor:
    """camera (B, 2), pitch and yaw in rad -> R (B, 3, 3); a scene point X has camera coordinates R X + (0, 0, 1).

    x points right, y down, z away from the camera. Yaw turns about the vertical axis first, then pitch about the
    horizontal one.
    """
    pitch, yaw = camera.unbind(1)
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    turn = torch.stack([yaw.cos(), zero, yaw.sin(), zero, one, zero, -yaw.sin(), zero, yaw.cos()], dim=1)
    tilt = torch.stack([one, zero, zero, zero, pitch.cos(), -pitch.sin(), zero, pitch.sin(), pitch.cos()], dim=1)
    return tilt.view(-1, 3, 3) @ turn.view(-1, 3, 3)


def depth_of(disparity: Tensor, aperture_step: float) -> Tensor:
    """Signed disparity (B, 1, S, S), px per aperture step -> depth in orbit radii, d = 1 / (1 + D / a)."""
    return 1 / (1 + disparity / (FOCAL_LENGTH * disparity.shape[-1] * aperture_step))


def reproject(depth: Tensor, here: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Where the pixels of one view lie in another one.

    Args:
        depth: (B, 1, S, S), of the view that is left, in orbit radii.
        here, there: (B, 2), the two cameras; pitch and yaw in rad.

    Returns:
        position (B, 2, S, S): x and y in px of the other view, 0 at the middle of its first pixel.
        depth (B, 1, S, S): seen from there.
    """
    size = depth.shape[-1]
    middle, focal = (size - 1) / 2, FOCAL_LENGTH * size
    offset = (torch.arange(size, device=depth.device, dtype=depth.dtype) - middle) / focal
    y, x = torch.meshgrid(offset, offset, indexing="ij")
    rays = torch.stack([x, y, torch.ones_like(x)])
    center = torch.eye(3, device=depth.device, dtype=depth.dtype)[2].view(1, 3, 1)
    turned = rotation(there) @ rotation(here).transpose(1, 2)
    points = turned @ ((depth * rays).flatten(2) - center) + center
    x, y, depth_there = points.unflatten(2, (size, size)).split(1, dim=1)
    depth_there = depth_there.clamp(min=0.1)  # nothing that a generator makes comes nearer than that
    return torch.cat([x, y], dim=1) / depth_there * focal + middle, depth_there


def sample_at(image: Tensor, position: Tensor) -> Tensor:
    """image (B, C, S, S) at position (B, 2, S, S) in px, bilinear, beyond the border the border: (B, C, S, S)."""
    grid = (2 * position + 1) / image.shape[-1] - 1
    return F.grid_sample(image, grid.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)
