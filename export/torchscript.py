"""TorchScript, for LibTorch programs that exist already; PyTorch calls it legacy. New C++ is better off with ONNX."""

import json
import warnings
from io import BytesIO
from pathlib import Path

import torch

from argan.export.metadata import METADATA_FILE, metadata
from argan.export.targets import Target


def write_torchscript(target: Target, path: Path) -> None:
    """Write `target` to `path` as a traced graph of PyTorch's own operations; sizes stay dynamic."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and the tracer warns of Python branches: see verify
        traced = torch.jit.trace(target.worked(), target.example(), check_trace=False)
        buffer = BytesIO()  # a file's own name, which is a temporary one here, would stand inside
        torch.jit.save(traced, buffer, _extra_files={METADATA_FILE: json.dumps(metadata(target))})
    path.write_bytes(buffer.getvalue())
