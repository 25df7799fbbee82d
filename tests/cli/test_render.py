"""`argan render` through its real entry point."""

import errno
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
from argan.depth_maps import read_depth, write_depth
from argan.models.hub import Config, DepthInfo, Model

SIZE = (60, 44)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny, untrained depth model."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    Model(Config(name="tiny", depth=DepthInfo(width=8, resolution=16))).save(folder)
    return str(folder)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    make_photo(path)
    return path


@pytest.fixture
def depth(tmp_path: Path) -> Path:
    path = tmp_path / "map.png"
    write_depth(path, np.linspace(0, 1, SIZE[0])[None].repeat(SIZE[1], axis=0))
    return path


def make_photo(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1] // 4, size[0] // 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(
        path, **{"quality": 95} if path.suffix == ".jpg" else {}
    )


def argan(*arguments: object) -> int:
    """Run the command line in this process; its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def failed(capsys: pytest.CaptureFixture[str], code: int, message: str, *arguments: object) -> str:
    """Check exit code and the one line that says why; returns stderr."""
    assert argan(*arguments) == code
    output = capsys.readouterr()
    errors = [line for line in output.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, output.err
    assert message in errors[0]
    assert "Traceback" not in output.err
    return output.err


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# One photo


def test_real_process(photo: Path, depth: Path) -> None:
    command = [sys.executable, "-m", "argan", "render", photo.name, "--depth", depth.name, "--blur", "6"]
    environment = os.environ | {"PYTHONPATH": str(Path(library.__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=photo.parent, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "photo.bokeh.jpg\n"
    assert done.stderr == "depth: map.png; device: cpu; renderer: reference\n" or torch.cuda.is_available()
    assert names(photo.parent) == ["map.png", "photo.bokeh.jpg", "photo.jpg"]
    with Image.open(photo.parent / "photo.bokeh.jpg") as result:
        assert result.size == SIZE


def test_real_process_that_fails(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_text("no picture")
    command = [sys.executable, "-m", "argan", "render", "photo.jpg", "--depth", "photo.jpg"]
    environment = os.environ | {"PYTHONPATH": str(Path(library.__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == "error: photo.jpg: not an image that argan can read"
    assert names(tmp_path) == ["photo.jpg"]


def test_same_pixels_as_the_library(photo: Path, depth: Path, tmp_path: Path) -> None:
    options = ["--blur", 7, "--focus", "0.2,0.5", "--aperture", "hexagon", "--output", tmp_path / "result.png"]
    assert argan("render", photo, "--depth", depth, *options) == 0
    expected = library.render(
        Image.open(photo), blur=7, focus=(0.2, 0.5), depth=read_depth(depth)[0], aperture="hexagon"
    )
    assert np.array_equal(np.asarray(Image.open(tmp_path / "result.png")), np.asarray(expected))


def test_with_a_model(photo: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "photo.depth.npy"
    assert argan("render", photo, "--model", model, "--save-depth", saved, "--output", tmp_path / "result.png") == 0
    output = capsys.readouterr()
    assert output.out.splitlines() == [str(tmp_path / "result.png"), str(saved)]
    assert output.err.startswith("depth: tiny; device: ")
    image = Image.open(photo)
    np.testing.assert_allclose(np.load(saved), library.estimate_depth(image, model=model), atol=1e-6)
    assert np.array_equal(
        np.asarray(Image.open(tmp_path / "result.png")), np.asarray(library.render(image, model=model))
    )


def test_json(photo: Path, depth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert argan("render", photo, "--depth", depth, "--focus-depth", 0.25, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["photo"] == str(photo)
    assert row["files"] == [str(photo.parent / "photo.bokeh.jpg")]
    assert (row["width"], row["height"], row["blur"], row["focus"]) == (*SIZE, 2.0, 0.25)
    assert row["depth"] == str(depth)


def test_blur_0_keeps_every_pixel(tmp_path: Path, depth: Path) -> None:
    make_photo(tmp_path / "photo.png")
    assert argan("render", tmp_path / "photo.png", "--depth", depth, "--blur", 0) == 0
    before, after = (np.asarray(Image.open(tmp_path / name)) for name in ("photo.png", "photo.bokeh.png"))
    assert np.array_equal(before, after)


def test_16_bit_photo_stays_16_bit(tmp_path: Path, depth: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (SIZE[1], SIZE[0]), dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    assert argan("render", tmp_path / "photo.png", "--depth", depth) == 0
    assert Image.open(tmp_path / "photo.bokeh.png").mode == "I;16"


def test_distance_maps(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "z.npy", np.linspace(1, 9, SIZE[0])[None].repeat(SIZE[1], axis=0))
    saved = tmp_path / "d.npy"
    assert argan("render", photo, "--depth", tmp_path / "z.npy", "--depth-kind", "distance", "--save-depth", saved) == 0
    assert "became disparity 1 to 0" in capsys.readouterr().err
    assert np.load(saved)[0, 0] == 1
    assert np.load(saved)[0, -1] == 0


def test_aperture_from_a_picture(photo: Path, depth: Path, tmp_path: Path) -> None:
    Image.fromarray(np.eye(9, dtype=np.uint8) * 255).save(tmp_path / "slit.png")
    for name, aperture in (("slit", tmp_path / "slit.png"), ("disk", "disk")):
        options = ["--blur", 15, "--aperture", aperture, "--output", tmp_path / f"{name}.result.png"]
        assert argan("render", photo, "--depth", depth, *options) == 0
    slit, disk = (np.asarray(Image.open(tmp_path / f"{name}.result.png")) for name in ("slit", "disk"))
    assert not np.array_equal(slit, disk)


def test_unwritable_formats_become_png(tmp_path: Path, depth: Path) -> None:
    make_photo(tmp_path / "photo.bmp")
    assert argan("render", tmp_path / "photo.bmp", "--depth", depth) == 0
    assert (tmp_path / "photo.bokeh.png").exists()


def test_existing_outputs_are_kept(photo: Path, depth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = photo.parent / "photo.bokeh.jpg"
    output.write_text("mine")
    errors = failed(capsys, 1, "photo.bokeh.jpg exists", "render", photo, "--depth", depth)
    assert "hint: --overwrite" in errors
    assert output.read_text() == "mine"
    assert argan("render", photo, "--depth", depth, "--overwrite") == 0
    assert Image.open(output).size == SIZE


# Several photos


def test_a_folder(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for index, name in enumerate(("b.jpg", "a.PNG", "c.tif")):
        make_photo(folder / name, seed=index)
    (folder / "notes.txt").write_text("not a photo")
    assert argan("render", folder, "--model", model, "--output", tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["a.bokeh.PNG", "b.bokeh.jpg", "c.bokeh.tif"]
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_outputs_are_no_inputs_of_the_next_run(tmp_path: Path, model: str) -> None:
    make_photo(tmp_path / "a.png")
    for _ in range(2):
        assert argan("render", tmp_path, "--model", model, "--save-depth", tmp_path, "--overwrite") == 0
    assert names(tmp_path) == ["a.bokeh.png", "a.depth.png", "a.png"]


def test_one_bad_file_does_not_stop_the_rest(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_photo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:900])
    make_photo(tmp_path / "c.jpg")
    photos = [tmp_path / name for name in ("a.jpg", "b.jpg", "missing.jpg", "c.jpg")]
    assert argan("render", *photos, "--model", model) == 1
    output = capsys.readouterr()
    assert names(tmp_path) == ["a.bokeh.jpg", "a.jpg", "b.jpg", "c.bokeh.jpg", "c.jpg"]
    assert output.out.splitlines() == [str(tmp_path / "a.bokeh.jpg"), str(tmp_path / "c.bokeh.jpg")]
    lines = output.err.splitlines()
    assert lines[-3].startswith(f"failed: {tmp_path / 'b.jpg'}: damaged or cut short")
    assert lines[-2] == f"failed: {tmp_path / 'missing.jpg'}: no such file or directory"
    assert lines[-1] == "error: 2 of 4 photos failed"


def test_failures_in_json(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_photo(tmp_path / "a.jpg")
    assert argan("render", tmp_path / "a.jpg", tmp_path / "missing.jpg", "--model", model, "--json") == 1
    good, bad = json.loads(capsys.readouterr().out)
    assert good["files"] == [str(tmp_path / "a.bokeh.jpg")]
    assert "no such file" in bad["error"]


def test_depth_maps_of_a_folder(tmp_path: Path, model: str) -> None:
    photos, maps = tmp_path / "photos", tmp_path / "maps"
    photos.mkdir()
    for name in ("a.png", "b.png"):
        make_photo(photos / name)
    assert argan("depth", photos, "--model", model, "--output", maps) == 0
    assert argan("render", photos, "--depth", maps, "--output", tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["a.bokeh.png", "b.bokeh.png"]
    (maps / "b.depth.png").unlink()
    assert argan("render", photos, "--depth", maps, "--output", tmp_path / "out", "--overwrite") == 1


def test_two_photos_for_one_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        make_photo(tmp_path / folder / "a.jpg")
    arguments = [tmp_path / "x" / "a.jpg", tmp_path / "y" / "a.jpg", "--output", tmp_path / "out"]
    failed(capsys, 2, "would both be written to", "render", *arguments)
    assert not (tmp_path / "out").exists()


# Wrong requests: each one line, the right exit code, nothing written


@pytest.mark.parametrize(
    ("code", "message", "options"),
    [
        (2, "--blurr", ["--blurr", "2"]),
        (2, "--blur", ["--blur", "-1"]),
        (2, "blur", ["--blur", "nan"]),
        (2, "--blur", ["--blur", "much"]),
        (2, "--focus near", ["--focus", "near"]),
        (2, "--focus 0.5,1.5", ["--focus", "0.5,1.5"]),
        (2, "exclude each other", ["--focus", "0.5,0.5", "--focus-depth", "0.5"]),
        (2, "--focus-depth", ["--focus-depth", "2"]),
        (2, "no aperture heart", ["--aperture", "heart"]),
        (2, "--depth-kind", ["--depth-kind", "height"]),
        (2, "no device 'tpu'", ["--device", "tpu"]),
        (2, "cannot be written as .heic", ["--output", "x.heic"]),
        (2, "depth maps are written as", ["--save-depth", "x.jpg"]),
    ],
)
def test_wrong_options(
    photo: Path, depth: Path, capsys: pytest.CaptureFixture[str], code: int, message: str, options: list[str]
) -> None:
    failed(capsys, code, message, "render", photo, "--depth", depth, *options)
    assert names(photo.parent) == ["map.png", "photo.jpg"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_here(photo: Path, depth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed(capsys, 4, "cuda was asked for", "render", photo, "--depth", depth, "--device", "cuda")
    assert names(photo.parent) == ["map.png", "photo.jpg"]


def test_missing_checkpoint(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed(capsys, 2, "no model no/such/model", "render", photo, "--model", "no/such/model")
    assert names(photo.parent) == ["photo.jpg"]


def test_no_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed(capsys, 2, "no photos in this folder", "render", tmp_path)
    assert argan("render") == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "an empty file"), (b"text", "not an image"), (None, "no such file"), ("cut", "cut short")],
)
def test_photos_that_are_none(
    photo: Path, depth: Path, capsys: pytest.CaptureFixture[str], content: bytes | str | None, message: str
) -> None:
    if content is None:
        photo.unlink()
    else:
        photo.write_bytes(photo.read_bytes()[:1200] if isinstance(content, str) else content)
    before = names(photo.parent)
    failed(capsys, 1, message, "render", photo, "--depth", depth)
    assert names(photo.parent) == before


def test_depth_maps_that_are_none(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed(capsys, 1, "no such file", "render", photo, "--depth", tmp_path / "none.png")
    failed(capsys, 1, "a colour picture", "render", photo, "--depth", photo)
    write_depth(tmp_path / "tall.png", np.zeros((90, 30)))
    failed(capsys, 2, "they differ in shape", "render", photo, "--depth", tmp_path / "tall.png")
    assert names(tmp_path) == ["photo.jpg", "tall.png"]


def test_one_depth_map_for_several_photos(photo: Path, depth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_photo(photo.parent / "other.jpg")
    failed(capsys, 2, "one depth map", "render", photo, photo.parent / "other.jpg", "--depth", depth)


def test_full_disk(
    photo: Path, depth: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    failed(capsys, 1, "photo.bokeh.jpg: cannot be written: no space left on device", "render", photo, "--depth", depth)
    assert names(photo.parent) == ["map.png", "photo.jpg"]


@pytest.mark.skipif(not Path("/dev/full").exists() or os.geteuid() != 0, reason="needs root to make a small disk")
def test_a_disk_that_is_really_full(
    photo: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk], capture_output=True).returncode != 0:
        pytest.skip("may not mount")
    try:
        make_photo(photo, size=(400, 300))
        failed(capsys, 1, "no space left on device", "render", photo, "--model", model, "--output", disk)
        assert names(disk) == []
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")
def test_read_only_folder(photo: Path, depth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    try:
        if os.access(locked, os.W_OK):  # root: a folder that takes no files from anybody
            locked_out = Path("/proc/self/photo.jpg")
        else:
            locked_out = locked / "photo.jpg"
        failed(capsys, 1, f"{locked_out}: cannot be written", "render", photo, "--depth", depth, "--output", locked_out)
        assert names(locked) == []
    finally:
        locked.chmod(0o700)


def test_ctrl_c(photo: Path, depth: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupt)
    assert argan("render", photo, "--depth", depth) == 130
    assert "Traceback" not in capsys.readouterr().err
    assert names(photo.parent) == ["map.png", "photo.jpg"]
