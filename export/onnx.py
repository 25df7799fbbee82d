"""ONNX: one self-contained file at opset 18, written by torch's exporters, run by ONNX Runtime.

Opset 18 is what GridSample on WebGPU and CUDA takes. torch's newer exporter (dynamo=True) reasons about every size in
the graph: half a minute of computing for what works on photos, where the older one traces for seconds. So targets with
dynamic sizes are traced (`Target.traced`), and verified at other sizes.
"""

import hashlib
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import onnx_ir.passes.common
import onnxscript.optimizer
import torch

from argan import __version__
from argan.errors import VerificationError
from argan.export.int8 import quantised
from argan.export.metadata import metadata
from argan.export.targets import Axes, Target, dynamic_shapes

OPSET = 18
CONTENT = "argan.content_sha256"
INT64_MIN = torch.iinfo(torch.int64).min
IR_VERSION = 10  # the newest that ONNX Runtime 1.20 reads


def write_onnx(target: Target, path: Path) -> None:
    """Write `target` to `path`, weights and metadata inside; what is dynamic the target says."""
    with _quiet():
        model = tidied(_traced(target) if target.traced else _exported(target))
        if target.precision == "int8":
            model = tidied(quantised(model, target))
    strip(model)
    _name_axes(model, target)
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "argan", __version__
    onnx.helper.set_model_props(model, {**metadata(target), CONTENT: content_checksum(model)})
    path.write_bytes(model.SerializeToString())


def _traced(target: Target) -> onnx.ModelProto:
    file = io.BytesIO()
    torch.onnx.register_custom_op_symbolic("aten::flip", _flip, OPSET)
    torch.onnx.export(
        target.worked(),
        target.example(),
        file,  # type: ignore[arg-type]  # it takes one
        dynamo=False,
        opset_version=OPSET,
        input_names=list(target.inputs),
        output_names=list(target.outputs),
        dynamic_axes=target.dynamic_axes,
    )
    return onnx.load_from_string(file.getvalue())


def _exported(target: Target) -> onnx.ModelProto:
    program = torch.onnx.export(
        target.worked(),
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


@torch.onnx.symbolic_helper.parse_args("v", "is")
def _flip(graph: Any, x: Any, axes: list[int]) -> Any:
    """A slice from the last to before the first, which ONNX says by INT64_MIN.

    The exporter takes one more, from which OpenVINO concludes that sizes end there, and overflows.
    """
    begin, end, axis, step = (
        graph.op("Constant", value_t=torch.tensor(value))
        for value in ([-1] * len(axes), [INT64_MIN] * len(axes), axes, [-1] * len(axes))
    )
    return graph.op("Slice", x, begin, end, axis, step)


def content_checksum(model: onnx.ModelProto) -> str:
    """SHA-256 of all that a file holds but its metadata, in which it is written down."""
    content = onnx.ModelProto()
    content.CopyFrom(model)
    content.ClearField("metadata_props")
    return hashlib.sha256(content.SerializeToString(deterministic=True)).hexdigest()


def tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with all that is constant in it computed, and every constant and every computation there once."""
    graph = onnx_ir.from_proto(model)
    # Padding begins with a ConstantOfShape, which is left unless asked for, and with it every size that follows.
    onnxscript.optimizer.fold_constants(
        graph, onnx_shape_inference=True, should_fold=lambda node: node.op_type == "ConstantOfShape" or None
    )
    passes = onnx_ir.passes.common
    for tidy in (
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedOpsetsPass(),
    ):
        tidy(graph)
    return onnx_ir.to_proto(graph)


def count_nodes(path: Path) -> int:
    """Of the graph in a file."""
    return len(onnx.load(path, load_external_data=False).graph.node)


def check_interface(target: Target, path: Path) -> None:
    """Names, order, axis names and types of all inputs and outputs, the opset, and that the file is whole."""
    try:
        model = onnx.load(path, load_external_data=False)
        outside = any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer)
        if not outside:  # of those the checker says that they are not there
            onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # onnx and protobuf have no common class of errors
        raise VerificationError(f"not a valid ONNX file: {error}") from error
    if outside:
        raise VerificationError("weights lie outside the file")
    entries = {entry.key: entry.value for entry in model.metadata_props}
    if entries.get(CONTENT) != content_checksum(model):
        raise VerificationError("the file has been changed since it was exported: its graph or weights are others")
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets != {"": OPSET}:
        raise VerificationError(f"operator sets {opsets} instead of ONNX {OPSET} alone")
    for kind, expected, values in (
        ("inputs", target.inputs, model.graph.input),
        ("outputs", target.outputs, model.graph.output),
    ):
        expected = {name: target.dynamic_axes[name] for name in expected}
        found = {value.name: _dynamic_axes(value) for value in values}
        if found != expected or list(found) != list(expected):
            raise VerificationError(f"{kind} are {found} instead of {expected}")
        if any(value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT for value in values):
            raise VerificationError(f"{kind} are not all float32")


def strip(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes on nodes and values: source lines and absolute paths of the exporting machine,
    and what every runtime finds out for itself."""
    graph = model.graph
    graph.ClearField("value_info")
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _name_axes(model: onnx.ModelProto, target: Target) -> None:
    """Outputs' axes named as the target names them, all others of their size; the exporter leaves names of its own."""
    for value, example in zip(model.graph.output, target.expected(target.example()), strict=True):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if axis in target.dynamic_axes[value.name]:
                dim.dim_param = target.dynamic_axes[value.name][axis]
            else:
                dim.dim_value = example.shape[axis]


def _dynamic_axes(value: onnx.ValueInfoProto) -> Axes:
    dims = value.type.tensor_type.shape.dim
    return {axis: dim.dim_param for axis, dim in enumerate(dims) if not dim.HasField("dim_value")}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's notices; what matters of them is verified."""
    loggers = [logging.getLogger(name) for name in ("", "torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
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
