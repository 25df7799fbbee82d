"""The written ONNX graphs are good, not only valid: nothing in them is there twice or without need."""

import onnx
import pytest

FORBIDDEN = {"ScatterND", "ScatterElements", "Loop", "If", "Scan", "Identity", "Constant", "NonZero"}
REPEATED = {"Transpose", "Cast"}  # of which two in a row are one


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_graph_holds_nothing_needless(exported, target, precision):
    graph = onnx.load(exported(target, "onnx", precision).path)
    assert list(needless(graph)) == []
    samples = [node.op_type for node in graph.graph.node if node.op_type == "GridSample"]
    assert bool(samples) == (target == "generator")


def test_what_is_needless_is_found(exported):
    graph = onnx.load(exported("depth", "onnx").path)
    twice = graph.graph.node.add()
    twice.CopyFrom(graph.graph.node[-2])
    twice.output[0] = "again"
    constant = graph.graph.initializer.add()
    constant.CopyFrom(onnx.helper.make_tensor("double", onnx.TensorProto.DOUBLE, [1], [1.0]))
    found = list(needless(graph))
    assert any("float64" in one for one in found)
    assert sum("is not used" in one for one in found) == 2
    assert any(one.startswith(twice.op_type) for one in found)


def needless(model):
    """Everything that is in the graph without need: float64, what is there twice, what undoes or repeats itself."""
    graph, makers, seen = model.graph, {}, {}
    for tensor in graph.initializer:
        content = onnx.TensorProto()
        content.CopyFrom(tensor)
        content.ClearField("name")
        yield from once(seen, content.SerializeToString(deterministic=True), f"constant {tensor.name}")
        if tensor.data_type == onnx.TensorProto.DOUBLE:
            yield f"constant {tensor.name} is float64"
    used = {name for node in graph.node for name in node.input}
    for node in graph.node:
        content = onnx.NodeProto()
        content.CopyFrom(node)
        content.ClearField("name")
        content.ClearField("output")
        yield from once(seen, content.SerializeToString(deterministic=True), f"{node.op_type} {node.name}")
        before = makers.get(node.input[0]) if node.input else None
        if node.op_type in FORBIDDEN:
            yield f"{node.op_type} {node.name}"
        if node.op_type in REPEATED and before is not None and before.op_type == node.op_type:
            yield f"{node.op_type} {node.name} of a {before.op_type}"
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == onnx.TensorProto.DOUBLE:
                yield f"Cast {node.name} to float64"
            if node.op_type == "Transpose" and list(attribute.ints) == sorted(attribute.ints):
                yield f"Transpose {node.name} moves nothing"
        makers |= dict.fromkeys(node.output, node)
    kept = used | {value.name for value in graph.output}
    yield from (f"constant {tensor.name} is not used" for tensor in graph.initializer if tensor.name not in kept)
    yield from (f"{node.op_type} {node.name} is not used" for node in graph.node if not kept & set(node.output))


def once(seen, content, what):
    if content in seen:
        yield f"{what} is {seen[content]}"
    seen.setdefault(content, what)
