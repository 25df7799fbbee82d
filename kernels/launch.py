"""Launching Triton kernels at a fraction of what `kernel[grid](...)` costs.

That finds out at every call which compiled kernel the arguments want: 60 microseconds and more, when a kernel of a
photo's slab runs for 20. Here it is found once for arguments of the same kinds, and kept.
"""

from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from argan.kernels.backend import interpreting

Argument = Tensor | int | float
COMPUTE_TYPES = {torch.float32: tl.float32, torch.float64: tl.float64}  # by `backend.compute_dtype`
_compiled: dict[tuple, tuple[Any, tuple]] = {}  # kernels, and their last arguments: constants


def launch(kernel: Any, programs: int, *arguments: Argument, **constants: Any) -> None:
    """Runs that many programs of a kernel on the device of the first argument, a tensor.

    arguments   in the kernel's order, before its constants. Numbers must not be specialised (`do_not_specialize`): one
                compiled kernel serves all of them
    constants   the kernel's tl.constexpr, and `num_warps` and the like

    Raises TypeError if the kernel specialises numbers.
    """
    first = arguments[0]
    assert isinstance(first, Tensor)
    if interpreting():
        kernel[(programs,)](*arguments, **constants)
        return
    if first.device.index != torch.cuda.current_device():
        with torch.cuda.device(first.device):
            launch(kernel, programs, *arguments, **constants)
        return
    key = id(kernel), first.device.index, *map(kind, arguments), *constants.values()
    found = _compiled.get(key)
    if found is None:
        refuse_specialised(kernel, arguments)
        compiled = kernel[(programs,)](*arguments, **constants)
        names = kernel.arg_names[len(arguments) :]
        _compiled[key] = compiled, tuple(constants[name] for name in names)
        return
    compiled, last = found
    compiled[(programs, 1, 1)](*arguments, *last)


def blocks(count: int, size: int) -> int:
    """How many programs it takes if each has so many; `triton.cdiv` takes 8 microseconds."""
    return -(-count // size)


def kind(argument: Argument) -> object:
    """What Triton compiles a kernel anew for: of tensors the type and alignment, of numbers what they are held in."""
    if isinstance(argument, Tensor):
        return argument.dtype, argument.data_ptr() % 16 == 0
    return type(argument) if isinstance(argument, float) or -(2**31) <= argument < 2**31 else "int64"


def refuse_specialised(kernel: Any, arguments: tuple[Argument, ...]) -> None:
    for parameter, argument in zip(kernel.params, arguments, strict=False):
        if not isinstance(argument, Tensor) and not parameter.do_not_specialize:
            raise TypeError(f"{kernel.__name__}: {parameter.name} is specialised")
