"""argan export: files, what it prints, exit codes."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from argan.cli import main
from argan.config import ModelConfig
from argan.export.compare import Difference
from argan.export.run import Exported
from argan.export.targets import GeneratorTarget
from argan.models.hub import Config, Model


@pytest.fixture
def run(capsys):
    """Run argan: exit code, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as exit:
            main(["export", *map(str, arguments)])
        return exit.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def checkpoint(tmp_path):
    model = Model(Config(name="tiny", generator=ModelConfig(resolution=16, z_dim=8, width=8)))
    model.save(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_writes_the_file_and_says_what_to_run_next(run, checkpoint, tmp_path):
    folder = tmp_path / "new" / "out"
    code, out, err = run(checkpoint, "--format", "torchscript", "--output", folder)
    assert code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["generator.pt", "render.pt"]
    assert "generator.pt" in out
    assert f"next: argan info {folder / 'render.pt'}" in out
    assert "verified on: cpu" in err


def test_json_is_all_of_stdout(run, checkpoint, tmp_path):
    where = ["--target", "generator", "-o", tmp_path / "out"]
    code, out, _ = run(checkpoint, "--format", "torchscript", *where, "--json")
    assert code == 0
    (file,) = json.loads(out)
    assert file["target"] == "generator"
    assert file["path"] == str(tmp_path / "out" / "generator.pt")
    assert file["relative"] <= 1e-3
    assert file["sha256"] == hashlib.sha256((tmp_path / "out" / "generator.pt").read_bytes()).hexdigest()
    assert {row["output"] for row in file["differences"]} == {"deep", "shallow", "disparity"}


def test_files_are_verified_on_the_device_that_is_asked_for_and_the_table_says_how_far_they_are(
    run, checkpoint, tmp_path, monkeypatch
):
    found = [Difference(name, "case", 0.25, 0.125, 0.5, 0.75, 0.0625, 42.0) for name in ("deep", "shallow")]
    seen = []

    def export_instead(target, format, folder, device):
        seen.append(device)
        return Exported(target.name, format, "fp32", "any", folder / "render.pt", 7000, 9, "", found)

    monkeypatch.setattr("argan.devices.resolve_device", lambda name: name)
    monkeypatch.setattr("argan.export.export_target", export_instead)
    code, out, _ = run(checkpoint, "--target", "render", "--device", "cuda:7", "--output", tmp_path / "out")
    assert (code, seen) == (0, ["cuda:7"])
    assert out.splitlines()[0].split() == ["file", "kB", "nodes", "max", "error", "relative"]
    assert out.splitlines()[1].split()[1:] == ["7", "9", "0.25", "0.5"]


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        (["render", "generator", "render"], ["render", "generator"]),
        (["render", "all"], ["generator", "render"]),
    ],
)
def test_several_targets_are_written_once_each(run, checkpoint, tmp_path, monkeypatch, asked, written):
    def export_instead(target, format, folder, device):
        return Exported(target.name, format, "fp32", "any", folder / target.name, 7000, 9, "", found)

    found = [Difference("deep", "case", 0.25, 0.125, 0.5, 0.75, 0.0625, 42.0)]
    monkeypatch.setattr("argan.export.export_target", export_instead)
    code, out, _ = run(checkpoint, *(word for name in asked for word in ("--target", name)), "--output", tmp_path)
    assert (code, [Path(line.split()[0]).name for line in out.splitlines()[1:] if line[:1] == "/"]) == (0, written)


class Broken(torch.nn.Module):
    def forward(self, z, scale):
        return (torch.zeros(1),) * 3


