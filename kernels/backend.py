"""Which implementation an operation runs, and the checks that every operation makes of its arguments."""

import functools
import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock
from typing import Any, NoReturn

import torch

IMPLEMENTATIONS = ("auto", "reference", "triton")  # and "numba", where an operation has it


class BackendUnavailable(RuntimeError):
    """The implementation that was asked for cannot run here; the message says why."""


def interpreting() -> bool:
    """True if Triton runs kernels in its interpreter, on any device (TRITON_INTERPRET=1 before the first launch)."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "y", "yes")


def why_not_triton(device: torch.device | str) -> str | None:
    """The reason why Triton kernels cannot run on tensors of `device`, or None if they can."""
    device = torch.device(device)
    if not _triton_installed():
        return "the package triton is not installed (its wheels are for Linux)"
    if interpreting():
        return None
    if device.type != "cuda":
        return f"Triton needs a CUDA device and the tensors are on {device} (TRITON_INTERPRET=1 emulates one, slowly)"
    if not torch.cuda.is_available():
        return "PyTorch finds no CUDA device"
    if torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 0):
        return f"Triton needs compute capability 8.0 and {torch.cuda.get_device_name(device)} has less"
    return None


def why_not_numba(device: torch.device | str) -> str | None:
    """The reason why loops compiled by Numba cannot run on tensors of `device`, or None if they can."""
    if torch.device(device).type != "cpu":
        return f"Numba's loops run on the CPU and the tensors are on {device}"
    return _why_no_numba()


def resolve(impl: str, device: torch.device | str, *, numba: bool = False) -> str:
    """Turn `impl` into "reference", "numba" or "triton" for tensors on `device`.

    "auto" is Triton on CUDA devices where it can run, Numba on the CPU where the operation has it (`numba`) and it is
    installed, and the reference elsewhere and in exported or traced graphs. Numba's loops record no gradients.
    Raises ValueError for an unknown name and BackendUnavailable if what was asked for cannot run.
    """
    names = (*IMPLEMENTATIONS, "numba") if numba else IMPLEMENTATIONS
    if impl not in names:
        raise ValueError(f"impl: expected one of {', '.join(names)}, got {impl!r}")
    device = torch.device(device)
    if impl == "auto":
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            return "reference"
        if device.type == "cuda" and why_not_triton(device) is None:
            return "triton"
        return "numba" if numba and why_not_numba(device) is None else "reference"
    why_not = {"triton": why_not_triton, "numba": why_not_numba}.get(impl)
    if why_not is not None and (reason := why_not(device)) is not None:
        raise BackendUnavailable(f"impl={impl!r} cannot run: {reason}")
    return impl


def check_tensors(**tensors: tuple[torch.Tensor, str]) -> None:
    """Check floating point tensors against named dimensions.

    `check_tensors(image=(image, "B C H W"), rays=(rays, "B V H W"))`: a letter stands for one size throughout the call,
    a number for itself. Raises TypeError (not a floating point tensor) or ValueError (number of dimensions, sizes,
    empty tensors, different devices); the message names the argument.
    """
    if torch.jit.is_tracing():  # sizes are tensors there, and a check of them would be baked into the graph
        return
    sizes: dict[str, int] = {}
    devices: dict[str, torch.device] = {}
    for name, (tensor, dimensions) in tensors.items():
        wanted = dimensions.split()
        shape = f"({', '.join(wanted)})"
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name}: expected a tensor {shape}, got {type(tensor).__name__}")
        if not tensor.is_floating_point():
            raise TypeError(f"{name}: expected a floating point tensor {shape}, got {tensor.dtype}")
        if tensor.ndim != len(wanted):
            raise ValueError(f"{name}: expected {shape}, got {tuple(tensor.shape)}")
        for dimension, size in zip(wanted, tensor.shape, strict=True):
            expected = int(dimension) if dimension.isdigit() else sizes.setdefault(dimension, size)
            if size != expected:
                which = "" if dimension.isdigit() else f" with {dimension} = {expected}"
                raise ValueError(f"{name}: expected {shape}{which}, got {tuple(tensor.shape)}")
            if size == 0:
                raise ValueError(f"{name}: expected {shape} with no empty dimension, got {tuple(tensor.shape)}")
        devices[name] = tensor.device
    if len(set(devices.values())) > 1:
        places = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise ValueError(f"expected all tensors on one device, got {places}")


def compute_dtype(*tensors: torch.Tensor) -> torch.dtype:
    """What an operation calculates in: float64 if any argument is float64, else float32."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def full_precision(device: torch.device) -> AbstractContextManager:
    """Operations calculate in `compute_dtype`, whatever torch.autocast has for matrix products and convolutions."""
    kind = torch.device(device).type
    cast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if cast else nullcontext()


class Setting:
    """A setting of the whole process that is changed for a while: the first to hold it reads what it was, and the last
    to leave, in whichever thread, sets it to that again."""

    def __init__(self, read: Callable[[], Any], write: Callable[[Any], None]):
        self.read, self.write = read, write
        self.lock, self.holders = Lock(), 0
        self.before: Any = None

    @contextmanager
    def held(self) -> Iterator[Any]:
        """Yields what the setting was before anyone changed it."""
        with self.lock:
            if not self.holders:
                self.before = self.read()
            self.holders += 1
        try:
            yield self.before
        finally:
            with self.lock:
                self.holders -= 1
                if not self.holders:
                    self.write(self.before)


def save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """For a torch op whose gradient takes all of its inputs, which are tensors."""
    ctx.save_for_backward(*inputs)


def refuse_to_differentiate(ctx: Any, *grads: Any) -> NoReturn:
    """For a torch op that is a gradient itself: it has none."""
    raise NotImplementedError("Triton kernels can be differentiated once; for more use impl='reference'")


def alert_not_deterministic(what: str, device: torch.device) -> None:
    """Obey torch.use_deterministic_algorithms for a result whose float additions happen in any order on a GPU."""
    if device.type != "cuda" or not torch.are_deterministic_algorithms_enabled():
        return
    message = f"{what} is not deterministic on CUDA (it adds atomically), and deterministic algorithms were asked for"
    if not torch.is_deterministic_algorithms_warn_only_enabled():
        raise RuntimeError(message)
    warnings.warn(message, stacklevel=2)


@functools.cache
def _triton_installed() -> bool:
    return importlib.util.find_spec("triton") is not None


@functools.cache
def _why_no_numba() -> str | None:
    """By importing it: it refuses versions of NumPy that it does not know."""
    try:
        import numba  # noqa: F401
    except ModuleNotFoundError:
        return 'the package numba is not installed (pip install "argan[fast]")'
    except ImportError as error:
        return f"the package numba cannot be imported: {error}"
    return None
