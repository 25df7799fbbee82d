"""Precisions and sizes: what goes with what, what it costs, what such files say and hold."""

import json
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

import argan
from argan.errors import UsageError, VerificationError
from argan.export import FORMATS, PRECISIONS, TARGETS, combinations, export_target, plan, targets_of, verify_file
from argan.export.compare import Difference, check, compare
from argan.export.int8 import calibration
from argan.export.metadata import metadata
from argan.export.precision import Half
from argan.export.reading import read_metadata
from argan.export.run import Exported
from argan.export.targets import picture
from argan.models.hub import Config, Model

SIZE = (48, 32)
TENSOR = onnx.TensorProto

MATRIX = [
    pytest.param(
        (one["target"], one["format"], one["precision"], SIZE if one["size"] == "fixed" else None),
        marks=[pytest.mark.slow] if one["format"] == "pt2" or one["target"] == "pipeline" else [],
    )
    for one in combinations()
    if one["why_not"] is None and (one["precision"], one["size"]) != ("fp32", "any")  # test_export.py has those
    # Takes 100 seconds; the same in float32, of a fixed size, and of depth.pt2 and render.pt2 is tested.
    if (one["target"], one["format"], one["precision"], one["size"]) != ("pipeline", "pt2", "fp16", "any")
]


@pytest.mark.parametrize("form", MATRIX, ids=lambda form: "-".join(map(str, form)))
def test_every_combination_is_as_near_to_pytorch_as_its_precision_says(exported, form):
    target, format, precision, size = form
    file = exported(target, format, precision, size)
    accepted = PRECISIONS[precision]
    assert file.relative <= accepted.largest
    assert max(one.relative_mean for one in file.differences) <= accepted.mean
    assert [row["output"] for row in file.losses] == list(TARGETS[target].outputs)
    said = read_metadata(file.path)
    assert (said["argan.precision"], said["argan.size"]) == (precision, "any" if size is None else "48x32")
    if format == "onnx":
        check_graph(file.path, precision, size)
    if format == "pt2" and size is not None:
        assert not torch.export.load(file.path).range_constraints, "a size that is not fixed"


def check_graph(path, precision, size):
    graph = onnx.load(path).graph
    types = {tensor.data_type for tensor in graph.initializer}
    assert (TENSOR.FLOAT16 in types) == (precision == "fp16")
    kernels = {tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 4}
    assert (TENSOR.UINT8 in kernels) == (precision == "int8")
    assert not any(list(tensor.dims[-2:]) in ([32, 48], [64, 64]) for tensor in graph.initializer), "a stored picture"
    for value in (*graph.input, *graph.output):
        assert value.type.tensor_type.elem_type == TENSOR.FLOAT
        if size is not None:
            assert all(dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim)
    if size is not None:
        assert not any(node.op_type == "Shape" for node in graph.node), "a size that is computed"


def test_half_precision_leaves_grid_sample_in_float32(exported):
    graph = onnx.shape_inference.infer_shapes(onnx.load(exported("generator", "onnx", "fp16").path)).graph
    types = {value.name: value.type.tensor_type for value in graph.value_info}
    samples = [node for node in graph.node if node.op_type == "GridSample"]
    assert samples
    for node in samples:
        assert {types[name].elem_type for name in (*node.input, *node.output) if name in types} == {TENSOR.FLOAT}
        assert {len(types[name].shape.dim) for name in node.input if name in types} == {4}


def test_smaller_precisions_make_smaller_files(exported):
    sizes = {precision: exported("depth", "onnx", precision).bytes for precision in PRECISIONS}
    assert sizes["int8"] < sizes["fp32"] and sizes["fp16"] < sizes["fp32"]


def test_no_blur_is_exact_in_half_precision_too(exported):
    session = onnxruntime.InferenceSession(exported("render", "onnx", "fp16").path, providers=["CPUExecutionProvider"])
    image = picture(1, 33, 41).numpy()
    inputs = {"image": image, "disparity": image[:, :1], "blur": image[0, 0, 0, :1] * 0, "focus": image[0, 0, 0, :1]}
    assert (session.run(None, inputs)[0] == image).all()


def test_a_file_of_one_size_takes_no_other(exported):
    path = exported("depth", "onnx", "int8", SIZE).path
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.run(None, {"image": picture(1, 32, 48).numpy()})[0].shape == (1, 1, 32, 48)
    with pytest.raises(Exception, match="dimensions"):
        session.run(None, {"image": picture(1, 33, 48).numpy()})


@pytest.mark.parametrize(("precision", "size"), [("int8", SIZE), ("fp16", None)])
def test_argan_verify_knows_precision_and_size(exported, model, precision, size):
    report = verify_file(exported("depth", "onnx", precision, size).path, model)
    assert (report.precision, report.size) == (precision, "any" if size is None else "48x32")


@pytest.mark.parametrize(
    ("entry", "value"),
    [("argan.precision", "fp8"), *(("argan.size", size) for size in ("wide", "0x32", "48x-32", None))],
)
def test_a_file_that_does_not_say_its_form_is_refused(exported, model, tmp_path, entry, value):
    graph = onnx.load(exported("depth", "onnx").path)
    entries = {prop.key: prop.value for prop in graph.metadata_props} | {entry: value}
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, {key: text for key, text in entries.items() if text is not None})
    onnx.save(graph, tmp_path / "depth.onnx")
    with pytest.raises(VerificationError, match="precision and size"):
        verify_file(tmp_path / "depth.onnx", model)


