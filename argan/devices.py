"""Where work runs: what was asked for, or an error that says why not."""

from typing import TYPE_CHECKING

from argan.errors import MissingError, UsageError

if TYPE_CHECKING:
    import torch


def parse_device(name: "str | torch.device") -> tuple[str, int]:
    """ "auto", "cpu", "cuda" or "cuda:N" -> kind and index.

    Raises:
        UsageError: there is no such kind of device.
    """
    kind, _, index = (name := str(name)).partition(":")
    if kind not in ("auto", "cpu", "cuda") or (":" in name and (kind != "cuda" or not index.isdecimal())):
        raise UsageError(f"no device {name!r}", hint="auto, cpu, cuda or cuda:N")
    return kind, int(index or 0)


def resolve_device(name: "str | torch.device" = "auto") -> "torch.device":
    """ "auto" is the first CUDA device, else the CPU, as on a Mac; "cpu", "cuda" and "cuda:N" are taken at their word.

    Raises:
        MissingError: a GPU was asked for that is not here.
        UsageError: there is no such kind of device.
    """
    import torch

    kind, index = parse_device(name)
    if kind == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cuda" and (count := torch.cuda.device_count()) <= index:
        raise MissingError(f"{name} was asked for; CUDA devices here: {count}", hint="--device cpu, or: argan doctor")
    return torch.device(name)
