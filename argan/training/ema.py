"""Exponential moving average of a network's weights: what is shown, measured and shipped."""

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

Averaged = TypeVar("Averaged", bound=nn.Module)


class Average(Generic[Averaged]):
    """The average of `module`, with a half-life in images; short at first, so that the start is soon forgotten."""

    def __init__(self, module: Averaged, half_life: float):
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.half_life = half_life

    @torch.no_grad()
    def update(self, module: nn.Module, batch: int, step: int) -> None:
        half_life = min(self.half_life, 0.05 * batch * (step + 1))
        decay = 0.5 ** (batch / max(half_life, 1e-8))
        torch._foreach_lerp_(list(self.module.parameters()), list(module.parameters()), 1 - decay)
        for average, buffer in zip(self.module.buffers(), module.buffers(), strict=True):
            average.copy_(buffer)
