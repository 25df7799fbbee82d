"""What AR-GAN and RGBD-GAN minimise, term by term (Kaneko, CVPR 2021; Noguchi and Harada, ICLR 2020)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from argan.config import LossConfig
from argan.metrics import centre_prior
from argan.models.camera import depth_of, reproject, sample_at
from argan.models.generator import REFERENCE_RESOLUTION

Judge = Callable[[Tensor], Tensor]  # a discriminator: image (B, 3, S, S) -> logits (B,)

OCCLUSION_MARGIN = 0.05  # of the depth: a surface that much nearer hides the point; less is an error to learn from


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating: -log C(fake)."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-log C(real) - log(1 - C(fake))."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def relativistic_generator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Each generated image is to look more real than the photograph beside it (Jolicoeur-Martineau 2019)."""
    return F.softplus(real_logits - fake_logits).mean()


def relativistic_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The same game from the other side."""
    return F.softplus(fake_logits - real_logits).mean()


def gradient_penalty(discriminator: Judge, images: Tensor) -> Tensor:
    """R1 at photographs, R2 at generated images (Mescheder et al. 2018): half the mean squared gradient of C there."""
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
    return 0.5 * gradient.square().sum(dim=(1, 2, 3)).mean()


def prior_loss(disparity: Tensor, config: LossConfig) -> Tensor:
    """The centre focus prior: mean (D - D_p)^2, D_p receding by `prior_slope` px a px beyond `prior_radius`.

    In px at 64 px, so that its weight means the same at every resolution.
    """
    resolution = disparity.shape[-1]
    prior = config.prior_slope * centre_prior(disparity, radius=config.prior_radius)
    return ((disparity - prior) * REFERENCE_RESOLUTION / resolution).square().mean()


def smoothness_loss(disparity: Tensor, image: Tensor, edge_sensitivity: float = 10.0) -> Tensor:
    """Edge-aware smoothness (Godard et al. 2017): |grad D| exp(-k |grad I|), where the image is flat D is too.

    A flat patch looks the same at any blur, so nothing else holds its depth.
    """
    image = image.detach()

    def along(dim: int) -> Tensor:
        edges = image.diff(dim=dim).abs().mean(dim=1, keepdim=True)
        return (disparity.diff(dim=dim).abs() * torch.exp(-edge_sensitivity * edges)).mean()

    return along(2) + along(3)


def consistency_loss(
    deep: Tensor, disparity: Tensor, camera: Tensor, aperture_step: float, geometry: float
) -> tuple[Tensor, Tensor]:
    """RGBD-GAN's 3D consistency of two views of the same scene, and the share of pixels that it compares.

    Every pixel is moved into the other view by its depth. Colour and depth found there, sampled bilinearly, must be its
    own: mean |I - I'(p')| + `geometry` x mean |d_moved - d'(p')|, summed over both directions. Pixels that leave the
    frame or are hidden behind a nearer surface of the other view count as zero.

    Args:
        deep: (B, 3, S, S), consecutive pairs of views of the same z.
        disparity: (B, 1, S, S), signed, px per aperture step. It is what is sampled: it is affine in the inverse
            depth, so on a plane bilinear sampling is exact.
        camera: (B, 2), pitch and yaw in rad.
        aperture_step: in orbit radii, see `argan.models.camera`.
        geometry: weight of depth, colour having 1.
    """
    other = _swap_pairs(torch.cat([deep, disparity], dim=1))
    position, moved_depth = reproject(depth_of(disparity, aperture_step), camera, _swap_pairs(camera))
    found = sample_at(other, position)
    found_depth = depth_of(found[:, 3:], aperture_step)
    inside = ((position >= 0) & (position <= deep.shape[-1] - 1)).all(dim=1, keepdim=True)
    visible = (inside & (found_depth > (1 - OCCLUSION_MARGIN) * moved_depth)).to(deep.dtype)
    color_error = (visible * (deep - found[:, :3]).abs()).mean()
    depth_error = (visible * (moved_depth - found_depth).abs()).mean()
    error = 2 * (color_error + geometry * depth_error)  # a mean over both directions: twice it is the sum
    return error, visible.mean()


def _swap_pairs(pairs: Tensor) -> Tensor:
    """(2 N, …): each with its neighbour."""
    return pairs.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
