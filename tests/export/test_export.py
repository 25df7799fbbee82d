"""Every target in every format: it computes what PyTorch computes, says what it is, and appears whole or not at all."""

import json
import math
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from argan.errors import MissingError, UsageError, VerificationError
from argan.export import FORMATS, PRECISIONS, TARGETS, alone, export_target, targets_of
from argan.export.compare import check, compare
from argan.export.int8 import chooses
from argan.export.metadata import weights_checksum
from argan.export.onnx import CONTENT, OPSET, check_interface, content_checksum
from argan.export.reading import read_metadata
from argan.export.targets import picture
from argan.models.encoder import pretrained
from argan.models.hub import Config, DepthInfo, Model

ROOT = Path(__file__).parents[2]
UNSEEN = [(1, 45, 71), (2, 64, 17), (3, 101, 100)]  # sizes that are neither traced nor among the target's own cases


def test_agrees_with_pytorch_at_sizes_that_were_not_traced(exported, target, format):
    file = exported(target, format)
    assert file.relative <= 1e-3
    assert len({difference.case for difference in file.differences}) >= 3
    assert {difference.output for difference in file.differences} == set(TARGETS[target].outputs)


def test_one_file_and_nothing_beside_it(exported, target, format):
    file = exported(target, format)
    assert file.path.name == target + FORMATS[format].suffix
    assert list(file.path.parent.iterdir()) == [file.path]
    assert file.bytes == file.path.stat().st_size


def test_says_what_it_is(exported, model, target, format):
    found = read_metadata(exported(target, format).path)
    assert found["argan.target"] == target
    assert found["argan.training_data"] == model.config.card["data"]
    assert found["argan.licence"] == model.config.card["licence"]
    assert found["argan.weights_sha256"] == weights_checksum(targets_of(model, target)[0])
    assert set(json.loads(found["argan.tensors"])) == {*TARGETS[target].inputs, *TARGETS[target].outputs}
    assert "nearer" in json.loads(found["argan.conventions"])["disparity"]
    if target in ("depth", "pipeline"):
        assert float(found["argan.focus"]) == pytest.approx(model.depth.focus)
        assert float(found["argan.focus_range"]) == pytest.approx(model.depth.focus_range)
        assert found["argan.resolution"] == "16"
    if target in ("render", "pipeline"):
        assert found["argan.aperture"] == "disk"
        assert float(found["argan.largest_radius"]) > 400
    if target == "generator":
        assert found["argan.z_dim"] == "8"


