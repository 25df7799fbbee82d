"""Speed and memory of every back end of the rendering operations, each checked against the reference before."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from argan.errors import VerificationError
from argan.kernels import expand_rays, render_bokeh, render_light_field, warp_disparity, why_not_numba, why_not_triton
from argan.kernels.backend import interpreting
from argan.models.aperture import aperture_views

Call = Callable[..., Tensor]

LEARNED = 512  # px: the largest photo whose gradients are timed; checking them takes memory, in float64 on the CPU


@dataclass(frozen=True)
class Operation:
    """What is timed: `call(*inputs, impl=…)`; `tolerance` bounds its error before it is."""

    name: str
    size: str
    call: Call
    inputs: tuple[Tensor, ...]
    tolerance: float
    loops: bool = False  # whether Numba has any for it


def operations(side: int, device: torch.device) -> list[Operation]:
    """What training calls, which is light field rendering and T, and the photo renderer on a square photo."""
    random = torch.Generator().manual_seed(0)
    views = aperture_views().to(device)
    image = torch.rand(8, 3, 64, 64, generator=random).to(device)
    rays = 3 * torch.randn(8, len(views), 64, 64, generator=random).to(device)
    weights = [torch.randn(len(views), len(views), 3, 3, generator=random).to(device) / len(views) for _ in range(3)]
    ramp = torch.linspace(-3, 3, 64).expand(8, 1, 64, 64).contiguous().to(device)  # of one slope: see `_error`
    light_field, depth_size = (f"8x{channels}x64x64, {len(views)} views" for channels in (3, 1))
    part = min(side, LEARNED)

    def scene(side: int) -> tuple[Tensor, Tensor]:
        photo = torch.rand(1, 3, side, side, generator=random)
        disparity = torch.linspace(0, 1, side).expand(1, 1, side, side).contiguous()
        return photo.to(device), disparity.to(device)

    def bokeh(photo: Tensor, disparity: Tensor, *, impl: str) -> Tensor:
        return render_bokeh(photo, disparity, 0.01 * photo.shape[-1], 0.5, impl=impl)

    def expand(rays: Tensor, *weights: Tensor, impl: str) -> Tensor:
        return expand_rays(rays, weights, impl=impl)

    warped, rendered = partial(gradients, warp_disparity, 1), partial(gradients, render_light_field, 2)
    expanded, blurred = partial(gradients, expand, 4), partial(gradients, bokeh, 2)

    return [
        Operation("warp_disparity", depth_size, warp_disparity, (ramp, views), 1e-4),
        Operation("warp_disparity, forward and backward", depth_size, warped, (ramp, views), 1e-3),
        Operation("render_light_field", light_field, render_light_field, (image, rays, views), 1e-4),
        Operation("render_light_field, forward and backward", light_field, rendered, (image, rays, views), 1e-3),
        Operation("expand_rays, forward and backward", f"8x{len(views)}x64x64", expanded, (rays, *weights), 5e-3),
        Operation("render_bokeh", f"1x3x{side}x{side}", bokeh, scene(side), 1e-3, loops=True),
        Operation("render_bokeh, forward and backward", f"1x3x{part}x{part}", blurred, scene(part), 1e-3),
    ]


def gradients(call: Call, learned: int, *inputs: Tensor, impl: str) -> Tensor:
    """Forward and backward: the gradients of the sum of squares, to the first `learned` inputs, one after the other."""
    inputs = tuple(value.detach().requires_grad_(index < learned) for index, value in enumerate(inputs))
    loss = call(*inputs, impl=impl).square().sum()
    return torch.cat([grad.flatten() for grad in torch.autograd.grad(loss, inputs[:learned])])


def back_ends(device: torch.device) -> dict[str, str | None]:
    """Every back end, with the reason why it cannot be timed on `device`, or None."""
    reason = why_not_triton(device) or ("TRITON_INTERPRET emulates it" if interpreting() else None)
    return {"reference": None, "numba": why_not_numba(device), "triton": reason}


def measure(operation: Operation, impl: str, repeats: int) -> dict[str, float | str | None]:
    """One row: check the back end, then time it.

    Raises:
        VerificationError: it does not compute what the reference computes in float64.
    """
    error = _error(operation, impl)
    if not error <= operation.tolerance:
        raise VerificationError(f"{operation.name}: {impl} is wrong by {error:.2g} relative, and was not timed")
    run = partial(operation.call, *operation.inputs, impl=impl)
    seconds, memory = _time(run, repeats, operation.inputs[0].device)
    return {
        "operation": operation.name,
        "size": operation.size,
        "back end": impl,
        "median ms": 1e3 * statistics.median(seconds),
        "least ms": 1e3 * min(seconds),
        "GPU MB": memory,
        "error": error,
    }


def machine(device: torch.device) -> dict[str, str | int | float]:
    """What the numbers were measured on."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else "unknown",
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _error(operation: Operation, impl: str) -> float:
    """Relative L2 difference from the reference in float64 on the CPU.

    Not the largest difference: gradients jump where a ray crosses a pixel, to either side by rounding.
    """
    truth = operation.call(*(value.cpu().double() for value in operation.inputs), impl="reference")
    difference = operation.call(*operation.inputs, impl=impl).cpu().double() - truth
    return (difference.norm() / truth.norm()).item()


def _time(run: Callable[[], Tensor], repeats: int, device: torch.device) -> tuple[list[float], float | None]:
    """Seconds of each of `repeats` runs after a first one, and the peak of GPU memory in MB.

    On a CPU there is no such figure: a process's peak only rises, and the check has raised it.
    """
    on_gpu = device.type == "cuda"
    run()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in range(repeats):
        if on_gpu:
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        run()
        if on_gpu:
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return seconds, torch.cuda.max_memory_allocated(device) / 1e6 if on_gpu else None


def _cpu_name() -> str:
    """The CPU's model, where the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
