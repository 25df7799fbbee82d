"""The formats that targets can be written in: one row each, which the command line and the exporter both read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from argan.export.onnx import open_onnx, write_onnx
from argan.export.pt2 import open_pt2, write_pt2
from argan.export.targets import Target
from argan.export.torchscript import open_torchscript, write_torchscript
from argan.export.verify import Runtime


@dataclass(frozen=True)
class Format:
    """How a format is written and read back.

    Attributes:
        suffix: of its files.
        what: one line for people.
        write: target, path -> None.
        open: target, path, device -> the file in its own runtime, once for each way of running it.
    """

    suffix: str
    what: str
    write: Callable[[Target, Path], None]
    open: Callable[[Target, Path, torch.device], Iterator[tuple[str, Runtime]]]


FORMATS = {
    "onnx": Format(
        suffix=".onnx",
        what="ONNX opset 18, for ONNX Runtime, TensorRT, OpenVINO and browsers",
        write=write_onnx,
        open=open_onnx,
    ),
    "torchscript": Format(
        suffix=".pt",
        what="TorchScript, for LibTorch programs that exist already (legacy: PyTorch has deprecated it)",
        write=write_torchscript,
        open=open_torchscript,
    ),
    "pt2": Format(
        suffix=".pt2",
        what="torch.export program, for PyTorch and its compilers",
        write=write_pt2,
        open=open_pt2,
    ),
}