@pytest.mark.parametrize("format", ["onnx", "pt2"])  # TorchScript numbers what a process has traced before
def test_the_same_model_gives_the_same_file(model, format, tmp_path):
    (target,) = targets_of(model, "generator")
    first, second = (export_target(target, format, tmp_path / name, torch.device("cpu")).path for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_tells_nothing_of_the_machine_that_exported_it(exported, target, format):
    file = exported(target, format)
    data = file.path.read_bytes()
    if zipfile.is_zipfile(file.path):
        with zipfile.ZipFile(file.path) as archive:  # code/ holds TorchScript's debug records
            data = b"".join(archive.read(name) for name in archive.namelist() if "debug_pkl" not in name)
            assert all(name.startswith("archive/") for name in archive.namelist())  # no temporary name
    assert str(ROOT).encode() not in data
    assert b"site-packages" not in data


@pytest.mark.parametrize(("batch", "height", "width"), UNSEEN)
def test_onnx_runtime_alone_gives_the_same_depth(exported, model, batch, height, width):
    session = onnxruntime.InferenceSession(exported("depth", "onnx").path, providers=["CPUExecutionProvider"])
    image = picture(batch, height, width)
    (disparity,) = session.run(["disparity"], {"image": image.numpy()})
    expected = model.depth(image)
    assert disparity.shape == (batch, 1, height, width)
    assert (torch.from_numpy(disparity) - expected).abs().max() <= 1e-3 * expected.abs().max()


class SizesOnTheCPU(TorchDispatchMode):
    """Where a program reads back its sizes: the device "meta" cannot say them, as a GPU can."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        here = {"device": "cpu"} if function is torch.ops.aten.scalar_tensor.default else {}
        return function(*args, **{**(kwargs or {}), **here})


@pytest.mark.parametrize("name", ["generator", "depth"])
def test_an_exported_program_moves_to_another_device(exported, model, name):
    """In place of a GPU "meta", which refuses tensors of others: only what it gives cannot be copied back."""
    (wanted,) = targets_of(model, name)
    ((_, run, _),) = alone.pt2(str(exported(name, "pt2").path), "meta")
    with SizesOnTheCPU(), pytest.raises(NotImplementedError, match="no data"):
        run([value.numpy() for value in wanted.example()])


ENCODED = [
    ("pt2", "fp32"),
    ("onnx", "fp32"),
    ("onnx", "fp16"),
    ("onnx", "int8"),
    ("torchscript", "fp32"),
    ("torchscript", "fp16"),
]


@pytest.mark.parametrize(("format", "precision"), ENCODED)
def test_an_estimator_with_an_encoder_is_written_too(format, precision, tmp_path):
    torch.manual_seed(0)
    depth = DepthInfo(width=8, resolution=16, encoder="efficientnet-lite0")
    model = Model(Config("encoded", depth=depth)).eval().requires_grad_(False)
    model.depth.estimator.down.encoder = pretrained()
    (target,) = targets_of(model, "depth", precision)
    written = export_target(target, format, tmp_path)
    assert written.relative <= PRECISIONS[precision].largest


def test_what_sees_the_picture_itself_keeps_its_precision():
    """Of an estimator with an encoder: fp16 leaves the stem and the first level, int8 all levels but the last."""
    model = Model(Config("encoded", depth=DepthInfo(width=8, resolution=16, encoder="efficientnet-lite0")))
    (target,) = targets_of(model, "depth", "fp16")
    halved = {name for name, x in target.worked().named_parameters() if x.dtype == torch.float16}
    names = {name for name, _ in target.named_parameters()}
    kept = {name for name in names if "encoder.stem." in name or "encoder.levels.0." in name}
    assert len(halved) == len(names) - len(kept)
    assert kept and not any("encoder.stem." in name or "encoder.levels.0." in name for name in halved)
    nodes = [f"/depth/estimator/down/encoder/levels.{level}/levels.{level}.0/project/Conv" for level in range(4)]
    assert [chooses(target, node) for node in nodes] == [False, False, False, True]
    assert chooses(target, "/depth/estimator/up.0/up.0.0/Conv")
    assert not chooses(target, "/depth/estimator/down/encoder/stem/Conv")


@pytest.mark.parametrize("batch", [1, 4])
def test_onnx_runtime_alone_gives_the_same_pictures(exported, model, batch):
    session = onnxruntime.InferenceSession(exported("generator", "onnx").path, providers=["CPUExecutionProvider"])
    z, scale = torch.randn(batch, 8), torch.linspace(0, 1, batch)
    outputs = session.run(["deep", "shallow", "disparity"], {"z": z.numpy(), "scale": scale.numpy()})
    deep, disparity = model.generator(z)
    for actual, expected in zip(outputs, (deep, model.renderer(deep, disparity, scale), disparity), strict=True):
        torch.testing.assert_close(torch.from_numpy(actual), expected, rtol=1e-3, atol=1e-4)


def test_zero_scale_leaves_the_deep_image_as_it_is(exported):
    module = torch.jit.load(exported("generator", "torchscript").path)
    deep, shallow, _ = module(torch.randn(2, 8), torch.zeros(2))
    torch.testing.assert_close(shallow, deep)


def test_torchscript_loads_where_there_is_no_argan(exported, model, tmp_path):
    image = picture(1, 37, 52)
    torch.save(image, tmp_path / "image.pt")
    program = (
        "import sys; sys.modules['argan'] = None; import torch; "
        f"module = torch.jit.load({str(exported('depth', 'torchscript').path)!r}); "
        f"image = torch.load({str(tmp_path / 'image.pt')!r}, weights_only=True); "
        f"torch.save(module(image), {str(tmp_path / 'depth.pt')!r})"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, cwd=tmp_path)
    torch.testing.assert_close(torch.load(tmp_path / "depth.pt", weights_only=True), model.depth(image))


def test_onnx_is_opset_18_of_onnx_alone_without_notes(exported, target):
    graph = onnx.load(exported(target, "onnx").path)
    assert {entry.domain: entry.version for entry in graph.opset_import} == {"": OPSET}
    assert not any(node.metadata_props or node.doc_string for node in graph.graph.node)


def test_exporting_leaves_the_model_as_it_was(model):
    targets_of(model)
    assert model.renderer.impl == "auto"


def test_a_changed_weight_changes_the_checksum(model):
    (depth,) = targets_of(model, "depth")
    before = weights_checksum(depth)
    assert before == weights_checksum(targets_of(model, "depth")[0])
    next(depth.parameters()).view(-1)[0] += 1e-3
    assert weights_checksum(depth) != before


def test_the_checksum_is_of_names_too():
    """The same values, in the same order, are another network's where they have other names."""
    bias, offset = torch.nn.Module(), torch.nn.Module()
    bias.register_buffer("bias", torch.ones(3))
    offset.register_buffer("offset", torch.ones(3))
    assert weights_checksum(bias) != weights_checksum(offset)


def test_wanted_targets(model):
    assert [target.name for target in targets_of(model)] == list(TARGETS)
    assert [target.name for target in targets_of(model, "depth")] == ["depth"]
    with pytest.raises(UsageError, match="no target 'bokeh'"):
        targets_of(model, "bokeh")
    bare = Model(replace(Config(), depth=None))
    assert [target.name for target in targets_of(bare)] == ["render"]
    for name in ("generator", "depth", "pipeline"):
        with pytest.raises(UsageError, match="has no"):
            targets_of(bare, name)


# What fails, fails clearly, and leaves nothing behind.


def perturbed(write):
    """A writer whose files compute something slightly else than their target."""

    def write_perturbed(target, path):
        for parameter in target.parameters():
            parameter *= 1.1
        write(target, path)
        for parameter in target.parameters():
            parameter /= 1.1

    return write_perturbed


@pytest.fixture
def wrong_weights(monkeypatch):
    torchscript = FORMATS["torchscript"]
    monkeypatch.setitem(FORMATS, "torchscript", replace(torchscript, write=perturbed(torchscript.write)))


def test_a_file_that_computes_something_else_is_not_kept(model, wrong_weights, tmp_path):
    (tmp_path / "generator.pt").write_text("an earlier export")
    with pytest.raises(VerificationError, match=r"generator differs from PyTorch: .* at most 0.001"):
        export_target(targets_of(model, "generator")[0], "torchscript", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(model, monkeypatch, tmp_path):
    def write(target, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(FORMATS, "onnx", replace(FORMATS["onnx"], write=write))
    with pytest.raises(OSError, match="No space left"):
        export_target(targets_of(model, "depth")[0], "onnx", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def damaged(exported, tmp_path):
    """A function: change the exported generator's graph, write it elsewhere."""

    def damage(change):
        graph = onnx.load(exported("generator", "onnx").path)
        change(graph)
        (entry,) = [entry for entry in graph.metadata_props if entry.key == CONTENT]
        entry.value = content_checksum(graph)
        onnx.save(graph, tmp_path / "damaged.onnx")
        return tmp_path / "damaged.onnx"

    return damage


def wrong_opset(graph):
    graph.opset_import[0].version = 17


def wrong_output_name(graph):
    graph.graph.output[0].name = graph.graph.node[0].output[0]


def frozen_batch(graph):
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def foreign_operators(graph):
    graph.opset_import.add(domain="com.example", version=1)


@pytest.mark.parametrize("change", [wrong_opset, wrong_output_name, frozen_batch, foreign_operators])
def test_a_damaged_interface_is_found(model, damaged, change):
    with pytest.raises(VerificationError):
        check_interface(targets_of(model, "generator")[0], damaged(change))


def swapped_inputs(graph):
    inputs = [*graph.graph.input][::-1]
    del graph.graph.input[:]
    graph.graph.input.extend(inputs)


def half_input(graph):
    """A graph that is as good, and takes another type."""
    first = graph.graph.input[0]
    for node in graph.graph.node:
        node.input[:] = ["widened" if name == first.name else name for name in node.input]
    first.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    graph.graph.node.insert(0, onnx.helper.make_node("Cast", [first.name], ["widened"], to=onnx.TensorProto.FLOAT))


@pytest.mark.parametrize(("change", "said"), [(swapped_inputs, "inputs are {"), (half_input, "not all float")])
def test_inputs_of_another_order_or_type_are_found(model, damaged, change, said):
    with pytest.raises(VerificationError, match=said):
        check_interface(targets_of(model, "generator")[0], damaged(change))


def test_weights_outside_the_file_are_found(model, exported, tmp_path):
    graph = onnx.load(exported("generator", "onnx").path)
    onnx.save(graph, tmp_path / "outside.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    (tmp_path / "weights").unlink()
    with pytest.raises(VerificationError, match="weights lie outside the file"):
        check_interface(targets_of(model, "generator")[0], tmp_path / "outside.onnx")


def test_a_truncated_onnx_file_is_found(model, exported, tmp_path):
    data = exported("generator", "onnx").path.read_bytes()
    (tmp_path / "short.onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises(VerificationError, match="not a valid ONNX file"):
        check_interface(targets_of(model, "generator")[0], tmp_path / "short.onnx")


def test_comparison_measures():
    difference = compare("x", "case", torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 2.0, 3.0]))
    assert difference.max_abs == 1
    assert difference.mean_abs == pytest.approx(1 / 3)
    assert difference.relative == pytest.approx(1 / 3)
    assert difference.relative_mean == pytest.approx(1 / 9)
    assert difference.relative_l2 == pytest.approx(1 / 14**0.5)
    assert compare("x", "case", torch.zeros(2), torch.zeros(2)).relative == 0
    # decibels are of what 8 bits show
    black, expected = torch.zeros(2), -20 * math.log10(26 / 255 / 2**0.5)
    assert compare("x", "case", torch.tensor([0.0, 0.1]), black).psnr == pytest.approx(expected)
    assert compare("x", "case", torch.tensor([-0.5, 0.001]), black).psnr == math.inf


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_values_that_are_not_finite_are_found(bad):
    with pytest.raises(VerificationError, match="not finite"):
        compare("x", "case", torch.tensor([1.0, bad]), torch.ones(2))
    with pytest.raises(VerificationError, match="in PyTorch that are not finite"):
        compare("x", "case", torch.ones(2), torch.tensor([1.0, bad]))


def test_a_difference_that_is_no_number_is_not_accepted(model):
    good = compare("deep", "good", torch.ones(2), torch.ones(2))
    for measure in ("relative", "relative_mean"):
        bad = replace(good, case="bad", **{measure: math.nan})
        for differences in ([good, bad], [bad, good]):
            with pytest.raises(VerificationError, match=r"by nan.* at bad"):
                check(targets_of(model, "generator")[0], differences)


class OneOutput(torch.nn.Module):
    def forward(self, z, scale):
        return z


class OneBatch(torch.nn.Module):
    def forward(self, z, scale):
        return z.view(2, 8), scale, scale


def export_instead(module, target, monkeypatch, folder):
    """Export `target`, but with this module in the file."""
    monkeypatch.setattr(target, "worked", lambda: module)
    export_target(target, "torchscript", folder)


def test_a_wrong_shape_or_number_of_outputs_is_found(model, monkeypatch, tmp_path):
    with pytest.raises(VerificationError, match=r"\(3,\) instead of \(2,\)"):
        compare("x", "case", torch.ones(3), torch.ones(2))
    with pytest.raises(VerificationError, match="1 outputs instead of 3"):
        export_instead(OneOutput(), targets_of(model, "generator")[0], monkeypatch, tmp_path)


def test_what_does_not_run_is_no_export(model, monkeypatch, tmp_path):
    with pytest.raises(VerificationError, match=r"^generator does not run: batch \d, torch.jit: .*shape '\[2, 8\]'"):
        export_instead(OneBatch(), targets_of(model, "generator")[0], monkeypatch, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_opened_is_no_export(model, monkeypatch, tmp_path):
    broken = replace(FORMATS["torchscript"], write=lambda target, path: path.write_bytes(b"half"))
    monkeypatch.setitem(FORMATS, "torchscript", broken)
    with pytest.raises(VerificationError, match=r"^generator does not run: "):
        export_target(targets_of(model, "generator")[0], "torchscript", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["torchscript", "pt2"])
def test_pytorch_is_given_no_name_to_open(exported, monkeypatch, format):
    """On Windows it opens none that is not ASCII (pytorch/pytorch#75171)."""
    given = []
    monkeypatch.setattr(torch.jit, "load", lambda file, **_: given.append(file.read(2)) or torch.nn.Identity())
    monkeypatch.setattr(torch.export, "load", lambda file: given.append(file.read(2)))
    moved = SimpleNamespace(module=torch.nn.Identity)
    monkeypatch.setattr("torch.export.passes.move_to_device_pass", lambda *_: moved)
    list(getattr(alone, format)(str(exported("generator", format).path), "cpu"))
    assert given == [b"PK"]


def test_what_runtimes_say_need_not_be_text(model, monkeypatch, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import os; os.write(2, b'no caf\\xe9 here'); os._exit(1)")
    monkeypatch.setattr(alone, "__file__", str(script))
    with pytest.raises(VerificationError, match=r"^generator does not run: no caf\\xe9 here$"):
        export_target(targets_of(model, "generator")[0], "torchscript", tmp_path / "out")


def test_what_a_file_prints_is_no_result(tmp_path, capsys):
    class Loud(torch.nn.Module):
        def forward(self, x):
            print("loud")
            return x

    torch.jit.script(Loud()).save(tmp_path / "loud.pt")
    np.savez(tmp_path / "case.npz", **{"0": np.ones(2)})
    alone.main(str(tmp_path / "loud.pt"), "torchscript", "cpu", str(tmp_path))
    (way,) = json.loads(capsys.readouterr().out)["ways"]
    assert way["way"] == "torch.jit"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_runtime_without_the_device_is_missing(model, tmp_path):
    with pytest.raises(MissingError, match="no active CUDAExecutionProvider"):
        export_target(targets_of(model, "depth")[0], "onnx", tmp_path, "cuda")
    assert list(tmp_path.iterdir()) == []


def test_onnx_is_exported_with_every_optimisation_and_with_none(exported):
    ways = {difference.case.partition(", ")[2] for difference in exported("depth", "onnx").differences}
    assert ways == {"as written", "all"}
