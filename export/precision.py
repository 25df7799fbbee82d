"""What a file computes in, and how far it may then be from PyTorch in float32.

fp32    all of it
fp16    what is most of the work, in half precision: the networks, and the renderer's pyramid (`Target.in_half`). Light,
        curves, the guided filter and GridSample stay in float32, and so do all inputs and outputs.
int8    the convolutions of the depth estimator, in 8 bits (int8.py); all else stays in float32
"""

import copy
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Precision:
    """One that files can have.

    Attributes:
        what: one line for people.
        largest: accepted max|exported - PyTorch| / max|PyTorch| of every output.
        mean: accepted mean|exported - PyTorch| / max|PyTorch| of every output.
    """

    what: str
    largest: float
    mean: float


PRECISIONS = {
    "fp32": Precision("float32", largest=1e-3, mean=1e-3),
    "fp16": Precision("networks and renderer in half precision", largest=2e-2, mean=1e-3),
    "int8": Precision("the depth estimator's convolutions in 8 bits", largest=0.25, mean=2e-2),
}


class Half(nn.Module):
    """A module worked in half precision, between float32."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module.half()

    def forward(self, *inputs: Any) -> Any:
        outputs = self.module(*(value.half() for value in inputs))
        return tuple(value.float() for value in outputs) if isinstance(outputs, tuple) else outputs.float()


def in_half(module: nn.Module, parts: tuple[str, ...]) -> nn.Module:
    """A copy of `module` with these submodules in half precision."""
    module = copy.deepcopy(module)
    for name in parts:
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, Half(module.get_submodule(name)))
    return module
