"""`argan depth` through its real entry point."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import argan as library
from argan.cli import main
from argan.depth_maps import read_depth
from argan.models.hub import Config, DepthInfo, Model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny, untrained depth model."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    Model(Config(name="tiny", depth=DepthInfo(width=8, resolution=16, levels=2))).save(folder)
    return str(folder)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (44, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def argan(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_real_process(photo: Path, model: str) -> None:
    command = [sys.executable, "-m", "argan", "depth", photo.name, "--model", model]
    environment = os.environ | {"PYTHONPATH": str(Path(library.__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=photo.parent, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["photo.depth.png", "photo.depth-view.png"]
    assert names(photo.parent) == ["photo.depth-view.png", "photo.depth.png", "photo.png"]


def test_what_is_written(photo: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert argan("depth", photo, "--model", model, "--output", tmp_path / "maps", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    expected = library.estimate_depth(Image.open(photo), model=model)
    disparity, _, _ = read_depth(tmp_path / "maps" / "photo.depth.png")
    np.testing.assert_allclose(disparity, expected, atol=1 / 65535)
    assert Image.open(tmp_path / "maps" / "photo.depth.png").mode == "I;16"
    assert Image.open(tmp_path / "maps" / "photo.depth-view.png").size == (60, 44)
    assert row["files"] == [str(tmp_path / "maps" / f"photo.{name}.png") for name in ("depth", "depth-view")]
    assert row["focus"] == round(library.load(model).depth.focus, 4)
    assert row["least"] == pytest.approx(expected.min(), abs=1e-4)
    assert row["greatest"] == pytest.approx(expected.max(), abs=1e-4)


def test_upright_as_the_photo_is_seen(tmp_path: Path, model: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 44)).save(tmp_path / "photo.jpg", exif=exif)
    assert argan("depth", tmp_path / "photo.jpg", "--model", model) == 0
    assert Image.open(tmp_path / "photo.depth.png").size == (44, 60)


def test_a_folder_is_searched_for_pictures(
    photo: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (60, 44)).save(tmp_path / "saved by a browser.jfif", format="JPEG")
    (tmp_path / "notes.txt").write_text("no picture")
    assert argan("depth", tmp_path, "--model", model, "--json") == 0
    found = [Path(row["photo"]).name for row in json.loads(capsys.readouterr().out)]
    assert found == ["photo.png", "saved by a browser.jfif"]


def test_a_folder_with_one_bad_file(
    photo: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"")
    assert argan("depth", tmp_path, "--model", model) == 1
    assert capsys.readouterr().err.splitlines()[-2:] == [
        f"failed: {tmp_path / 'bad.jpg'}: an empty file",
        "error: 1 of 2 photos failed",
    ]
    assert names(tmp_path) == ["bad.jpg", "photo.depth-view.png", "photo.depth.png", "photo.png"]


@pytest.mark.parametrize("name", ["photo.depth.png", "photo.depth-view.png"])
def test_existing_outputs_are_kept(photo: Path, model: str, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (photo.parent / name).write_text("mine")
    assert argan("depth", photo, "--model", model) == 1
    assert f"{name} exists" in capsys.readouterr().err
    assert names(photo.parent) == [name, "photo.png"]
    assert (photo.parent / name).read_text() == "mine"
    assert argan("depth", photo, "--model", model, "--overwrite") == 0


def test_output_must_be_a_folder(photo: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert argan("depth", photo, "--model", model, "--output", photo) == 2
    assert "cannot be one file" in capsys.readouterr().err
    (photo.parent / "notes").write_text("mine")
    assert argan("depth", photo, "--model", model, "--output", photo.parent / "notes") == 2
    for name in ("map.png", "map.NPY", "map.jpg"):
        assert argan("depth", photo, "--model", model, "--output", photo.with_name(name)) == 2
        assert not photo.with_name(name).exists()


def test_output_folder_may_have_a_dot(photo: Path, model: str, tmp_path: Path) -> None:
    assert argan("depth", photo, "--model", model, "-o", tmp_path / "maps.v2") == 0
    assert names(tmp_path / "maps.v2") == ["photo.depth-view.png", "photo.depth.png"]


def test_missing_checkpoint(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert argan("depth", photo, "--model", "no/such/model") == 2
    assert capsys.readouterr().err.splitlines()[0] == "error: no model no/such/model"


def test_options_that_go_with_onnx_files_alone(photo: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    for option, value in (("--depth-kind", "distance"), ("--model-input", "size=384")):
        assert argan("depth", photo, "--model", model, option, value) == 2
        assert f"{option}" in capsys.readouterr().err.splitlines()[0]


def test_photo_too_small(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (15, 40)).save(tmp_path / "photo.png")
    assert argan("depth", tmp_path / "photo.png", "--model", model) == 2
    said = capsys.readouterr().err
    assert "16 pixels each way" in said
    assert "hint: argan render --depth" in said  # argan depth has no such option
