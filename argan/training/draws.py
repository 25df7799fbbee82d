"""What chance decides of a step: its seed, and of each sample the depth of field and where it is seen from."""

import torch
from torch import Tensor

from argan.config import Mixture, ModelConfig

LARGEST_MOVE = 0.5  # of the range, and rad: between the two views of a pair


def step_seed(seed: int, step: int) -> int:
    """A seed of its own for every (seed, step), in 32 bits: PyTorch's generator on the CPU looks at no more.

    Runs of other seeds are other stretches of one sequence, which an odd multiplier (2^32 over the golden ratio, Knuth)
    keeps far apart: 341,411 steps and more for seeds that differ by less than 10,000.
    """
    return (seed * 0x9E3779B1 + step) % 2**32


def draw_scale(batch: int, mixture: Mixture, generator: torch.Generator) -> Tensor:
    """DoF mixture learning: s ~ p(s), one draw a sample, (B,); s = 0 shows the deep image, s = 1 the shallow one."""
    uniform = torch.rand(batch, generator=generator)
    if mixture == "bernoulli":
        return (uniform < 0.5).float()
    return uniform if mixture == "uniform" else torch.full_like(uniform, float(mixture == "shallow"))


def draw_cameras(batch: int, model: ModelConfig, generator: torch.Generator) -> Tensor:
    """Pairs of viewpoints, one after the other: (B, 2), pitch and yaw in rad.

    RGBD-GAN: the first is uniform over the range, the second turned towards the front, and perhaps past it, by at most
    half of the range and 0.5 rad.
    """
    limits = torch.tensor([model.pitch, model.yaw])
    first = (2 * torch.rand(batch // 2, 2, generator=generator) - 1) * limits
    move = torch.rand(batch // 2, 2, generator=generator) * (LARGEST_MOVE * limits).clamp(max=LARGEST_MOVE)
    return torch.stack([first, first - first.sign() * move], dim=1).flatten(0, 1)


def draw_views(count: int, model: ModelConfig, generator: torch.Generator) -> Tensor | None:
    """A camera for each of `count` samples, as in training: (count, 2); None for a generator of one viewpoint."""
    return draw_cameras(count + count % 2, model, generator)[:count] if model.viewpoints else None
