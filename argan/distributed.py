"""Training in several processes, started by torchrun: the same weights everywhere, gradients averaged, one that writes.

Every process draws the randomness of the whole batch and takes its own share of it, so that any number of processes
makes the same step. One process is the same code with nothing to exchange.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from argan.devices import resolve_device
from argan.errors import UsageError


def rank() -> int:
    """This process's number, 0 for the one that writes files."""
    return int(os.environ.get("RANK", 0))


def world() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_main() -> bool:
    return rank() == 0


@contextmanager
def process_group(device: str) -> Iterator[torch.device]:
    """This process's device, with all processes in touch (NCCL between GPUs, gloo between CPUs) for the block."""
    if world() > 1 and device.startswith("cuda:"):
        raise UsageError(f"torchrun gives each process its own GPU, not all {device}", hint="--device cuda")
    where = resolve_device(device)
    if world() > 1 and where.type == "cuda":
        where = resolve_device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}")
    if where.index is not None:
        torch.cuda.set_device(where)  # CUDA graphs record, and streams belong to, the current one
    if world() == 1:
        yield where
        return
    dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
    try:
        yield where
    finally:
        dist.destroy_process_group()


@contextmanager
def main_first() -> Iterator[None]:
    """The main process does the block before the others, which then find what it has left on the disk.

    They wait for a day, not for the ten minutes that GPUs wait for each other: decoding a large set takes longer.
    """
    if world() == 1:
        yield
        return
    patient = dist.new_group(backend="gloo", timeout=timedelta(days=1))
    if not is_main():
        dist.barrier(patient)
    yield
    if is_main():
        dist.barrier(patient)


def share(count: int) -> slice:
    """Which of a batch's `count` items are this process's."""
    own = count // world()
    return slice(rank() * own, (rank() + 1) * own)


def broadcast(modules: Iterable[nn.Module]) -> None:
    """Everyone starts from the main process's weights."""
    if world() > 1:
        for module in modules:
            for tensor in (*module.parameters(), *module.buffers()):
                dist.broadcast(tensor.detach(), src=0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """One flat all-reduce. A parameter without a gradient has one that is zero, in one process too: Adam counts it."""
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in learned:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if world() == 1:
        return
    gradients = [parameter.grad for parameter in learned if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world()
    parts = flat.split([gradient.numel() for gradient in gradients])
    for parameter, part in zip(learned, parts, strict=True):
        parameter.grad = part.view_as(parameter)


def agree(wish: bool, now: bool) -> bool:
    """Whether to stop: one process whenever it wishes to; several at steps where all say `now`, if any wishes to."""
    if world() == 1 or not now:
        return wish and world() == 1
    return _sums([float(wish)])[0] > 0


def average(values: dict[str, float]) -> dict[str, float]:
    """Each one's mean over the processes, all of which have values of the same names."""
    if world() == 1:
        return values
    return {name: total / world() for name, total in zip(values, _sums([*values.values()]), strict=True)}


def _sums(values: list[float]) -> list[float]:
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    totals = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(totals)
    return totals.tolist()


def batch_std(x: Tensor) -> Tensor:
    """Standard deviation over the whole batch, of which each process holds a part: (B, …) -> (…)."""
    if not dist.is_initialized():
        # Where nothing varies, as in a batch of one, the gradient of the root's gradient is not a number.
        varies = x.amax(dim=0) > x.amin(dim=0)
        return torch.where(varies, torch.where(varies, x, 0).std(dim=0, correction=0), 0)
    x = x.float()
    mean = _Sum.apply(x.mean(dim=0)) / world()
    return (_Sum.apply((x - mean).square().mean(dim=0)) / world() + 1e-12).sqrt()


class _Sum(torch.autograd.Function):
    """Sum over processes, differentiable as often as R1 needs it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _Sum.apply(grad.contiguous())