def test_failed_verification_exits_3_without_a_file(run, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(GeneratorTarget, "worked", lambda target: Broken())
    code, out, err = run(checkpoint, "--format", "torchscript", "--output", tmp_path / "out")
    assert (code, out) == (3, "")
    assert "error: deep at batch 1" in err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--format", "tflite"], 2, "tflite"),
        (["--target", "bokeh"], 2, "bokeh"),
        (["--target", "depth"], 2, "no depth estimator"),
        (["--output", "depth.onnx"], 2, "a folder is expected"),
        (["--device", "cuda:99"], 4, "cuda:99"),
        (["--device", "tpu"], 2, "tpu"),
        (["--nonsense"], 2, "--nonsense"),
        (["--precision", "fp8"], 2, "fp8"),
        (["--precision", "int8", "--target", "render"], 2, "no render as onnx int8: it has no learned weights"),
        (["--precision", "int8", "--format", "pt2"], 2, "as pt2 int8"),
        (
            ["--size", "64x48", "--format", "torchscript", "--target", "render"],
            2,
            "a TorchScript file takes every size",
        ),
        (["--size", "64"], 2, "--size 64"),
        (["--size", "64x-8"], 2, "--size 64x-8"),
        (["--size", "64x8"], 2, "a size of 64x8"),
        (["--size", "8X64"], 2, "a size of 8x64"),
    ],
)
def test_errors_are_one_line_with_their_code(run, checkpoint, arguments, code, message):
    found, out, err = run(checkpoint, *arguments)
    assert (found, out) == (code, "")
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert message in line
    assert "Traceback" not in err


def test_reduced_precision_prints_what_it_costs(run, checkpoint, tmp_path):
    what = [checkpoint, "--format", "torchscript", "--target", "generator", "--precision", "fp16"]
    code, out, err = run(*what, "--output", tmp_path / "out")
    assert code == 0
    assert "export: tiny to torchscript fp16; verified on: cpu" in err
    assert "fp16 against float32" in out and "mean error" in out and "dB" in out
    for output in ("deep", "shallow", "disparity"):
        assert f"generator  {output}" in out


def test_what_all_leaves_out_is_said(run, checkpoint, tmp_path):
    code, out, err = run(checkpoint, "--size", "48x32", "--output", tmp_path / "out", "--json")
    assert code == 0
    assert "left out: generator: its size is the model's own" in err
    assert "export: tiny to onnx fp32 48x32; verified on: cpu" in err
    (file,) = json.loads(out)
    assert (file["target"], file["precision"], file["size"]) == ("render", "fp32", "48x32")
    assert file["nodes"] > 100
    assert {row["output"] for row in file["losses"]} == {"rendered"}


def test_the_list_of_what_goes_with_what(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("--list")
    assert code == 0
    assert "any, fixed" in out and "no render, int8: " in out
    assert "no torchscript or pt2, int8: " in out
    cells = [line.split() for line in out.replace("any, fixed", "both").splitlines()]
    assert ["render", "onnx", "both", "both", "-"] in cells
    assert ["generator", "pt2", "any", "any", "-"] in cells
    code, out, _ = run("--list", "--json")
    rows = {(row["target"], row["format"], row["precision"], row["size"]): row["why_not"] for row in json.loads(out)}
    assert len(rows) == 4 * 3 * 3 * 2
    assert rows["depth", "onnx", "int8", "fixed"] is None
    assert "learned weights" in rows["render", "onnx", "int8", "any"]
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_there(run, tmp_path):
    code, _, err = run(tmp_path / "nothing")
    assert code == 2
    assert "error: no model" in err


def test_a_folder_where_a_file_is_to_be_is_found_before_the_work(run, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("argan.export.export_target", lambda *given: 1 / 0)
    (tmp_path / "out" / "render.onnx").mkdir(parents=True)
    code, _, err = run(checkpoint, "--output", tmp_path / "out")
    assert code == 2
    assert "render.onnx is a folder" in err


def test_an_output_folder_that_cannot_be_made(run, checkpoint, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err = run(checkpoint, "--format", "torchscript", "--output", tmp_path / "file" / "out")
    assert (code, out) == (1, "")
    assert "error: " in err
    assert "Traceback" not in err
    code, _, err = run(checkpoint, "--output", tmp_path / "file")
    assert (code, "a folder is expected" in err) == (2, True)