def test_each_precision_has_its_limits(model):
    """What passes in int8 fails in fp16, and what passes in fp16 fails in fp32."""
    expected = picture(1, 32, 48)[:, :1] / picture(1, 32, 48)[:, :1].max()
    for error, passes in ((1e-4, {"fp32", "fp16", "int8"}), (8e-3, {"fp16", "int8"}), (0.1, {"int8"}), (0.5, set())):
        actual = expected.clone()
        actual[..., 0, 0] += error
        found = [compare("disparity", "case", actual, expected)]
        for precision in PRECISIONS:
            (target,) = targets_of(model, "depth", precision)
            if precision in passes:
                check(target, found)
            else:
                with pytest.raises(VerificationError, match=f"accepted in {precision}"):
                    check(target, found)
    everywhere = [compare("disparity", "case", expected + 5e-3, expected)]
    with pytest.raises(VerificationError, match="on average"):
        check(targets_of(model, "depth", "fp16")[0], everywhere)
    with pytest.raises(VerificationError, match="on average"):
        check(targets_of(model, "depth", "int8")[0], [compare("disparity", "case", expected + 0.05, expected)])


def test_one_bad_output_among_good_ones_is_named(model):
    (target,), one = targets_of(model, "generator"), torch.ones(1, 1, 4, 4)
    found = [compare(output, "batch 1", one + error, one) for output, error in (("deep", 0), ("disparity", 0.1))]
    with pytest.raises(VerificationError, match=r"disparity by 0\.1 at batch 1"):
        check(target, found)


def test_what_a_file_costs_is_the_worst_of_all_cases():
    found = [
        Difference("deep", "batch 1", 0.1, 0.01, 0.2, 0.02, 0.3, 50.0),
        Difference("deep", "batch 4", 0.4, 0.04, 0.5, 0.05, 0.6, 30.0),
        Difference("deep", "batch 2", 0.2, 0.02, 0.3, 0.03, 0.4, 40.0),
    ]
    file = Exported("generator", "onnx", "fp16", "any", Path("generator.onnx"), 1, 1, "", found)
    assert (file.max_abs, file.relative) == (0.4, 0.5)
    costs = {"max error": 0.4, "mean error": 0.04, "relative": 0.5, "dB": 30.0}
    assert file.losses == [{"target": "generator", "output": "deep", **costs}]


def test_a_file_says_its_version_and_claims_no_licence_that_is_not_recorded(model):
    said = metadata(targets_of(Model(replace(model.config, card={})), "render")[0])
    assert said["argan.version"] == argan.__version__
    assert said["argan.licence"] == said["argan.training_data"] == "not recorded"


def test_int8_sees_the_same_pictures_every_time(model):
    (target,) = targets_of(model, "depth", "int8", SIZE)
    first, again = (next(calibration(target))["image"] for _ in range(2))
    assert (first == again).all()


def test_without_blur_the_last_bit_counts(model):
    (target,), image = targets_of(model, "render"), picture(1, 32, 48)
    nearly = torch.nextafter(image, image + 1)
    check(target, [compare("rendered", "1x3x32x48 blur 2 focus 0.3", nearly, image)])
    with pytest.raises(VerificationError, match="changes pixels"):
        check(target, [compare("rendered", "1x3x32x48 blur 0 focus 0.3", nearly, image)])
    (pipeline,) = targets_of(model, "pipeline")
    check(pipeline, [compare("disparity", "1x3x32x48 blur 0 focus 0.3", nearly, image)])  # rounded in any case


def test_too_large_an_error_in_half_precision_leaves_no_file(model, monkeypatch, tmp_path):
    torchscript = FORMATS["torchscript"]

    def write(target, path):
        target.depth.estimator.head.bias.data += 1
        torchscript.write(target, path)
        target.depth.estimator.head.bias.data -= 1

    monkeypatch.setitem(FORMATS, "torchscript", replace(torchscript, write=write))
    with pytest.raises(VerificationError, match="in fp16"):
        export_target(targets_of(model, "depth", "fp16")[0], "torchscript", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_there_is_not_says_why(model):
    for target, format, precision, size in (
        ("render", "onnx", "int8", None),
        ("generator", "onnx", "fp32", SIZE),
        ("depth", "torchscript", "fp32", SIZE),
        ("all", "pt2", "int8", None),
    ):
        with pytest.raises(UsageError, match=f"as {format} {precision}") as raised:
            plan(model, format, target, precision, size)
        assert "--list" in str(raised.value.hint)
        assert ("of one size" in str(raised.value)) == (size is not None)
    assert plan(model, "torchscript")[1] == {}  # the generator's size is its own, and TorchScript takes every one
    with pytest.raises(UsageError, match="15x64"):
        plan(model, "onnx", "depth", "fp32", (15, 64))
    assert [one.size for one in plan(model, "onnx", "depth", "fp32", (16, 16))[0]] == [(16, 16)]


def test_all_leaves_out_what_there_is_not_and_says_so(model):
    targets, left_out = plan(model, "onnx", "all", "int8", SIZE)
    assert [(one.name, one.precision, one.size) for one in targets] == [
        ("depth", "int8", SIZE),
        ("pipeline", "int8", SIZE),
    ]
    assert set(left_out) == {"generator", "render"}
    assert plan(Model(replace(Config(), depth=None)), "onnx")[1] == {}


def test_every_target_comes_in_every_format():
    everything = [(one["target"], one["format"]) for one in combinations() if one["why_not"] is None]
    assert set(everything) == {(target, format) for target in TARGETS for format in FORMATS}


def test_half_keeps_the_original(model):
    (target,) = targets_of(model, "pipeline", "fp16")
    worked = target.worked()
    assert isinstance(worked.render.lens, Half) and isinstance(worked.depth.depth.estimator, Half)
    assert {tensor.dtype for tensor in target.state_dict().values() if tensor.is_floating_point()} == {torch.float32}
    assert json.dumps(target.facts()) == json.dumps(worked.facts())
