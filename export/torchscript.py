"""TorchScript, for LibTorch programs that exist already; PyTorch calls it legacy. New C++ is better off with ONNX."""

import json
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import torch

from argan.export.metadata import METADATA_FILE, metadata
from argan.export.targets import Inputs, Target
from argan.export.verify import Runtime, as_tuple


def write_torchscript(target: Target, path: Path) -> None:
    """Write `target` to `path` as a traced graph of PyTorch's own operations; sizes stay dynamic."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and the tracer warns of Python branches: see verify
        traced = torch.jit.trace(target.worked(), target.example(), check_trace=False)
        buffer = BytesIO()  # a file's own name, which is a temporary one here, would stand inside
        torch.jit.save(traced, buffer, _extra_files={METADATA_FILE: json.dumps(metadata(target))})
    path.write_bytes(buffer.getvalue())


def open_torchscript(target: Target, path: Path, device: torch.device) -> Iterator[tuple[str, Runtime]]:
    """The file as torch.jit.load reads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.load(path, map_location=device)

    def run(inputs: Inputs) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            outputs = as_tuple(module(*(value.to(device) for value in inputs)))
        return tuple(output.cpu() for output in outputs)

    yield "torch.jit", run
