"""Small ONNX graphs made by hand: with the signatures of argan's exports, and in the conventions of depth models.

Their depth is arithmetic that a test can repeat, so that what is checked is the wiring, number by number.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RADIUS = 4  # px: the blur of `render` is a box of 2 RADIUS + 1


def value(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def constant(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.array(values, dtype), name)


def save(path: Path, nodes, inputs, outputs, constants=(), metadata=None):
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, metadata or {})
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return path


def argan_metadata(target, **entries):
    return {"argan.target": target, "argan.model": "tiny", "argan.focus": "0.25", **entries}


IMAGE = ["batch", 3, "height", "width"]
MAP = ["batch", 1, "height", "width"]

GREY = [helper.make_node("ReduceMean", ["image", "channel"], ["disparity"], keepdims=1)]
GREY_CONSTANTS = [constant("channel", [1], np.int64)]

# A box blur, mixed in by how large the disc would be: min(1, blur / 200 x long side x |d - f| / RADIUS).
BLUR = [
    helper.make_node("Shape", ["image"], ["shape"], start=2, end=4),
    helper.make_node("ReduceMax", ["shape"], ["long"], keepdims=1),
    helper.make_node("Cast", ["long"], ["long_side"], to=TensorProto.FLOAT),
    helper.make_node("Sub", ["disparity", "plane"], ["signed"]),
    helper.make_node("Abs", ["signed"], ["distance"]),
    helper.make_node("Mul", ["blur", "long_side"], ["percent"]),
    helper.make_node("Mul", ["percent", "unit"], ["per_disparity"]),
    helper.make_node("Mul", ["distance", "per_disparity"], ["discs"]),
    helper.make_node("Clip", ["discs", "zero", "one"], ["mix"]),
    helper.make_node(
        "AveragePool", ["image"], ["box"], kernel_shape=[2 * RADIUS + 1] * 2, pads=[RADIUS] * 4, count_include_pad=0
    ),
    helper.make_node("Sub", ["box", "image"], ["change"]),
    helper.make_node("Mul", ["change", "mix"], ["mixed"]),
    helper.make_node("Add", ["image", "mixed"], ["rendered"]),
]
BLUR_CONSTANTS = [constant("unit", 1 / (200 * RADIUS)), constant("zero", 0.0), constant("one", 1.0)]


def depth_file(folder: Path, name="depth.onnx", **metadata):
    """Disparity is the mean of the channels."""
    outputs = [value("disparity", MAP)]
    return save(
        folder / name, GREY, [value("image", IMAGE)], outputs, GREY_CONSTANTS, argan_metadata("depth", **metadata)
    )


def render_file(folder: Path, name="render.onnx", **metadata):
    inputs = [value("image", IMAGE), value("disparity", MAP), value("blur", [1]), value("focus", [1])]
    plane = helper.make_node("Identity", ["focus"], ["plane"])
    outputs = [value("rendered", IMAGE)]
    return save(folder / name, [plane, *BLUR], inputs, outputs, BLUR_CONSTANTS, argan_metadata("render", **metadata))


def pipeline_file(folder: Path, name="pipeline.onnx", **metadata):
    """Depth and blur in one graph; focus below 0 is the learned plane, 0.25."""
    inputs = [value("image", IMAGE), value("blur", [1]), value("focus", [1])]
    auto = [
        helper.make_node("Less", ["focus", "zero"], ["is_auto"]),
        helper.make_node("Where", ["is_auto", "learned", "focus"], ["plane"]),
    ]
    constants = [*GREY_CONSTANTS, *BLUR_CONSTANTS, constant("learned", 0.25)]
    outputs = [value("rendered", IMAGE), value("disparity", MAP)]
    return save(
        folder / name, [*GREY, *auto, *BLUR], inputs, outputs, constants, argan_metadata("pipeline", **metadata)
    )


# Depth models of others: each gives, for the picture x that it works on, r^2 + 10 g^2 + 100 b^2, so that a wrong mean,
# deviation, scale or order of channels shows, also after the affine map to [0, 1].

WEIGHTS = (1.0, 10.0, 100.0)


def quadratic(x: np.ndarray) -> np.ndarray:
    """What the look-alikes give for x (1, 3, h, w), in numpy: (h, w)."""
    return np.tensordot(np.array(WEIGHTS), x[0].astype(np.float64) ** 2, axes=1)


def _quadratic(source, output, channel_axis=1, keepdims=0):
    shape = [1, 3, 1, 1] if channel_axis == 1 else [1, 1, 1, 3]
    nodes = [
        helper.make_node("Mul", [source, source], ["squares"]),
        helper.make_node("Mul", ["squares", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "axis"], [output], keepdims=keepdims),
    ]
    return nodes, [constant("weights", np.reshape(WEIGHTS, shape)), constant("axis", [channel_axis], np.int64)]


def midas_official(path: Path, size=384):
    """As the MiDaS project exports: nameless tensors, a fixed square, ImageNet's normalisation inside."""
    nodes, constants = _quadratic("normal", "797")
    mean = constant("mean", np.reshape((0.485, 0.456, 0.406), (1, 3, 1, 1)))
    std = constant("std", np.reshape((0.229, 0.224, 0.225), (1, 3, 1, 1)))
    inside = [
        helper.make_node("Sub", ["0", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["normal"]),
    ]
    square = [value("0", [1, 3, size, size])], [value("797", [1, size, size])]
    return save(path, [*inside, *nodes], *square, [*constants, mean, std])


def midas_hub(path: Path, size=256, **metadata):
    """As people export MiDaS from torch.hub: the normalisation is left to the caller."""
    nodes, constants = _quadratic("input", "output")
    return save(
        path, nodes, [value("input", [1, 3, size, size])], [value("output", [1, size, size])], constants, metadata
    )


def bfloat16_output(path: Path):
    nodes, constants = _quadratic("input", "exact")
    rounded = helper.make_node("Cast", ["exact"], ["depth"], to=TensorProto.BFLOAT16)
    outputs = [value("depth", [1, 64, 64], TensorProto.BFLOAT16)]
    return save(path, [*nodes, rounded], [value("input", [1, 3, 64, 64])], outputs, constants)


def dpt(path: Path):
    """As Hugging Face's exporters write DPT: any size."""
    nodes, constants = _quadratic("pixel_values", "predicted_depth")
    sizes = ["batch", 3, "height", "width"], ["batch", "height", "width"]
    return save(path, nodes, [value("pixel_values", sizes[0])], [value("predicted_depth", sizes[1])], constants)


def depth_anything(path: Path):
    """Any size that patches of 14 px tile; the map is as coarse as the patches here."""
    nodes, constants = _quadratic("patches", "predicted_depth")
    kernel = np.zeros((3, 3, 14, 14))
    kernel[range(3), range(3)] = 1 / 14**2
    patches = helper.make_node("Conv", ["pixel_values", "kernel"], ["patches"], kernel_shape=[14, 14], strides=[14, 14])
    sizes = ["batch", 3, "height", "width"], ["batch", "rows", "columns"]
    values = [value("pixel_values", sizes[0])], [value("predicted_depth", sizes[1])]
    return save(path, [patches, *nodes], *values, [*constants, constant("kernel", kernel)])


def bytes_nhwc(path: Path, height=96, width=128):
    """As converters from TensorFlow write: bytes, channels last; the map keeps its channel."""
    nodes, constants = _quadratic("floats", "Identity:0", channel_axis=3, keepdims=1)
    cast = helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT)
    values = [value("image", [1, height, width, 3], TensorProto.UINT8)], [value("Identity:0", [1, height, width, 1])]
    return save(path, [cast, *nodes], *values, constants)


def two_outputs(path: Path):
    """A mask of the same size before the map of depth."""
    nodes, constants = _quadratic("pixel_values", "metric_depth")
    sky = helper.make_node("ReduceMax", ["pixel_values", "axis"], ["sky"], keepdims=0)
    sizes = ["batch", 3, "height", "width"], ["batch", "height", "width"]
    outputs = [value("sky", sizes[1]), value("metric_depth", sizes[1])]
    return save(path, [sky, *nodes], [value("pixel_values", sizes[0])], outputs, constants)


def beside(path: Path, name: str, nodes, output, constants=()):
    """DPT with another output before the map, which is called `name`."""
    inside, own = _quadratic("pixel_values", name)
    sizes = ["batch", 3, "height", "width"], ["batch", "height", "width"]
    outputs = [output, value(name, sizes[1])]
    return save(path, [*nodes, *inside], [value("pixel_values", sizes[0])], outputs, [*own, *constants])
