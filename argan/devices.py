"""Where work runs: what was asked for, or an error that says why not."""

import torch

from argan.errors import MissingError, UsageError


def resolve_device(name: str = "auto") -> torch.device:
    """ "auto" is the first GPU, else the CPU; "cpu", "cuda" and "cuda:N" are taken at their word.

    Raises:
        MissingError: a GPU was asked for that is not here.
        UsageError: there is no such kind of device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and (kind == "cpu" or not index.isdigit())):
        raise UsageError(f"no device {name!r}", hint="auto, cpu, cuda or cuda:N")
    if kind == "cuda" and (count := torch.cuda.device_count()) <= int(index or 0):
        raise MissingError(
            f"{name} was asked for, and there are {count} CUDA devices", hint="--device cpu, or: argan doctor"
        )
    return torch.device(name)
