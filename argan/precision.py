"""How exactly convolutions are worked on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from argan.kernels.backend import Setting


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """cuDNN's in all 24 bits of float32, where it would take 11 of them: discs would differ from the CPU's."""
    with PRECISION.held():
        _set_precision("ieee")
        yield


def _precision() -> str:
    return torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]  # made as PyTorch is imported


def _set_precision(value: str) -> None:
    torch.backends.cudnn.conv.fp32_precision = value  # type: ignore[attr-defined]


PRECISION = Setting(_precision, _set_precision)
