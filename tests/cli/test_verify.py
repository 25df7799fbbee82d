"""argan verify and argan info: what they print, and exit codes for files that are not what they should be."""

import io
import json
import zipfile

import onnx
import pytest
import torch

from argan.cli import main
from argan.export import export_target, targets_of
from argan.export.onnx import CONTENT, content_checksum
from argan.models.hub import Config, DepthInfo, Model


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Model(Config(name="tiny", depth=DepthInfo(width=8, resolution=16, levels=2))).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """The model's folder `tiny`, its depth.onnx, and its depth.pt in half precision."""
    folder = tmp_path_factory.mktemp("verify")
    model.save(folder / "tiny")
    export_target(targets_of(model, "depth")[0], "onnx", folder)
    export_target(targets_of(model, "depth", "fp16")[0], "torchscript", folder)
    return folder


@pytest.fixture
def run(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as exit:
            main(list(map(str, arguments)))
        return exit.value.code, *capsys.readouterr()

    return run


def test_a_good_file_of_any_version_is_proven_at_every_level_of_optimisation(run, folder, tmp_path):
    model = onnx.load(folder / "depth.onnx")
    (version,) = [entry for entry in model.metadata_props if entry.key == "argan.version"]
    version.value = "0.0.1"
    onnx.save(model, tmp_path / "depth.onnx")
    code, out, _ = run("verify", tmp_path / "depth.onnx", "--model", folder / "tiny", "--json")
    assert code == 0
    report = json.loads(out)
    assert {way["way"] for way in report["ways"]} == {"as written", "basic", "extended", "all"}
    assert {way["provider"] for way in report["ways"]} == {"CPUExecutionProvider"}
    assert len(report["differences"]) == 4 * len({one["case"].split(",")[0] for one in report["differences"]})
    assert max(one["relative"] for one in report["differences"]) <= 1e-3


def test_a_changed_weight_is_found(run, folder, tmp_path):
    graph = onnx.load(folder / "depth.onnx")
    weight = max(graph.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weight.CopyFrom(onnx.numpy_helper.from_array(1.0001 * onnx.numpy_helper.to_array(weight), weight.name))
    onnx.save(graph, tmp_path / "depth.onnx")
    code, out, err = run("verify", tmp_path / "depth.onnx", "--model", folder / "tiny")
    assert (code, out) == (3, "")
    assert "has been changed" in err


def truncated(data):
    return data[: len(data) // 2]


def foreign(data):
    return onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])).SerializeToString()


def test_another_operator_set_is_found(run, folder, tmp_path):
    graph = onnx.load(folder / "depth.onnx")
    graph.opset_import[0].version = 19
    (entry,) = [entry for entry in graph.metadata_props if entry.key == CONTENT]
    entry.value = content_checksum(graph)
    onnx.save(graph, tmp_path / "depth.onnx")
    code, _, err = run("verify", tmp_path / "depth.onnx", "--model", folder / "tiny")
    assert code == 3
    assert "instead of ONNX 18" in err


def changed_weight(data):
    """One byte in the middle of the largest weight (code is compressed, weights are not), as a bad disk would."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        stored = [member for member in archive.infolist() if member.compress_type == zipfile.ZIP_STORED]
        largest = max(stored, key=lambda member: member.file_size)
    at = largest.header_offset + len(largest.FileHeader()) + largest.file_size // 2
    return data[:at] + bytes([data[at] ^ 0x7F]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("name", "damage"),
    [("depth.onnx", truncated), ("depth.onnx", foreign), ("depth.pt", truncated), ("depth.pt", changed_weight)],
)
def test_a_damaged_or_foreign_file_is_found(run, folder, tmp_path, name, damage):
    (tmp_path / name).write_bytes(damage((folder / name).read_bytes()))
    code, out, err = run("verify", tmp_path / name, "--model", folder / "tiny")
    assert (code, out) == (3, "")
    assert "error: " in err and "Traceback" not in err
    assert run("info", tmp_path / name)[0] == 1


def test_half_precision_is_said(run, folder):
    code, out, _ = run("verify", folder / "depth.pt", "--model", folder / "tiny", "--json")
    assert code == 0
    assert (json.loads(out)["precision"], json.loads(out)["size"]) == ("fp16", "any")
    code, out, _ = run("info", folder / "depth.pt")
    assert code == 0 and "precision: fp16" in out.splitlines() and "size: any" in out.splitlines()


def test_another_models_file_is_found(run, folder, tmp_path):
    torch.manual_seed(1)
    Model(Config(name="tiny", depth=DepthInfo(width=8, resolution=16, levels=2))).save(tmp_path / "other")
    code, _, err = run("verify", folder / "depth.onnx", "--model", tmp_path / "other")
    assert code == 3
    assert "other weights" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{folder}/depth.onnx"], 2, "tiny, is not shipped"),
        (["{folder}/depth.onnx", "--device", "cuda:99"], 4, "cuda:99"),
        (["{folder}/nothing.onnx"], 1, "no such file"),
        (["{folder}/tiny"], 1, "no such file"),
        (["{folder}/tiny/config.json"], 3, "exported files end in"),
    ],
)
def test_what_cannot_be_verified(run, folder, arguments, code, message):
    found, out, err = run("verify", *(one.format(folder=folder) for one in arguments))
    assert (found, out) == (code, "")
    assert message in err


def test_info_says_what_the_file_is(run, folder):
    code, out, _ = run("info", folder / "depth.onnx", "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["target"] == "depth" and facts["model"] == "tiny" and facts["format"] == "onnx"
    assert set(facts["tensors"]) == {"image", "disparity"}
    assert "nearer" in facts["conventions"]["disparity"]
    assert facts["bytes"] == (folder / "depth.onnx").stat().st_size


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"argan.focus": "0.123"}, "focus 0.123"),
        ({"argan.focus_range": None}, "focus_range nothing"),
        ({"argan.licence": "public domain"}, "licence public domain"),
        ({"argan.tensors": "{"}, "tensors {"),
    ],
)
def test_files_that_say_what_their_model_does_not(run, folder, tmp_path, changes, said):
    model = onnx.load(folder / "depth.onnx")
    entries = {entry.key: entry.value for entry in model.metadata_props} | changes
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {name: value for name, value in entries.items() if value is not None})
    onnx.save(model, tmp_path / "depth.onnx")
    found, _, err = run("verify", tmp_path / "depth.onnx", "--model", folder / "tiny")
    assert found == 3
    assert said in err


def test_info_of_an_entry_that_is_no_json(run, folder, tmp_path):
    model = onnx.load(folder / "depth.onnx")
    for entry in model.metadata_props:
        entry.value = "{" if entry.key == "argan.tensors" else entry.value
    onnx.save(model, tmp_path / "depth.onnx")
    found, _, err = run("info", tmp_path / "depth.onnx")
    assert (found, err.splitlines()[0]) == (
        1,
        f"error: {tmp_path / 'depth.onnx'} is damaged: its entry argan.tensors is no JSON",
    )
