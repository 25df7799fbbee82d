"""argan verify and argan info: what they print, and exit codes for files that are not what they should be."""

import hashlib
import io
import json
import os
import sys
import zipfile

import onnx
import pytest
import torch

from argan.cli import main
from argan.errors import VerificationError
from argan.export import export_target, targets_of, verify
from argan.export.compare import Difference
from argan.export.metadata import metadata
from argan.export.onnx import CONTENT, content_checksum
from argan.export.verify import Report
from argan.models.hub import Config, DepthInfo, Model, load


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
    assert 30 < report["peak_mb"] < 100_000
    nodes = {way["way"]: way["nodes"] for way in report["ways"] if way["nodes"]}
    if nodes:  # not every ONNX Runtime says
        assert nodes["as written"] == {"CPUExecutionProvider": len(model.graph.node)}
        assert nodes["all"] != nodes["as written"]  # other layouts; what could be left out is not in the file


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
    report = json.loads(out)
    assert (report["format"], report["precision"], report["size"]) == ("torchscript", "fp16", "any")
    code, out, _ = run("info", folder / "depth.pt")
    assert code == 0 and "precision: fp16" in out.splitlines() and "size: any" in out.splitlines()


def test_people_read_how_far_it_is_from_pytorch_and_what_ran_it(run, folder, monkeypatch):
    one = Difference("disparity", "batch 1, all", 0.25, 0.125, 0.5, 0.75, 0.0625, 42.0)
    ways = [{"way": "all", "nodes": {"CPUExecutionProvider": 7}}, {"way": "basic", "nodes": None}]
    for size, ending in (("48x32", "depth of tiny, 48x32 px"), ("any", "depth of tiny")):
        report = Report("depth", "tiny", "onnx", "fp32", size, [one], ways, 100)
        monkeypatch.setattr("argan.export.verify_file", lambda *given, report=report: report)
        code, out, _ = run("verify", folder / "depth.onnx")
        assert code == 0
        assert out.splitlines()[0].split() == ["output", "case", "max", "error", "mean", "relative", "L2", "dB"]
        assert out.splitlines()[1].split()[-4:] == ["0.25", "0.125", "0.0625", "42"]
        assert "7 on CPUExecutionProvider" in out and "not said" in out
        assert out.splitlines()[-1].endswith(ending)


def test_a_file_is_run_on_the_device_that_is_asked_for(run, folder, monkeypatch):
    ran = []
    monkeypatch.setattr("argan.devices.resolve_device", lambda name: torch.device(name))
    monkeypatch.setattr(verify, "_run_alone", lambda target, arguments: ran.append(arguments) or sys.exit(9))
    assert run("verify", folder / "depth.onnx", "--model", folder / "tiny", "--device", "cuda:7")[0] == 9
    assert "cuda:7" in ran[0]


def test_a_file_names_the_shipped_model_that_it_came_from(model, tmp_path, monkeypatch):
    (target,) = targets_of(load("birds"), "render")
    model.save(tmp_path / "birds")
    monkeypatch.chdir(tmp_path)  # a folder of that name is not what ships
    assert verify.target_of(metadata(target), None).model_config.name == target.model_config.name
    with pytest.raises(VerificationError, match="no target of this argan, but 'bokeh'"):
        verify.target_of(metadata(target) | {"argan.target": "bokeh"}, None)


def test_a_runtime_imports_its_own_modules_and_its_last_words_are_what_is_said(run, folder, tmp_path, monkeypatch):
    """Not argan/export/onnx.py, which lies beside the script that runs it."""
    broken = "import onnx, sys\nprint('a warning', file=sys.stderr)\nraise OSError(f'stopped\\nin {onnx.__file__}')\n"
    (tmp_path / "onnxruntime.py").write_text(broken)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    code, _, err = run("verify", folder / "depth.onnx", "--model", folder / "tiny")
    assert (code, err.splitlines()[0]) == (3, f"error: depth does not run: stopped in {onnx.__file__}")


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
        (["{folder}/nothing.onnx"], 2, "no such file"),
        (["{folder}/tiny"], 2, "exported files end in"),
        (["{folder}/tiny/config.json"], 2, "exported files end in"),
    ],
)
def test_what_cannot_be_verified(run, folder, arguments, code, message):
    found, out, err = run("verify", *(one.format(folder=folder) for one in arguments))
    assert (found, out) == (code, "")
    assert message in err


