"""An ONNX file opened in ONNX Runtime, on the device that was asked for or not at all."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from argan.devices import parse_device
from argan.errors import ArganError, MissingError, UsageError

OURS = "argan export writes files that it runs"
THEIRS = "how it takes a picture: --model-input size=WxH, layout=nhwc, …"
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}


class Session:
    """One graph, ready to run.

    Attributes:
        path: the file.
        device: "cpu" or "cuda:N": where its provider is active.
        metadata: the file's own entries, texts.
        inputs, outputs: names in order, each with its shape: a number, or None where an axis takes any size.
        dtypes: of the inputs, by name.
    """

    def __init__(self, path: Path, device: str = "auto"):
        """Open `path`. "auto" is the GPU where ONNX Runtime can use it, else the CPU.

        Raises:
            UsageError: there is no such file or kind of device.
            ArganError: it is no ONNX file that this ONNX Runtime can run.
            MissingError: the device was asked for and its provider could not be started.
        """
        if not path.is_file():
            raise UsageError(f"no model {path}", hint="argan export --format onnx writes one")
        kind, index = parse_device(device)
        self.path = path
        fault = _load_cuda() if kind != "cpu" else ""
        self._session = _open(path, kind, index)
        active = self._session.get_providers()[0]
        if kind == "cuda" and active != CUDA:
            raise MissingError(
                f"{device} was asked for, and ONNX Runtime could not start its CUDA provider{fault}",
                hint="--device cpu, or: argan doctor",
            )
        self._place = ("cuda", index) if active == CUDA else ("cpu", 0)
        self.device = f"cuda:{index}" if active == CUDA else "cpu"
        with _one_line(path):  # texts that are not UTF-8
            self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
            self.inputs = {value.name: _shape(value) for value in self._session.get_inputs()}
            self.outputs = {value.name: _shape(value) for value in self._session.get_outputs()}
        for value in self._session.get_outputs():
            if "bfloat16" in value.type:
                raise ArganError(f"{path}: its output {value.name} is {value.type}", hint="numpy has no such numbers")
        self.dtypes = {value.name: _dtype(path, value) for value in self._session.get_inputs()}

    def put(self, values: np.ndarray) -> Any:
        """An array on the session's device, to be given to `run` as often as wanted."""
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(values), *self._place)

    def run(self, *inputs: Any) -> list[Any]:
        """Run the graph on arrays, or what `put` or another `run` on this device gave; outputs stay on the device.

        Arrays take the types of the inputs. `.numpy()` of an output brings it to the CPU.
        """
        binding = self._session.io_binding()
        for (name, dtype), value in zip(self.dtypes.items(), inputs, strict=True):
            value = self.put(value.astype(dtype, copy=False)) if isinstance(value, np.ndarray) else value
            binding.bind_ortvalue_input(name, value)
        for name in self.outputs:
            binding.bind_output(name, *self._place)
        with _one_line(self.path, OURS if "argan.target" in self.metadata else THEIRS):
            self._session.run_with_iobinding(binding)
        return list(binding.get_outputs())


def _load_cuda() -> str:
    """Load CUDA's libraries from their Python packages, where torch has not; ": " and what was not found, or ""."""
    if CUDA not in onnxruntime.get_available_providers():
        return ": this onnxruntime was built without it"
    said = StringIO()
    with redirect_stdout(said):
        onnxruntime.preload_dlls()
    return "".join(f": {line}" for line in said.getvalue().splitlines()[:1])


def _open(path: Path, kind: str, index: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is said below, in one line
    options.enable_mem_pattern = False  # it sets the second run's memory aside beside the first one's: twice as much
    # To plan which tensors share memory, each of unknown size is compared with all that were freed before it: nine
    # tenths of the time that a graph of any size takes to open. The arena gives freed memory out again all the same.
    options.enable_mem_reuse = False
    providers: list[Any] = [CPU]
    if kind != "cpu" and CUDA in onnxruntime.get_available_providers():
        onnxruntime.set_default_logger_severity(4)
        providers = [(CUDA, {"device_id": str(index)}), CPU]
    with _one_line(path):
        return onnxruntime.InferenceSession(path, options, providers=providers)


def _shape(value: Any) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) and size > 0 else None for size in value.shape)


def _dtype(path: Path, value: Any) -> type[np.generic]:
    if value.type not in DTYPES:
        raise ArganError(f"{path}: its input {value.name} is {value.type}", hint=f"argan feeds {', '.join(DTYPES)}")
    return DTYPES[value.type]


@contextmanager
def _one_line(path: Path, hint: str = OURS) -> Iterator[None]:
    """What ONNX Runtime raises (it has no class of its own for it), as one line that names the file."""
    try:
        yield
    except Exception as error:
        text = re.sub(
            r"^\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed:|\S+\.(h|cc):\d+ .*\) ", "", str(error)
        )
        text = " ".join(text.split())[:200] or type(error).__name__
        raise ArganError(f"{path}: ONNX Runtime: {text}", hint) from error
