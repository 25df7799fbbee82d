"""Sizes of pictures, computed so that every exporter keeps them dynamic."""

from typing import Any

import torch


def plain(size: Any, least: int) -> Any:
    """`size`, of which torch.export is to know no more than that it is `least` or more: a fresh symbol.

    It reasons about all sizes of a graph, and again when the file is loaded. A formula that all further sizes are made
    from costs it minutes, a symbol seconds. What may be 1 it cannot resize with anti-aliasing: that asks whether there
    is more than one pixel. The program stops where a size is less. Numbers, and tensors of torch.jit.trace, stay.
    """
    if torch.compiler.is_exporting() and isinstance(size, torch.SymInt):
        size = torch.scalar_tensor(size, dtype=torch.int64).item()  # type: ignore[arg-type]
        torch._check(size >= least)
    return size


def smaller(a: Any, b: Any) -> Any:
    """min(a, b) of sizes: tensors to torch.jit.trace, symbols to torch.export. The built-in would freeze them."""
    return torch.minimum(a, b) if torch.jit.is_tracing() else torch.sym_min(a, b)


def larger(a: Any, b: Any) -> Any:
    """max(a, b) of sizes, as `smaller`."""
    return torch.maximum(a, b) if torch.jit.is_tracing() else torch.sym_max(a, b)