class Evil:
    """What writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.fixture(scope="module")
def program(folder):
    """The render graph's metadata on a program that computes something else: writing the graph itself takes minutes."""

    class Same(torch.nn.Module):
        def forward(self, image, disparity, blur, focus):
            return image * 1

    (target,) = targets_of(load(folder / "tiny"), "render", size=(16, 16))
    program = torch.export.export(Same(), (torch.rand(1, 3, 16, 16), torch.rand(1, 1, 16, 16), *torch.rand(2, 1)))
    torch.export.save(program, folder / "render.pt2", extra_files={"argan.json": json.dumps(metadata(target))})
    return folder / "render.pt2"


def test_nothing_but_tensors_is_unpickled(run, program, folder, tmp_path):
    evil = io.BytesIO()
    torch.save(Evil(tmp_path / "evil"), evil)
    with zipfile.ZipFile(program) as source, zipfile.ZipFile(tmp_path / "render.pt2", "w") as changed:
        for name in source.namelist():
            changed.writestr(name, evil.getvalue() if "sample_inputs" in name else source.read(name))
    code, _, err = run("verify", tmp_path / "render.pt2", "--model", folder / "tiny")
    assert code == 3
    assert err.splitlines()[0] == "error: render does not run: it holds a pickled object that is no tensor"
    assert not (tmp_path / "evil").exists()


def test_info_says_what_the_file_is(run, folder):
    code, out, _ = run("info", folder / "depth.onnx", "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["target"] == "depth" and facts["model"] == "tiny" and facts["format"] == "onnx"
    assert set(facts["tensors"]) == {"image", "disparity"}
    assert "nearer" in facts["conventions"]["disparity"]
    data = (folder / "depth.onnx").read_bytes()
    assert (facts["bytes"], facts["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert json.loads(run("info", folder / "depth.pt", "--json")[1])["format"] == "torchscript"


def test_the_ending_of_a_file_may_be_in_capitals(run, folder, tmp_path):
    (tmp_path / "DEPTH.ONNX").write_bytes((folder / "depth.onnx").read_bytes())
    assert run("info", tmp_path / "DEPTH.ONNX")[0] == 0


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
    path = with_entries(folder, tmp_path / "depth.onnx", changes)
    found, _, err = run("verify", path, "--model", folder / "tiny")
    assert found == 3
    assert said in err


def with_entries(folder, path, changes):
    """depth.onnx at `path`, with other metadata."""
    model = onnx.load(folder / "depth.onnx")
    entries = {entry.key: entry.value for entry in model.metadata_props} | changes
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {name: value for name, value in entries.items() if value is not None})
    onnx.save(model, path)
    return path


def test_what_others_have_written_into_a_file_is_shown_and_changes_nothing(run, folder, tmp_path):
    others = {"format": "coreml", "target": "render", "bytes": "1", "author": "{Ada}", "argan.file": "other"}
    path = with_entries(folder, tmp_path / "depth.onnx", others)
    facts, own = (json.loads(run("info", file, "--json")[1]) for file in (path, folder / "depth.onnx"))
    data = path.read_bytes()
    changed = {"file": str(path), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert facts == {**own, "author": "{Ada}", **changed}
    assert run("verify", path, "--model", folder / "tiny")[0] == 0


@pytest.mark.parametrize("text", ["[]", "7", '{"argan.target": 7}', '{"argan.target": "depth", "argan.size": null}'])
def test_an_archive_that_says_no_texts_of_itself(run, folder, tmp_path, text):
    with zipfile.ZipFile(folder / "depth.pt") as source, zipfile.ZipFile(tmp_path / "depth.pt", "w") as changed:
        for name in source.namelist():
            changed.writestr(name, text if name.endswith("argan.json") else source.read(name))
    code, _, err = run("verify", tmp_path / "depth.pt", "--model", folder / "tiny")
    assert (code, "argan.json is no object of texts" in err) == (3, True)
    assert run("info", tmp_path / "depth.pt")[0] == 1


@pytest.mark.parametrize("text", ["[]", "images", '{"a": ' * 100_000])
def test_info_of_tensors_that_are_no_object(run, folder, tmp_path, text):
    path = with_entries(folder, tmp_path / "depth.onnx", {"argan.tensors": text})
    found, _, err = run("info", path)
    assert (found, "its entry argan.tensors is no JSON" in err) == (1, True)


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
