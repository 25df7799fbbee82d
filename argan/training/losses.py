"""What AR-GAN minimises, term by term (Kaneko, CVPR 2021)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from argan.config import LossConfig
from argan.metrics import center_prior
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


def prior_loss(disparity: Tensor, config: LossConfig) -> Tensor:
    """The centre focus prior: mean (D - D_p)^2, D_p receding by `prior_slope` px a px beyond `prior_radius`.

    In px at 64 px, so that its weight means the same at every resolution.
    """
    resolution = disparity.shape[-1]
    prior = config.prior_slope * center_prior(resolution, radius=config.prior_radius).to(disparity.device)
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
