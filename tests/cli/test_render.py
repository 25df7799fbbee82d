"""`argan render` through its real entry point."""

import base64
import errno
import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

import argan as library
from argan.cli import main
from argan.cli._batch import depth_file, find_photos, output_paths
from argan.cli._options import read_aperture
from argan.cli._results import remove_longer_sweep
from argan.depth_maps import read_depth, write_depth
from argan.errors import ArganError
from argan.images import Photo
from argan.models.hub import Config, DepthInfo, Model
from argan.sweep import small_frame, sweep_planes, write_animation

SIZE = (60, 44)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny, untrained depth model."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    Model(Config(name="tiny", depth=DepthInfo(width=8, resolution=16, levels=2))).save(folder)
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
    assert done.stderr == "depth: map.png; device: cpu; renderer: numba\n" or torch.cuda.is_available()
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
    options = ["--blur", 7, "--focus", "0.2,0.5", "--aperture", "hexagon", "-o", tmp_path / "result.png"]
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
    assert argan("render", photo, "--depth", depth, "--focus-depth", 0.25, "--device", "cpu", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["photo"] == str(photo)
    assert row["files"] == [str(photo.parent / "photo.bokeh.jpg")]
    assert (row["width"], row["height"], row["blur"], row["focus"]) == (*SIZE, 2.0, 0.25)
    assert (row["depth"], row["device"]) == (str(depth), "cpu")


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


def test_what_a_format_cannot_hold_is_said_before_it_is_rendered(
    tmp_path: Path, depth: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGBA", SIZE, (1, 2, 3, 4)).save(tmp_path / "photo.png")
    jpeg = ["--depth", depth, "--output", tmp_path / "x.jpg"]
    with monkeypatch.context() as never:
        never.setattr("argan.photo.render_photo", lambda *_: pytest.fail("it was rendered"))
        failed(capsys, 1, "JPEG holds no transparency", "render", tmp_path / "photo.png", *jpeg)
    assert argan("render", tmp_path / "photo.png", *jpeg, "--show", "coc") == 0


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


def test_an_aperture_that_is_black_is_wrong_usage(
    photo: Path, depth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (9, 9)).save(tmp_path / "black.png")
    path = tmp_path / "black.png"
    failed(capsys, 2, "black.png: an aperture that is black", "render", photo, "--depth", depth, "--aperture", path)


def test_unwritable_formats_become_png(tmp_path: Path, depth: Path) -> None:
    make_photo(tmp_path / "photo.bmp")
    assert argan("render", tmp_path / "photo.bmp", "--depth", depth) == 0
    assert (tmp_path / "photo.bokeh.png").exists()


def test_an_output_without_a_suffix_is_a_folder(
    photo: Path, depth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert argan("render", photo, "--depth", depth, "--output", tmp_path / "new" / "out") == 0
    assert names(tmp_path / "new" / "out") == ["photo.bokeh.jpg"]
    failed(capsys, 1, "cannot make this folder", "render", photo, "--depth", depth, "--output", photo / "out")


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


def test_one_photo_that_is_missing_is_noticed_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("render", "depth"):
        assert argan(command, tmp_path / "missing.jpg") == 2
        assert capsys.readouterr().err == f"error: {tmp_path / 'missing.jpg'}: no such file or directory\n"


def test_no_picture_goes_to_a_pipe(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["render"], ["depth"], ["render", "--save-depth", "-"]):
        failed(
            capsys, 2, "nothing is written to a pipe", *command, photo, *([] if len(command) > 1 else ["--output", "-"])
        )


def test_a_name_with_a_dash_in_front(
    photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photo.parent)
    photo.rename("-dash.jpg")
    monkeypatch.setattr("sys.argv", ["argan", "render", "-dash.jpg"])
    assert "./-NAME" in failed(capsys, 2, "no such option", "render", "-dash.jpg")
    assert argan("render", "--blur", 0, "--", "-dash.jpg") == 0


def test_a_model_in_a_file_of_another_kind(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.pt").write_bytes(b"TorchScript")
    said = failed(capsys, 2, "opens .onnx files alone", "render", photo, "--model", tmp_path / "model.pt")
    assert "--format onnx" in said


def test_failures_in_json(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_photo(tmp_path / "a.jpg")
    assert argan("render", tmp_path / "a.jpg", tmp_path / "missing.jpg", "--model", model, "--json") == 1
    good, bad = json.loads(capsys.readouterr().out)
    assert good["files"] == [str(tmp_path / "a.bokeh.jpg")]
    assert "no such file" in bad["error"]


def test_a_single_failure_in_json_is_the_row_that_a_batch_has(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"text")
    assert argan("render", tmp_path / "a.jpg", "--model", model, "--json") == 1
    output = capsys.readouterr()
    assert json.loads(output.out) == [
        {"photo": str(tmp_path / "a.jpg"), "error": f"{tmp_path / 'a.jpg'}: not an image that argan can read"}
    ]
    assert output.err.splitlines()[-1].startswith("error: ")


def test_what_to_do_about_a_photo_that_fails_is_said_in_a_batch_too(
    photo: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert argan("render", photo, tmp_path / "moving.gif", "--model", model) == 1
    reason = "an animation is not a photograph (save one of its frames as a picture)"
    assert f"failed: {tmp_path / 'moving.gif'}: {reason}" in " ".join(capsys.readouterr().err.split())


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


def test_every_file_of_a_folder_by_name_twice(photo: Path, model: str, tmp_path: Path) -> None:
    """As the shell's *.jpg has them: what argan made of a photo is none, unless it is asked for alone."""
    for _ in range(2):
        everything = sorted(tmp_path.glob("*.jpg"))
        assert argan("render", *everything, "--model", model, "--overwrite") == 0
    assert names(tmp_path) == ["photo.bokeh.jpg", "photo.jpg"]
    assert argan("render", tmp_path / "photo.bokeh.jpg", "--model", model) == 0
    assert (tmp_path / "photo.bokeh.bokeh.jpg").exists()


def test_everything_in_a_folder_by_name_but_the_pictures_of_a_sweep(photo: Path) -> None:
    """As the shell's * has them."""
    make_photo(photo.with_name("photo.sweep.webp"))
    (photo.parent / "photo.sweep").mkdir()
    make_photo(photo.parent / "photo.sweep" / "photo.001.jpg")
    assert [*find_photos(sorted(photo.parent.iterdir()))] == [photo]


@pytest.mark.parametrize("names", ["a.gif a.png", "a.bmp a.gif b.png", "A.gif a.png"])
def test_photos_that_would_share_a_result_have_their_whole_names_in_it(tmp_path: Path, names: str) -> None:
    for name in names.split():
        make_photo(tmp_path / name)
    make_photo(tmp_path / "c.png")
    assert argan("depth", tmp_path, "--model", "flowers") == 0
    results = {path.name for path in tmp_path.glob("*.depth.png")}
    shared = {name for name in names.split() if name[0] in "Aa"}
    assert results == {f"{name if name in shared else Path(name).stem}.depth.png" for name in [*names.split(), "c.png"]}
    assert argan("render", tmp_path, "--depth", tmp_path, "--output", tmp_path / "out") == 0
    assert {*find_photos([*tmp_path.glob("*.*")])} == {tmp_path / name for name in [*names.split(), "c.png"]}


@pytest.mark.parametrize("names", [("a.jpg", "a.jpg"), ("a.jpg", "A.jpg")])
def test_two_photos_for_one_output(tmp_path: Path, capsys: pytest.CaptureFixture[str], names: tuple[str, str]) -> None:
    photos = [tmp_path / folder / name for folder, name in zip("xy", names, strict=True)]
    for photo in photos:
        photo.parent.mkdir()
        make_photo(photo)
    failed(capsys, 2, "would both be written to", "render", *photos, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_photos_that_lie_together_may_differ_in_case_alone() -> None:
    photos = dict.fromkeys([Path("a.jpg"), Path("A.jpg")], Path())
    assert [*map(str, output_paths(photos, None, lambda _: ".bokeh.jpg").values())] == [
        "a.jpg.bokeh.jpg",
        "A.jpg.bokeh.jpg",
    ]


# Looks


def test_every_control_reaches_the_renderer(photo: Path, depth: Path, tmp_path: Path) -> None:
    """The command makes the library's pixels, for all controls together and for each left out."""
    controls = {
        "--focus-range": 0.2,
        "--rotate": 15,
        "--curvature": 0.5,
        "--anamorphic": 1.5,
        "--rim": 0.5,
        "--cat-eye": 0.7,
    }
    options = [text for control in controls.items() for text in control]
    lens = library.Aperture("hexagon", rotation=15, curvature=0.5, anamorphic=1.5, rim=0.5, cat_eye=0.7)
    known = {"blur": 12, "depth": read_depth(depth)[0], "focus": 0.3}
    expected = np.asarray(library.render(Image.open(photo), **known, aperture=lens, focus_range=0.2))
    basic = ["--depth", depth, "--blur", 12, "--focus-depth", 0.3, "--aperture", "hexagon", "--overwrite"]
    assert argan("render", photo, *basic, *options, "--output", tmp_path / "all.png") == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "all.png")), expected)
    for left_out in controls:
        some = [text for control in controls.items() if control[0] != left_out for text in control]
        assert argan("render", photo, *basic, *some, "--output", tmp_path / "some.png") == 0
        assert not np.array_equal(np.asarray(Image.open(tmp_path / "some.png")), expected), left_out


def test_grain(tmp_path: Path) -> None:
    noise = 120 + 2.5 * np.random.default_rng(0).standard_normal((128, 160, 3))
    Image.fromarray(noise.round().astype(np.uint8)).save(tmp_path / "photo.png")
    write_depth(tmp_path / "far.png", np.zeros((128, 160)))
    spreads = []
    for number, grain in enumerate(("auto", "1", "0", "2")):
        target = tmp_path / f"{number}.png"
        options = ["--blur", 8, "--focus-depth", 1, "--grain", grain, "--output", target]
        assert argan("render", tmp_path / "photo.png", "--depth", tmp_path / "far.png", *options) == 0
        spreads.append(float(np.asarray(Image.open(target)).astype(float).std()))
    auto, once, none, twice = spreads
    assert auto == once == pytest.approx(2.5, rel=0.2)
    assert none < 1.2
    assert twice == pytest.approx(5, rel=0.2)


def test_highlights(tmp_path: Path) -> None:
    night = np.full((96, 128, 3), 12, np.uint8)
    night[48:50, 64:66] = 255
    Image.fromarray(night).save(tmp_path / "night.png")
    write_depth(tmp_path / "far.png", np.zeros((96, 128)))
    lit = []
    for number in ("1", "30"):
        options = ["--blur", 10, "--focus-depth", 1, "--highlights", number, "--output", tmp_path / f"{number}.png"]
        assert argan("render", tmp_path / "night.png", "--depth", tmp_path / "far.png", *options) == 0
        lit.append(int(np.asarray(Image.open(tmp_path / f"{number}.png"))[49, 65].max()))
    assert lit[0] < 60
    assert lit[1] > 150


def test_subject(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disparity = np.full((SIZE[1], SIZE[0]), 0.2, np.float32)
    disparity[15:30, 20:32] = 0.75
    np.save(tmp_path / "d.npy", disparity)
    assert argan("render", photo, "--depth", tmp_path / "d.npy", "--focus", "subject", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["focus"] == pytest.approx(0.75, abs=1e-3)


def test_face(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The astronaut that scikit-image brings along, and a picture without a face: that has a subject."""
    data = pytest.importorskip("skimage.data", reason="the extra faces")
    astronaut, size = data.astronaut(), (512, 512)
    disparity = np.full(size, 0.2, np.float32)
    disparity[95:135, 200:250] = 0.75
    disparity[220:360, 180:330] = 0.9
    np.save(tmp_path / "d.npy", disparity)
    for name, pixels in {"face": astronaut, "none": np.full((*size, 3), 90, np.uint8)}.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    focused = {}
    for name in ("face", "none"):
        options = ["--depth", tmp_path / "d.npy", "--blur", 1, "--focus", "face", "--json"]
        assert argan("render", tmp_path / f"{name}.png", *options) == 0
        out, said = capsys.readouterr()
        focused[name] = json.loads(out)[0]["focus"], "no face was found" in said
    assert focused == {"face": (0.75, False), "none": (0.9, True)}


def test_a_real_lens(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Metres in a map; f/2, 50 mm at 2 m: the blur of --blur that the thin lens formula gives by hand."""
    distance = np.linspace(1, 4, SIZE[0])[None].repeat(SIZE[1], axis=0)
    np.save(tmp_path / "z.npy", distance)
    metres = ["--depth", tmp_path / "z.npy", "--depth-kind", "distance"]
    lens = ["--f-number", 2, "--focal", 50, "--focus-distance", 2]
    assert argan("render", photo, *metres, *lens, "--output", tmp_path / "lens.png", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    near, far = np.percentile(distance, 0.1), 4
    in_focus = (1 / 2 - 1 / far) / (1 / near - 1 / far)
    diameter = 50**2 / 2 * 2000 / (2000 - 50) * (1 / near - 1 / far) / 1000  # mm on the sensor, between both ends
    assert row["focus"] == pytest.approx(in_focus, abs=1e-3)
    assert row["blur"] == pytest.approx(100 * diameter / 36, rel=1e-3)
    np.save(tmp_path / "mm.npy", (distance * 1000).astype(np.uint16))
    half = ["--sensor", 18, "--depth", tmp_path / "mm.npy", "--depth-kind", "distance"]
    assert argan("render", photo, *half, *lens, "--output", tmp_path / "half.png", "--json") == 0
    (small_sensor,) = json.loads(capsys.readouterr().out)
    assert small_sensor["blur"] == pytest.approx(2 * row["blur"], rel=1e-2)
    inches = ["--depth", tmp_path / "mm.npy", "--depth-kind", "distance", "--depth-unit", 0.0254]
    assert argan("render", photo, *inches, "--f-number", 2, "--output", tmp_path / "inches.png", "--json") == 0
    (far_away,) = json.loads(capsys.readouterr().out)
    assert far_away["blur"] < row["blur"] / 10


def test_focus_at_infinity(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which is beyond it by a rounding error, for distances such as these."""
    np.save(tmp_path / "z.npy", np.linspace(0.3, 5, 2).repeat(SIZE[0] // 2)[None].repeat(SIZE[1], axis=0))
    lens = ["--f-number", 8, "--focus-distance", "inf", "--json"]
    assert argan("render", photo, "--depth", tmp_path / "z.npy", "--depth-kind", "distance", *lens) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["blur"] == pytest.approx(100 * 50**2 / 8 * (1 / 0.3 - 1 / 5) / 1000 / 36, abs=1e-3)


def test_a_lens_before_a_map_of_one_distance(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "z.npy", np.full((SIZE[1], SIZE[0]), 2.5))
    metres = ["--depth", tmp_path / "z.npy", "--depth-kind", "distance"]
    for options in (["--f-number", 2], ["--focus-distance", 2]):
        failed(capsys, 2, "all are 2.5 m away", "render", photo, *metres, *options)


def test_sweep(photo: Path, depth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert argan("render", photo, "--depth", depth, "--sweep", 3, "--blur", 12) == 0
    frames = [tmp_path / "photo.sweep" / f"photo.00{number}.jpg" for number in (1, 2, 3)]
    assert capsys.readouterr().out.splitlines() == [*map(str, frames), str(tmp_path / "photo.sweep.webp")]
    with Image.open(tmp_path / "photo.sweep.webp") as animation:
        assert animation.n_frames == 4  # there and back
        assert animation.size == SIZE
    sharpness = [np.abs(np.diff(np.asarray(Image.open(frame)).astype(float), axis=1)) for frame in frames]
    left, right = ([float(part[:, columns].mean()) for part in sharpness] for columns in (slice(8), slice(-8, None)))
    assert left[0] > left[2] and right[2] > right[0]  # from far, on the left, to near
    assert argan("render", tmp_path, "--depth", tmp_path, "--sweep", 2, "--overwrite") == 1  # map.png has no map
    assert argan("render", photo, "--depth", depth, "--sweep", 2, "--output", tmp_path / "pull.gif") == 0
    with Image.open(tmp_path / "pull.gif") as animation:
        assert animation.n_frames == 2
    assert names(tmp_path / "pull") == ["photo.001.jpg", "photo.002.jpg"]


def test_a_sweep_in_json_says_what_each_picture_is_focused_on(
    photo: Path, depth: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--depth", depth, "--sweep", 3, "--blur", 4, "--json"]
    assert argan("render", photo, *options) == 0
    (row,) = json.loads(capsys.readouterr().out)
    planes = sweep_planes(np.asarray(Image.open(depth)) / 65535, 3)
    assert row["focus"] == pytest.approx(planes, abs=1e-3)
    assert row["blur"] == [4, 4, 4]
    assert len(row["files"]) == 4


def test_a_sweep_passes_over_the_few_that_are_alone_at_the_ends() -> None:
    disparity = np.linspace(0.3, 0.7, 4000).reshape(40, 100)
    disparity[0, :40], disparity[-1, -40:] = 0, 1  # 1 % each
    assert sweep_planes(disparity, 3) == pytest.approx([0.3, 0.5, 0.7], abs=0.01)


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_an_animation_is_small_endless_and_of_8_bits(tmp_path: Path, suffix: str) -> None:
    deep = Photo(np.full((40, 1920, 3), 0x80FF, np.uint16), icc=b"a profile ")
    frames = [small_frame(deep), small_frame(deep.with_pixels(deep.pixels // 2))]
    write_animation(tmp_path / f"sweep{suffix}", frames)
    with Image.open(tmp_path / f"sweep{suffix}") as animation:
        assert animation.size == (960, 20)
        assert animation.info["loop"] == 0
        assert np.abs(np.asarray(animation.convert("RGB")).astype(int) - 0x80).max() <= 2
        if suffix == ".webp":
            assert animation.info["icc_profile"] == b"a profile "


def test_an_animation_of_a_grey_photo_has_no_profile_of_grey(tmp_path: Path) -> None:
    grey = Photo(np.full((20, 30, 1), 128, np.uint8), icc=b"a profile       GRAY")
    write_animation(tmp_path / "sweep.webp", [small_frame(grey)] * 2)
    with Image.open(tmp_path / "sweep.webp") as animation:
        assert "icc_profile" not in animation.info


def test_a_sweep_is_of_planes(photo: Path, tmp_path: Path) -> None:
    """Also with depth that a model estimates, about whose learned focus a range would be sharp."""
    assert argan("render", photo, "--sweep", 2, "--blur", 12) == 0
    options = ["--focus-range", 0, "--blur", 12, "--output", tmp_path / "plane.jpg"]
    far = sweep_planes(library.estimate_depth(Image.open(photo)), 2)[0]
    assert argan("render", photo, "--focus-depth", far, *options) == 0
    first, plane = (Image.open(tmp_path / name) for name in ("photo.sweep/photo.001.jpg", "plane.jpg"))
    assert np.array_equal(np.asarray(first), np.asarray(plane))


def test_a_shorter_sweep_replaces_a_longer_one(photo: Path, depth: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photo.sweep"
    folder.mkdir()
    (folder / "photo.004.jpg").write_bytes(b"mine")
    assert argan("render", photo, "--depth", depth, "--sweep", 2) == 0
    assert (folder / "photo.004.jpg").read_bytes() == b"mine"  # without --overwrite nothing is lost
    assert argan("render", photo, "--depth", depth, "--sweep", 4, "--overwrite") == 0
    for name in ("photo.005.png", "photo.5.jpg", "other.004.jpg"):  # not of a sweep of this photo's
        (folder / name).write_bytes(b"mine")
    assert argan("render", photo, "--depth", depth, "--sweep", 2, "--overwrite") == 0
    assert names(folder) == ["other.004.jpg", "photo.001.jpg", "photo.002.jpg", "photo.005.png", "photo.5.jpg"]


def test_a_longer_sweep_is_found_by_its_whole_name(tmp_path: Path) -> None:
    for name in ("photo[1].001.jpg", "photo[1].002.jpg", "photo1.002.jpg"):
        (tmp_path / name).write_bytes(b"")
    remove_longer_sweep([tmp_path / "photo[1].001.jpg"])
    assert names(tmp_path) == ["photo1.002.jpg", "photo[1].001.jpg"]


def test_a_depth_map_that_is_there_is_kept(
    photo: Path, depth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "used.png").write_bytes(b"mine")
    options = ["--depth", depth, "--save-depth", tmp_path / "used.png"]
    failed(capsys, 1, "used.png exists", "render", photo, *options)
    assert (tmp_path / "used.png").read_bytes() == b"mine"
    assert not (tmp_path / "photo.bokeh.jpg").exists()


def test_a_sweep_does_not_overwrite_its_pictures(
    photo: Path, depth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photo.sweep").mkdir()
    (tmp_path / "photo.sweep" / "photo.002.jpg").write_bytes(b"mine")
    assert argan("render", photo, "--depth", depth, "--sweep", 2) == 1
    assert "photo.002.jpg exists" in capsys.readouterr().err
    assert (tmp_path / "photo.sweep" / "photo.002.jpg").read_bytes() == b"mine"


@pytest.mark.parametrize("what", ["depth", "coc", "layers", "focus"])
def test_show(photo: Path, depth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    assert argan("render", photo, "--depth", depth, "--show", what) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / f"photo.{what}-view.png")]
    assert Image.open(tmp_path / f"photo.{what}-view.png").width == SIZE[0]
    assert not (tmp_path / "photo.bokeh.jpg").exists()


def test_embedded_depth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_photo(tmp_path / "plain.jpg")
    buffer = BytesIO()
    Image.fromarray(np.linspace(255, 0, SIZE[0]).astype(np.uint8)[None].repeat(SIZE[1], 0)).save(buffer, "PNG")
    packet = (
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        b'xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/" GDepth:Format="RangeInverse" GDepth:Near="1" '
        b'GDepth:Far="9" GDepth:Units="m" GDepth:Data="' + base64.b64encode(buffer.getvalue()) + b'"/></rdf:RDF>'
    )
    Image.open(tmp_path / "plain.jpg").save(tmp_path / "phone.jpg", xmp=packet)
    saved = tmp_path / "d.npy"
    options = ["--depth", "embedded", "--f-number", 2, "--save-depth", saved]
    assert argan("render", tmp_path / "phone.jpg", *options) == 0
    errors = capsys.readouterr().err
    assert errors.startswith("depth: embedded; device: ")
    assert "GDepth 60 x 44, RangeInverse" in errors
    np.testing.assert_allclose(np.load(saved)[0], np.linspace(0, 1, SIZE[0]), atol=0.01)
    failed(capsys, 1, "plain.jpg: no depth inside", "render", tmp_path / "plain.jpg", "--depth", "embedded")


def test_a_heic_photo_becomes_png(tmp_path: Path, depth: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heic")
    make_photo(tmp_path / "plain.png")
    pillow_heif.from_pillow(Image.open(tmp_path / "plain.png")).save(tmp_path / "photo.heic")
    assert argan("render", tmp_path / "photo.heic", "--depth", depth) == 0
    assert Image.open(tmp_path / "photo.bokeh.png").size == SIZE


def test_a_folder_is_mirrored(tmp_path: Path, model: str) -> None:
    """Folders in folders, one name in both, depth maps mirrored too; hidden folders and own results are no photos."""
    source, maps, out = (tmp_path / name for name in ("in", "maps", "out"))
    for index, name in enumerate(("a.png", "day 1/a.png", "day 1/late/b.png", ".trash/c.png", "day 1/x.bokeh.png")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        make_photo(source / name, seed=index)
    assert argan("depth", source, "--model", model, "--output", maps) == 0
    assert argan("render", source, "--depth", maps, "--output", out, "--save-depth", tmp_path / "used") == 0
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))
    assert found == ["a.bokeh.png", "day 1/a.bokeh.png", "day 1/late/b.bokeh.png"]
    for name in ("a", "day 1/a", "day 1/late/b"):
        used = np.asarray(Image.open(tmp_path / "used" / f"{name}.depth.png"))
        assert np.array_equal(used, np.asarray(Image.open(maps / f"{name}.depth.png")))


def test_each_photo_gets_its_own_depth_map_of_a_mirrored_folder(tmp_path: Path) -> None:
    """Whole names are where photos would share a map; a photo of another folder has none of that."""
    maps = {
        "a.jpg": "a.jpg.depth.npy",
        "a.png": "a.png.depth.npy",
        "sub/a.jpg": "sub/a.depth.npy",
        "sub/b.jpg": "b.depth.npy",
    }
    photos = {tmp_path / name: Path(name).parent for name in maps}
    (tmp_path / "maps" / "sub").mkdir(parents=True)
    for name in maps.values():
        (tmp_path / "maps" / name).touch()
    for photo, name in zip(photos, maps.values(), strict=True):
        assert depth_file(tmp_path / "maps", photo, photos) == tmp_path / "maps" / name


def test_a_photo_without_a_depth_map_does_not_take_another_ones(tmp_path: Path) -> None:
    photos = {tmp_path / name: Path(name).parent for name in ("a.jpg", "sub/a.jpg")}
    for name in ("a.depth.png", "a.jpg.depth.png"):
        (tmp_path / name).touch()
        with pytest.raises(ArganError, match=r"sub.a\.jpg: no depth map a\.depth\.png"):
            depth_file(tmp_path, tmp_path / "sub" / "a.jpg", photos)


def test_photos_are_read_worked_on_and_written_at_the_same_time(tmp_path: Path) -> None:
    """Each step waits for another photo's: they could never meet one after the other."""
    from threading import Barrier

    from argan.cli._batch import run_batch

    meet, order = Barrier(3, timeout=60), []

    def read(path: Path) -> str:
        if path.name == "3":
            meet.wait()
        return f"read {path.name}"

    def work(path: Path, item: str) -> str:
        if path.name == "2":
            meet.wait()
        return f"worked on {item}"

    def write(path: Path, item: str) -> dict:
        if path.name == "1":
            meet.wait()
        order.append(item)
        return {"photo": path, "files": [item]}

    run_batch([Path(name) for name in "1234"], "test", read, work, write, True)
    assert order == [f"worked on read {name}" for name in "1234"]


def test_a_result_that_cannot_be_written_is_the_failure_of_its_own_photo(capsys: pytest.CaptureFixture[str]) -> None:
    """It shows while the next one is worked on."""
    from argan.cli._batch import run_batch

    def write(path: Path, item: str) -> dict:
        if item == "1":
            raise ArganError("no space left")
        return {"photo": path, "files": [f"{path}.png"]}

    with pytest.raises(ArganError, match="1 of 3 photos failed"):
        run_batch([Path(name) for name in "123"], "test", str, lambda _path, item: item, write, False)
    output = capsys.readouterr()
    assert output.out.splitlines() == ["2.png", "3.png"]
    assert "failed: 1: no space left" in output.err.splitlines()


def test_an_interrupt_ends_a_batch_wherever_it_arrives() -> None:
    from argan.cli._batch import run_batch

    def work(path: Path, item: str) -> str:
        raise SystemError("CPUDispatcher returned a result with an exception set") from KeyboardInterrupt()

    with pytest.raises(SystemError, match="exception set"):
        run_batch([Path("1"), Path("2")], "test", str, work, lambda *_: {}, True)


def test_a_package_that_is_missing_ends_a_batch_as_every_photo_would_fail() -> None:
    from argan.cli._batch import run_batch

    def work(path: Path, item: str) -> str:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    with pytest.raises(ModuleNotFoundError):
        run_batch([Path("1"), Path("2")], "test", str, work, lambda *_: {}, True)


def test_an_interrupted_batch_says_what_it_has_done(capsys: pytest.CaptureFixture[str]) -> None:
    from argan.cli._batch import run_batch

    def work(path: Path, item: str) -> str:
        if item == "2":
            raise ArganError("no picture")
        if item == "3":
            raise KeyboardInterrupt
        return item

    def write(path: Path, item: str) -> dict:
        return {"photo": path, "files": [f"{path}.png"]}

    def printed(as_json: bool) -> str:
        with pytest.raises(KeyboardInterrupt):
            run_batch([Path(name) for name in "1234"], "test", str, work, write, as_json)
        return capsys.readouterr().out

    assert printed(as_json=False) == "1.png\n"
    first, second = json.loads(printed(as_json=True))
    assert (first["photo"], second["photo"], second["error"]) == ("1", "2", "no picture")


def test_a_lens_without_distances_is_refused_before_any_photo_is_looked_at(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo.with_name("other.jpg").write_bytes(photo.read_bytes())
    failed(capsys, 2, "how far things are", "render", photo.parent, "--f-number", 2)


@pytest.mark.parametrize("names", ["1", "12"])
def test_what_has_been_read_ahead_is_not_read_again(names: str) -> None:
    from argan.cli._batch import read_ahead, run_batch

    read: list[str] = []

    def note(path: Path) -> str:
        read.append(path.name)
        return path.name

    def written(path: Path, item: str) -> dict:
        return {"photo": path, "files": [item]}

    photos = [Path(name) for name in names]
    run_batch(photos, "test", note, lambda _path, item: item, written, True, read_ahead(photos, note))
    assert read == list(names)


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
        (2, "--focus and --focus-distance exclude", ["--focus", "0.5,0.5", "--focus-distance", "2"]),
        (2, "--focus-range 0.5,x", ["--focus-range", "0.5,x"]),
        (2, "lower one first", ["--focus-range", "0.5,0.4"]),
        (2, "a width in disparity", ["--focus-range", "2"]),
        (2, "give a width", ["--focus-range", "0.4,0.5", "--focus-depth", "0.3"]),
        (2, "--grain much", ["--grain", "much"]),
        (2, "grain is auto", ["--grain", "-1"]),
        (2, "highlights are 1 to", ["--highlights", "0.5"]),
        (2, "--rim", ["--rim", "2"]),
        (2, "curvature is that of blades", ["--curvature", "0.5"]),
        (2, "--anamorphic", ["--anamorphic", "0"]),
        (2, "how far things are", ["--f-number", "2"]),
        (2, "how far things are", ["--focus-distance", "2"]),
        (2, "an f-number is a number above 0", ["--f-number", "0"]),
        (2, "--blur and --f-number exclude", ["--f-number", "2", "--blur", "2"]),
        (2, "above 0, not 0.0", ["--focus-distance", "0"]),
        (2, "--sweep and --show exclude", ["--sweep", "3", "--show", "coc"]),
        (2, "--focal and --sensor go with --f-number", ["--focal", "85"]),
        (2, "--focal and --sensor go with --f-number", ["--sensor", "24"]),
        (2, "a sweep is written as", ["--sweep", "3", "--output", "x.jpg"]),
        (2, "--sweep", ["--sweep", "1"]),
        (2, "--show", ["--show", "all"]),
        (2, "no device 'tpu'", ["--device", "tpu"]),
        (2, "cannot be written as .heic", ["--output", "x.heic"]),
        (2, "depth maps are written as", ["--save-depth", "x.jpg"]),
        (2, "--depth and --model exclude", ["--model", "flowers"]),
    ],
)
def test_wrong_options(
    photo: Path, depth: Path, capsys: pytest.CaptureFixture[str], code: int, message: str, options: list[str]
) -> None:
    failed(capsys, code, message, "render", photo, "--depth", depth, *options)
    assert names(photo.parent) == ["map.png", "photo.jpg"]


def test_a_lens_needs_metres_which_no_model_gives(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", "distance.onnx", "--depth-kind", "distance", "--f-number", "2"]
    failed(capsys, 2, "how far things are", "render", photo, *options)
    assert names(photo.parent) == ["photo.jpg"]


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
    [(b"", "an empty file"), (b"text", "not an image"), ("cut", "cut short")],
)
def test_photos_that_are_none(
    photo: Path, depth: Path, capsys: pytest.CaptureFixture[str], content: bytes | str, message: str
) -> None:
    photo.write_bytes(photo.read_bytes()[:1200] if isinstance(content, str) else content)
    before = names(photo.parent)
    failed(capsys, 1, message, "render", photo, "--depth", depth)
    assert names(photo.parent) == before


@pytest.mark.parametrize(
    "options",
    [
        ["NONE.jpg", "--depth", "DEPTH"],
        ["PHOTO", "--depth", "NONE.png"],
        ["NONE.jpg", "--depth", "embedded"],
        ["PHOTO", "--aperture", "NONE.png", "--depth", "DEPTH"],
        ["PHOTO", "--model", "NONE"],
        ["PHOTO", "--model", "NONE.onnx"],
    ],
)
def test_files_that_are_not_there_are_wrong_usage(
    photo: Path, depth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    there = {"PHOTO": photo, "DEPTH": depth}
    failed(capsys, 2, "no", "render", *(there.get(one, one.replace("NONE", f"{tmp_path}/none")) for one in options))


def test_depth_maps_that_are_none(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_heic_without_its_extra_does_not_stop_the_rest(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    (tmp_path / "a.heic").write_bytes(b"")
    make_photo(tmp_path / "b.jpg")
    (tmp_path / "c.jpg").mkdir()  # no photo, whatever its name
    assert argan("render", tmp_path, "--model", model, "--json") == 1
    bad, good = json.loads(capsys.readouterr().out)
    assert "a.heic: HEIC photos need pillow-heif" in bad["error"]
    assert good["files"] == [str(tmp_path / "b.bokeh.jpg")]


def test_a_sweep_has_its_own_focus(
    photo: Path, depth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options in (["--focus", "0.5,0.5"], ["--focus-depth", 0.3], ["--focus-range", "0.1,0.3"]):
        failed(capsys, 2, "sweep", "render", photo, "--depth", depth, "--sweep", 2, *options)


def test_a_sweep_through_a_real_lens_blurs_by_each_plane(photo: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.linspace(0.5, 4, SIZE[0])[None].repeat(SIZE[1], axis=0))
    metres = ["--depth", tmp_path / "z.npy", "--depth-kind", "distance", "--f-number", 2, "--grain", 0]
    options = ["--sweep", 2, "--output", tmp_path / "pull.webp"]
    assert argan("render", photo, *metres, *options) == 0
    planes = sweep_planes(read_depth(tmp_path / "z.npy", "distance").disparity, 2)
    for number, plane in enumerate(planes, 1):
        alone = tmp_path / f"{number}.jpg"
        assert argan("render", photo, *metres, "--focus-depth", plane, "--output", alone) == 0
        frame = np.asarray(Image.open(tmp_path / "pull" / f"photo.{number:03}.jpg"))
        assert np.array_equal(frame, np.asarray(Image.open(alone)))


def test_a_sweep_with_discs_that_are_too_large_somewhere_changes_no_file(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """91 % of the long side at the far end, and more than all of it at the near end."""
    np.save(tmp_path / "z.npy", np.linspace(0.051, 4, SIZE[0])[None].repeat(SIZE[1], axis=0))
    lens = ["--depth", tmp_path / "z.npy", "--depth-kind", "distance", "--f-number", 1.5]
    failed(capsys, 2, "this lens draws discs", "render", photo, *lens, "--sweep", 2)
    assert names(tmp_path) == ["photo.jpg", "z.npy"]
    frames = [tmp_path / "photo.sweep" / f"photo.00{number}.jpg" for number in (1, 2, 3)]
    frames[0].parent.mkdir()
    for frame in frames:
        frame.write_bytes(b"mine")
    failed(capsys, 2, "this lens draws discs", "render", photo, *lens, "--sweep", 2, "--overwrite")
    assert [frame.read_bytes() for frame in frames] == [b"mine"] * 3


def test_discs_are_measured_from_a_focus_before_the_scene(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """52 % of the long side from the nearest thing to the farthest, which is 9.4 times as far from the focus."""
    np.save(tmp_path / "z.npy", np.linspace(0.5, 4, SIZE[0])[None].repeat(SIZE[1], axis=0))
    lens = ["--depth", tmp_path / "z.npy", "--depth-kind", "distance", "--f-number", 1.4]
    failed(capsys, 2, "discs of 489 %", "render", photo, *lens, "--focus-distance", 0.06)
    assert names(tmp_path) == ["photo.jpg", "z.npy"]


def test_a_band_is_the_focus(photo: Path, depth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert argan("render", photo, "--depth", depth, "--focus-range", "0.2,0.4", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["focus"] == pytest.approx(0.3)
    np.save(tmp_path / "z.npy", np.linspace(1, 4, SIZE[0])[None].repeat(SIZE[1], axis=0))
    metres = ["--depth", tmp_path / "z.npy", "--depth-kind", "distance", "--overwrite"]
    failed(capsys, 2, "focus-range", "render", photo, *metres, "--focus-distance", 2, "--focus-range", "0.2,0.4")


def test_apertures_from_pictures_of_any_kind(photo: Path, depth: Path, tmp_path: Path) -> None:
    """Half open on the left, open on the right: as 8 and 16 bits, and as what a transparent ground lets through."""
    grey = np.zeros((33, 33), np.uint8)
    grey[:, 8:16], grey[:, 16:24] = 51, 255
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray(np.dstack([np.full_like(grey, 255), grey])).save(tmp_path / "alpha.png")
    rendered = []
    for kind in ("8", "16", "alpha"):
        options = ["--blur", 20, "--aperture", tmp_path / f"{kind}.png", "--output", tmp_path / f"{kind}.out.png"]
        assert argan("render", photo, "--depth", depth, *options) == 0
        rendered.append(np.asarray(Image.open(tmp_path / f"{kind}.out.png")).astype(int))
    assert np.abs(rendered[1] - rendered[0]).max() <= 1
    assert np.abs(rendered[2] - rendered[0]).max() <= 1
    values = np.linspace(0, 65535, 63).round().astype(np.uint16).reshape(7, 9)
    Image.fromarray(values).save(tmp_path / "16.png")
    assert np.allclose(read_aperture(str(tmp_path / "16.png")), values / 65535)


def test_an_aperture_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    values = np.arange(1, 7, dtype=np.uint8).reshape(2, 3) * 40
    for stored in (values, values.astype(np.uint16) * 257):
        Image.fromarray(stored).save(tmp_path / "shape.png", exif=exif)
        np.testing.assert_allclose(read_aperture(str(tmp_path / "shape.png")), np.rot90(values, -1) / 255, atol=1e-6)


def test_an_aperture_of_floats_is_wrong_usage(
    photo: Path, depth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "floats.tif"
    Image.fromarray(np.ones((9, 9), np.float32)).save(path)
    failed(capsys, 2, "floats.tif: an aperture of F pixels", "render", photo, "--depth", depth, "--aperture", path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--depth-kind", "distance"], "--depth-kind goes with"),
        (["--depth", "{depth}", "--depth-unit", 2], "--depth-unit goes with"),
        (["--depth", "{depth}", "--depth-kind", "distance", "--depth-unit", 0], "above 0"),
        (["--depth", "{depth}", "--output", "x.png", "--save-depth", "x.png"], "one file"),
        (
            ["--model", "a.onnx", "--depth-kind", "disparity", "--model-input", "kind=distance"],
            "--depth-kind disparity and --model-input kind=distance exclude each other",
        ),
    ],
)
def test_options_that_would_be_ignored(
    photo: Path, depth: Path, capsys: pytest.CaptureFixture[str], options: list, message: str
) -> None:
    failed(capsys, 2, message, "render", photo, *(str(o).format(depth=depth) for o in options))


def test_one_file_named_in_two_ways_is_not_written_twice(
    photo: Path, depth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    targets = ["--output", tmp_path / "x.png", "--save-depth", tmp_path / "folder" / ".." / "x.png"]
    failed(capsys, 2, "one file", "render", photo, "--depth", depth, *targets)
    assert not (tmp_path / "x.png").exists()


def test_several_photos_are_no_file(photo: Path, depth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_photo(photo.with_name("other.jpg"))
    for target in (photo.with_name("both.jpg"), photo.with_name("both.JPG")):
        failed(capsys, 2, "cannot be one file", "render", photo, photo.with_name("other.jpg"), "--output", target)
        assert not target.exists()


def test_long_names(tmp_path: Path, depth: Path) -> None:
    photo = tmp_path / f"{'n' * 238}.jpg"
    make_photo(photo)
    assert argan("render", photo, "--depth", depth) == 0
    assert photo.with_name(f"{'n' * 238}.bokeh.jpg").exists()


def test_what_was_embedded_and_is_gone_is_not_announced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A JPEG with Dynamic Depth; its rendering has no depth any more, and says so."""
    stored = BytesIO()
    Image.fromarray(np.linspace(0, 255, SIZE[0]).astype(np.uint8)[None].repeat(SIZE[1], 0)).save(stored, "JPEG")
    item = stored.getvalue()
    container, ns = "http://ns.google.com/photos/1.0/container/", "http://ns.google.com/photos/dd/1.0/depthmap/"
    items = "".join(
        f'<rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="image/jpeg" Item:Semantic="{what}" '
        f'Item:Length="{length}"/></rdf:li>'
        for what, length in (("Primary", 0), ("Depth", len(item)))
    )
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:Container="{container}" xmlns:Item="{container}item/" xmlns:D="{ns}" '
        'D:Format="RangeInverse" D:Near="0.5" D:Far="5" D:Units="Meters"><Container:Directory><rdf:Seq>'
        f"{items}</rdf:Seq></Container:Directory></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    make_photo(tmp_path / "plain.jpg")
    with Image.open(tmp_path / "plain.jpg") as picture:
        picture.save(tmp_path / "phone.jpg", xmp=xmp.encode())
    with (tmp_path / "phone.jpg").open("ab") as file:
        file.write(item)
    assert argan("render", tmp_path / "phone.jpg", "--depth", "embedded") == 0
    rendered = tmp_path / "phone.bokeh.jpg"
    with Image.open(rendered) as picture:
        assert b"Container:Directory" not in picture.info["xmp"]
        assert b"RangeInverse" in picture.info["xmp"]  # the rest is kept
    failed(capsys, 1, "no depth inside", "render", rendered, "--depth", "embedded")
