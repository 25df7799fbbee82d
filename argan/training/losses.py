"""What AR-GAN minimises, term by term (Kaneko, CVPR 2021)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from argan.config import LossConfig
from argan.models.discriminator import Discriminator
from argan.models.generator import REFERENCE_RESOLUTION


def draw_scale(batch: int, config: LossConfig, generator: torch.Generator) -> Tensor:
    """DoF mixture learning: s ~ p(s), one draw a sample, (B,); s = 0 shows the deep image, s = 1 the shallow one."""
    uniform = torch.rand(batch, generator=generator)
    if config.mixture == "bernoulli":
        return (uniform < 0.5).float()
    if config.mixture == "uniform":
        return uniform
    return torch.full_like(uniform, config.fixed_scale)


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating: -log C(fake)."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-log C(real) - log(1 - C(fake))."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def gradient_penalty(discriminator: Discriminator, real: Tensor) -> Tensor:
    """R1 (Mescheder et al. 2018): half the mean squared gradient of C at real photographs."""
    real = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return 0.5 * gradient.square().sum(dim=(1, 2, 3)).mean()


def center_prior(resolution: int, config: LossConfig, device: torch.device | None = None) -> Tensor:
    """The centre focus prior D_p, (1, 1, S, S) in px per aperture step: 0 within a radius, receding beyond it.

    D_p(r) = -g max(r - r_th, 0), r the distance from the image's centre in px.
    """
    axis = torch.arange(resolution, device=device) - (resolution - 1) / 2
    radius = torch.sqrt(axis[:, None] ** 2 + axis[None, :] ** 2)
    return (-config.prior_slope * (radius - config.prior_radius * resolution).clamp(min=0))[None, None]


def prior_loss(disparity: Tensor, config: LossConfig) -> Tensor:
    """Mean (D - D_p)^2, in px at 64 px, so that its weight means the same at every resolution."""
    resolution = disparity.shape[-1]
    error = (disparity - center_prior(resolution, config, disparity.device)) * REFERENCE_RESOLUTION / resolution
    return error.square().mean()


def smoothness_loss(disparity: Tensor, image: Tensor) -> Tensor:
    """Edge-aware smoothness (Godard et al. 2017): |grad D| exp(-10 |grad I|), where the image is flat D is too.

    A flat patch looks the same at any blur, so nothing else holds its depth.
    """
    image = image.detach()

    def along(dim: int) -> Tensor:
        edges = image.diff(dim=dim).abs().mean(dim=1, keepdim=True)
        return (disparity.diff(dim=dim).abs() * torch.exp(-10 * edges)).mean()

    return along(2) + along(3)
