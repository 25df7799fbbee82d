"""Sizes of pictures, as exporters see them."""

from typing import Any

import torch


def plain(size: Any, least: int) -> Any:
    """A size, `least` or more; where torch.export has a formula for it, as a fresh symbol.

    torch.export reasons about all sizes of a graph, and again when the file is loaded. A formula that all further
    sizes are made from costs it minutes, a symbol seconds.
    """
    if torch.compiler.is_exporting() and isinstance(size, torch.SymInt):
        size = torch.scalar_tensor(size, dtype=torch.int64).item()  # type: ignore[arg-type]
        torch._check(size >= least)
    return size
