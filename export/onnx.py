"""ONNX: one self-contained file at opset 18, from torch's dynamo exporter, run by ONNX Runtime.

Opset 18 is what torch's operator library is written in and what GridSample on WebGPU and CUDA takes; at 20, the
exporter's default, both fall back.
"""

import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnx.compose
import onnx_ir
import onnx_ir.passes.common
import onnxruntime
import torch
from torch import Tensor

from argan import __version__
from argan.errors import MissingError, VerificationError
from argan.export.metadata import metadata
from argan.export.targets import Axes, Inputs, Target, dynamic_shapes
from argan.export.verify import Runtime

OPSET = 18
IR_VERSION = 10  # the newest that ONNX Runtime 1.20 reads


def write_onnx(target: Target, path: Path) -> None:
    """Write `target` to `path`, weights and metadata inside, batch and sizes dynamic."""
    with _quiet():
        model = joined(target, [_traced(stage) if stage.traced else _exported(stage) for stage in target.stages()])
    strip(model)
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "argan", __version__
    onnx.helper.set_model_props(model, metadata(target))
    path.write_bytes(model.SerializeToString())


def _exported(target: Target) -> onnx.ModelProto:
    """By torch's exporter: it reasons about sizes, which takes it tenths of a second for every node."""
    program = torch.onnx.export(
        target,
        target.example(),
        dynamo=True,
        opset_version=OPSET,
        input_names=list(target.inputs),
        output_names=list(target.outputs),
        dynamic_shapes=dynamic_shapes(target),
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _traced(target: Target) -> onnx.ModelProto:
    """By torch's older exporter, which traces: for what is the same at every size, a second for a thousand nodes."""
    file = io.BytesIO()
    torch.onnx.export(
        target,
        target.example(),
        file,
        dynamo=False,
        opset_version=OPSET,
        input_names=list(target.inputs),
        output_names=list(target.outputs),
        dynamic_axes={**target.inputs, **target.outputs},
    )
    return folded(onnx.load_from_string(file.getvalue()))


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with all that is constant in it computed, by ONNX Runtime, and every constant stored once."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        folded = onnx.load(path)
    used = {node.domain for node in folded.graph.node}
    for entry in [entry for entry in folded.opset_import if entry.domain not in used]:
        folded.opset_import.remove(entry)
    once = onnx_ir.from_proto(folded)
    onnx_ir.passes.common.DeduplicateInitializersPass()(once)
    return onnx_ir.to_proto(once)


def joined(target: Target, models: list[onnx.ModelProto]) -> onnx.ModelProto:
    """One graph of `target`'s stages, which hand over to each other by the names of their inputs and outputs."""
    graph = onnx.GraphProto(name=target.name)
    inputs, outputs = {}, {}
    for stage, model in zip(target.stages(), models, strict=True):
        if len(models) > 1:
            own = {"rename_inputs": False, "rename_outputs": False}
            model = onnx.compose.add_prefix(model, f"{stage.name}/", **own)
        graph.node.extend(model.graph.node)
        graph.initializer.extend(model.graph.initializer)
        inputs.update({value.name: value for value in model.graph.input})
        outputs.update({value.name: value for value in model.graph.output})
    graph.input.extend(_named_axes(inputs[name], axes) for name, axes in target.inputs.items())
    graph.output.extend(_named_axes(outputs[name], axes) for name, axes in target.outputs.items())
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])


def open_onnx(target: Target, path: Path, device: torch.device) -> Iterator[tuple[str, Runtime]]:
    """Check the file's interface, then yield it in ONNX Runtime, with every optimisation and with none.

    Raises:
        VerificationError: the file is not the valid, self-contained graph that the target describes.
        MissingError: ONNX Runtime cannot use `device`.
    """
    check_interface(target, path)
    levels = onnxruntime.GraphOptimizationLevel
    for name, level in {"optimised": levels.ORT_ENABLE_ALL, "as written": levels.ORT_DISABLE_ALL}.items():
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        options.log_severity_level = 3
        yield name, _runtime(onnxruntime.InferenceSession(path, options, providers=_providers(device)), device)


def check_interface(target: Target, path: Path) -> None:
    """Names, order, axis names and types of all inputs and outputs, the opset, and that the file is whole."""
    try:
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # onnx and protobuf have no common class of errors
        raise VerificationError(f"not a valid ONNX file: {error}") from error
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets != {"": OPSET}:
        raise VerificationError(f"operator sets {opsets} instead of ONNX {OPSET} alone")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise VerificationError("weights lie outside the file")
    for kind, expected, values in (
        ("inputs", target.inputs, model.graph.input),
        ("outputs", target.outputs, model.graph.output),
    ):
        found = {value.name: _dynamic_axes(value) for value in values}
        if found != expected or list(found) != list(expected):
            raise VerificationError(f"{kind} are {found} instead of {expected}")
        if any(value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT for value in values):
            raise VerificationError(f"{kind} are not all float32")


def strip(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes on nodes and values: source lines and absolute paths of the exporting machine."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _named_axes(value: onnx.ValueInfoProto, axes: Axes) -> onnx.ValueInfoProto:
    """The axes named as the target names them; the exporters leave expressions of other axes in outputs."""
    for axis, name in axes.items():
        value.type.tensor_type.shape.dim[axis].dim_param = name
    return value


def _dynamic_axes(value: onnx.ValueInfoProto) -> Axes:
    dims = value.type.tensor_type.shape.dim
    return {axis: dim.dim_param for axis, dim in enumerate(dims) if not dim.HasField("dim_value")}


def _providers(device: torch.device) -> list[str | tuple[str, dict[str, str]]]:
    if device.type == "cpu":
        return ["CPUExecutionProvider"]
    # TF32 keeps 10 bits of mantissa: it would be measured as an error of the export.
    options = {"device_id": str(device.index or 0), "use_tf32": "0"}
    return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]


def _runtime(session: onnxruntime.InferenceSession, device: torch.device) -> Runtime:
    if device.type == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise MissingError("ONNX Runtime could not start its CUDA provider", hint="argan doctor")
    names = [value.name for value in session.get_inputs()]

    def run(inputs: Inputs) -> tuple[Tensor, ...]:
        feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return tuple(torch.from_numpy(output) for output in session.run(None, feed))

    return run


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's notices; what matters of them is verified."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
