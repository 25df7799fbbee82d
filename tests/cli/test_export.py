"""argan export: files, what it prints, exit codes."""

import json
from dataclasses import replace

import pytest
import torch

from argan.cli import main
from argan.config import ModelConfig
from argan.export import FORMATS
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
    code, out, err = run(checkpoint, "--format", "torchscript", "--output", tmp_path / "out")
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["generator.pt", "render.pt"]
    assert "generator.pt" in out
    assert "next: argan info" in out
    assert "verified on: cpu" in err


def test_json_is_all_of_stdout(run, checkpoint, tmp_path):
    where = ["--target", "generator", "--output", tmp_path / "out"]
    code, out, _ = run(checkpoint, "--format", "torchscript", *where, "--json")
    assert code == 0
    (file,) = json.loads(out)
    assert file["target"] == "generator"
    assert file["path"] == str(tmp_path / "out" / "generator.pt")
    assert file["relative"] <= 1e-3
    assert {row["output"] for row in file["differences"]} == {"deep", "shallow", "disparity"}


def test_failed_verification_exits_3_without_a_file(run, checkpoint, tmp_path, monkeypatch):
    broken = replace(FORMATS["torchscript"], open=lambda *_: [("broken", lambda inputs: (torch.zeros(1),) * 3)])
    monkeypatch.setitem(FORMATS, "torchscript", broken)
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
    ],
)
def test_errors_are_one_line_with_their_code(run, checkpoint, arguments, code, message):
    found, out, err = run(checkpoint, *arguments)
    assert (found, out) == (code, "")
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert message in line
    assert "Traceback" not in err


def test_a_model_that_is_not_there(run, tmp_path):
    code, _, err = run(tmp_path / "nothing")
    assert code == 2
    assert "error: no model" in err


def test_an_output_folder_that_cannot_be_made(run, checkpoint, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err = run(checkpoint, "--format", "torchscript", "--output", tmp_path / "file" / "out")
    assert (code, out) == (1, "")
    assert "error: " in err
    assert "Traceback" not in err
