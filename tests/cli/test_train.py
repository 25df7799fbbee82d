"""`argan train`, `train-depth` and `sample` through their real entry point."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from argan.cli import main
from argan.config import ModelConfig
from argan.models.hub import Config, DepthInfo, Model, read_model_config
from argan.training import depth, loop

SMALL = [
    *("--set", "synthetic_photos=12", "--set", "batch=4", "--set", "model.resolution=16", "--set", "model.z_dim=8"),
    *("--set", "model.width=8", "--set", "model.discriminator_width=8", "--set", "log_every=1", "--device", "cpu"),
]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
COMMAND = [sys.executable, "-m", "argan"]


def argan(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=600)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A tiny trained run with its depth model."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    trained = argan("train", "--out", folder, "--steps", "2", *SMALL)
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.splitlines()[0] == str(folder / "checkpoints" / "step-0000002")
    learned = argan("train-depth", folder, "--steps", "2", "--width", "8", "--device", "cpu", "--json")
    assert learned.returncode == 0, learned.stderr
    assert json.loads(learned.stdout)["model"] == str(folder / "model")
    return folder


def test_sample_draws_a_grid_and_single_files(run, tmp_path):
    grid = argan("sample", run, "--num", "5", "--columns", "2", "--out", tmp_path / "grid.png", "--device", "cpu")
    assert grid.returncode == 0, grid.stderr
    assert Image.open(tmp_path / "grid.png").size == (2 * 16, 3 * 3 * 16)
    singles = argan("sample", run, "--num", "2", "--out", tmp_path / "singles", "--json")
    assert len(json.loads(singles.stdout)["files"]) == 6
    assert sorted(path.name for path in (tmp_path / "singles").iterdir())[:2] == ["00000.deep.png", "00000.depth.png"]


def test_sample_draws_viewpoints_from_left_to_right_and_depth_of_field_downwards(tmp_path):
    trained = argan("train", "--preset", "argan-rgbd-64", "--out", tmp_path / "run", "--steps", "1", *SMALL)
    assert trained.returncode == 0, trained.stderr
    options = ["--device", "cpu", "--num", "2", "--views", "5", "--apertures", "3"]
    done = argan("sample", tmp_path / "run", *options, "--out", tmp_path / "grid.png")
    assert done.returncode == 0, done.stderr
    grid = np.asarray(Image.open(tmp_path / "grid.png")).astype(int)
    assert grid.shape == (2 * (3 + 1) * 16, 5 * 16, 3)
    first, last = grid[:16, :16], grid[:16, -16:]
    assert np.abs(first - last).mean() > 0.1  # the camera has moved
    deep, half, whole = (grid[row : row + 16, 32:48] for row in (0, 16, 32))
    assert 0 < np.abs(half - deep).mean() < np.abs(whole - deep).mean()
    singles = argan("sample", tmp_path / "run", *options, "--out", tmp_path / "singles")
    names = [Path(line).name for line in singles.stdout.split()]
    assert len(names) == 2 * 5 * 4
    assert {name.partition(".")[0] for name in names} == {"00000", "00001"}
    assert (names[0], names[-1]) == ("00000.view-1.aperture-1.png", "00001.view-5.shallow.png")


def sampled(folder: Path, network: ModelConfig, *options: str) -> np.ndarray:
    """What `argan sample` draws of an untrained generator, in this process."""
    torch.manual_seed(0)
    Model(Config("tiny", network)).save(folder / "tiny")
    with pytest.raises(SystemExit) as ended:
        main(["sample", str(folder / "tiny"), "--device", "cpu", "--out", str(folder / "grid.png"), *options])
    assert not ended.value.code
    return np.asarray(Image.open(folder / "grid.png")).astype(int)


def test_samples_are_of_the_seed_and_the_scale_that_are_asked_for(tmp_path):
    network = ModelConfig(resolution=16, z_dim=8, width=8)
    plain, again, seed, scale = (
        sampled(tmp_path, network, "--num", "2", *options)
        for options in ([], ["--seed", "0"], ["--seed", "1"], ["--scale", "100"])
    )
    assert np.array_equal(plain, again)
    assert not np.array_equal(plain[:16], seed[:16])
    assert np.array_equal(plain[:16], scale[:16])
    assert not np.array_equal(plain[16:32], scale[16:32])


def test_there_are_sixteen_samples_in_rows_of_eight_or_four_from_several_views(tmp_path):
    network = ModelConfig(resolution=16, z_dim=8, width=8, yaw=0.5)
    assert sampled(tmp_path, network).shape == (2 * 3 * 16, 8 * 16, 3)
    assert sampled(tmp_path, network, "--views", "2").shape == (4 * 3 * 16, 2 * 16, 3)


def test_single_files_are_what_the_grid_shows(tmp_path):
    network = ModelConfig(resolution=16, z_dim=8, width=8)
    grid = sampled(tmp_path, network, "--num", "1", "--scale", "100")
    sampled(tmp_path, network, "--num", "1", "--scale", "100", "--out", str(tmp_path / "singles"))
    for row, name in enumerate(("deep", "shallow", "depth")):
        single = np.asarray(Image.open(tmp_path / "singles" / f"00000.{name}.png"))
        assert np.array_equal(single, grid[16 * row : 16 * row + 16])
    sampled(tmp_path, network, "--num", "1", "--out", str(tmp_path / "GRID.PNG"))
    assert Image.open(tmp_path / "GRID.PNG").size == (16, 3 * 16)


def test_a_model_without_generator_has_no_samples(tmp_path, capsys):
    Model(Config("tiny", depth=DepthInfo(width=8, resolution=16, levels=2))).save(tmp_path / "tiny")
    with pytest.raises(SystemExit) as ended:
        main(["sample", str(tmp_path / "tiny"), "--out", str(tmp_path / "grid.png")])
    assert (ended.value.code, capsys.readouterr().err) == (2, "error: tiny has no generator\n")


def test_a_row_of_views_is_of_one_sample(tmp_path):
    grid = sampled(tmp_path, ModelConfig(resolution=16, z_dim=8, width=8, yaw=1e-4), "--num", "2", "--views", "3")
    first, second = grid[:16], grid[48:64]  # deep; shallow and depth lie between
    assert all(np.abs(row[:, :16] - row[:, 16 * n : 16 * n + 16]).max() <= 1 for row in (first, second) for n in (1, 2))
    assert np.abs(first - second).max() > 1


def test_one_viewpoint_cannot_be_turned(run, tmp_path):
    done = argan("sample", run, "--views", "3", "--out", tmp_path / "grid.png")
    assert done.returncode == 2
    assert "does not turn" in done.stderr
    assert "rgbd" in done.stderr


def test_max_minutes_ends_with_a_checkpoint_to_go_on_from(tmp_path):
    done = argan("train", "--out", tmp_path, "--steps", "100000", "--max-minutes", "0.0001", "--json", *SMALL)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 1
    again = argan("train", "--out", tmp_path, "--steps", "2", "--json", *SMALL)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["checkpoint"] == str(tmp_path / "checkpoints" / "step-0000002")


def test_same_seed_same_samples(run, tmp_path):
    for name in ("a.png", "b.png"):
        argan("sample", run, "--num", "2", "--seed", "7", "--out", tmp_path / name, "--device", "cpu")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_ctrl_c_saves_and_exits_130(tmp_path):
    command = [*COMMAND, "train", "--out", str(tmp_path), "--steps", "100000", *SMALL]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    metrics, patience = tmp_path / "metrics.jsonl", time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().strip()) and time.monotonic() < patience:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "error: stopped by SIGINT" in stderr
    assert "Traceback" not in stderr
    assert list((tmp_path / "checkpoints").glob("step-*"))


def test_dry_run_prints_the_settings(tmp_path):
    shown = argan("train", "--preset", "argan-128", "--set", "loss.prior=0.5", "--dry-run", "--out", tmp_path / "none")
    settings = json.loads(shown.stdout)
    assert settings["model"]["resolution"] == 128
    assert settings["loss"]["prior"] == 0.5
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["train", "--preset", "best"], 2, "no preset 'best'"),
        (["train", "--set", "loss.nothing=1"], 2, "no setting loss.nothing"),
        (["train", "--data", "nowhere", "--out", "OUT"], 2, "nowhere"),
        (["train", "--steps", "0"], 2, "'--steps'"),
        (["train", "--data", "ffhq:nowhere", "--out", "OUT"], 4, "Flickr-Faces-HQ is not in nowhere"),
        (["train", "--set", "accumulate=5", "--out", "OUT"], 2, "a batch of 16"),
        (["train", "--set", "model.resolution=48", "--out", "OUT"], 2, "a power of two"),
        (["train", "--preset", "cyclegan", "--set", "model.resolution=96", "--out", "OUT"], 2, "a power of two"),
        (["train", "--device", "cuda:99", "--out", "OUT"], 4, "cuda:99"),
        (["train-depth", "nowhere"], 2, "no model nowhere"),
        (["train-depth", "flowers", "--defocus"], 2, "--defocus goes with --photos"),
        (["train-depth", "flowers", "--teacher", "birds"], 2, "--teacher goes with --photos"),
        (["sample", "nowhere"], 2, "no model nowhere"),
        (["train-depth", "flowers", "--seed", "4294967296"], 2, "'--seed'"),
        (["sample", "--out", "OUT.heic"], 2, "cannot be written as .heic"),
        (["sample", "--seed", "99999999999999999999", "--out", "OUT.png"], 2, "'--seed'"),
        (["sample", "--scale", "inf", "--out", "OUT.png"], 2, "'--scale'"),
        (["sample", "flowers-rgbd", "--views", "3", "--columns", "2", "--out", "OUT.png"], 2, "--columns goes without"),
    ],
)
def test_errors_are_one_line_with_the_right_code(arguments, code, said, tmp_path):
    done = argan(*(word.replace("OUT", str(tmp_path / "run")) for word in arguments))
    assert done.returncode == code
    error = done.stderr.splitlines()
    assert sum(line.startswith("error: ") for line in error) == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture
def trained(monkeypatch, capsys):
    """argan train, without the training: options -> (settings, folder, device), what it prints at the end."""

    def run(*options):
        seen = []

        def learn(config, run, *, device, **_):
            seen.extend((config, run, device))
            return run / "checkpoints" / "step-0000007"

        monkeypatch.setattr(loop, "train", learn)
        monkeypatch.setattr("argan.devices.resolve_device", lambda name: name)
        with pytest.raises(SystemExit) as ended:
            main(["train", *map(str, options)])
        assert not ended.value.code
        return seen, capsys.readouterr().out

    return run


def test_every_option_reaches_the_training(trained, tmp_path):
    (tmp_path / "own.toml").write_text("steps = 5\nbatch = 6\nlog_every = 3\n")
    given = ["--config", tmp_path / "own.toml", "--set", "batch=8", "--steps", 7, "--max-minutes", 9, "--seed", 10]
    (config, folder, device), _ = trained(*given, "--data", tmp_path, "--out", tmp_path / "run", "--device", "cuda:7")
    assert (config.log_every, config.batch, config.steps) == (3, 8, 7)
    assert (config.max_minutes, config.seed, config.data) == (9, 10, str(tmp_path))
    assert (folder, device) == (tmp_path / "run", "cuda:7")
    (config, folder, _), _ = trained("--preset", "argan-64")
    assert folder == Path("runs", "argan-64")


def test_data_that_is_not_there_is_noticed_before_anything_is_said(capsys, tmp_path):
    nowhere, photos = str(tmp_path / "nowhere"), str(tmp_path)
    for command in (["train", "--data", nowhere], ["train-depth", "flowers", "--photos", photos, "--photos", nowhere]):
        with pytest.raises(SystemExit) as ended:
            main(command)
        error, hint = capsys.readouterr().err.splitlines()
        assert (ended.value.code, error) == (2, f"error: no such folder or archive: {nowhere}")
        assert hint == "hint: a folder, a .zip file, or a set: oxford-flowers-102, cub-200-2011, ffhq"


def test_training_says_what_to_run_next(trained, tmp_path):
    run = tmp_path / "run"
    lines = [
        trained("--out", run, *options)[1].splitlines()[1:]
        for options in (["--steps", 8], ["--steps", 7], ["--steps", 7, "--preset", "cyclegan"])
    ]
    assert lines == [["next: the same command goes on from there"], [f"next: argan train-depth {run}"], []]


def test_a_run_that_is_done_says_so_and_does_not_say_that_it_trains(run):
    first, again = (argan("train", "--out", run, "--steps", "2", *SMALL, *form) for form in ([], ["--json"]))
    assert first.stderr == again.stderr == f"all 2 steps of {run} are done; more --steps go on from there\n"
    assert first.stdout.splitlines()[1:] == [f"next: argan train-depth {run}"]
    assert json.loads(again.stdout)["steps"] == 2


def test_training_that_diverges_says_so(tmp_path):
    done = argan("train", "--out", tmp_path / "run", "--steps", "40", "--set", "generator_lr=1e30", *SMALL)
    assert done.returncode == 1
    assert "not finite at step" in done.stderr


def test_no_resume_refuses_an_existing_run(run):
    done = argan("train", "--out", run, "--no-resume", "--steps", "4", *SMALL)
    assert done.returncode == 2
    assert "already holds a run" in done.stderr


def test_an_estimator_takes_no_folder_of_other_things(run, tmp_path):
    """The run itself, a folder of photographs, and a shipped name without a place to go."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_bytes(b"mine")
    short = ["--steps", "1", "--width", "8", "--batch", "2", "--device", "cpu"]
    for target in (tmp_path / "photos", run):
        done = argan("train-depth", run, *short, "--out", target)
        assert (done.returncode, "other things than a model" in done.stderr) == (2, True)
    assert (tmp_path / "photos" / "mine.jpg").read_bytes() == b"mine"
    assert list((run / "checkpoints").glob("step-*"))
    done = argan("train-depth", "birds", *short)
    assert (done.returncode, "--out" in done.stderr) == (2, True)


def test_an_estimator_is_learned_from_the_newest_checkpoint(tmp_path):
    run, short = tmp_path / "run", ["--steps", "1", "--width", "8", "--batch", "2", "--device", "cpu", "--json"]
    for steps in ("1", "2"):
        assert argan("train", "--out", run, "--steps", steps, *SMALL).returncode == 0
        if steps == "2":
            done = argan("sample", run, "--num", "1", "--out", tmp_path / "grid.png", "--device", "cpu")
            assert done.stderr.startswith(f"warning: {run} was trained on since")  # one line, no place in the source
        done = argan("train-depth", run if steps == "1" else run / "checkpoints" / "step-0000002", *short)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["model"] == str(run / "model")
        assert json.loads(done.stdout)["card"]["steps"] == steps
    assert "batch 2" in json.loads(done.stdout)["card"]["estimator"]
    Image.new("RGB", (20, 30), "red").save(tmp_path / "a.png")
    done = argan("train-depth", run, "--photos", tmp_path, *short)
    assert done.returncode == 0, done.stderr
    assert "samples alone" not in done.stderr  # the run has an estimator


def test_every_option_reaches_the_estimator(tmp_path, monkeypatch):
    asked = {"width": 24, "steps": 3, "batch": 5, "seed": 6, "images": "deep", "collage": 0.11, "close": 0.12}
    asked |= {"stage": 0.13, "light": 0.14, "negatives": 0.15, "encoder": "none", "levels": 2, "precision": "float32"}
    Model(Config("tiny", ModelConfig(resolution=16, z_dim=8, width=8))).save(tmp_path / "tiny")
    seen = []
    monkeypatch.setattr(depth, "train_depth", lambda model, config, **_: seen.append(config) or model)
    options = [text for name, value in asked.items() for text in (f"--{name}", str(value))]
    for more in ([], ["--half"]):
        with pytest.raises(SystemExit) as ended:
            main(["train-depth", str(tmp_path / "tiny"), "--out", str(tmp_path / "model"), *options, *more])
        assert not ended.value.code
    assert asked.items() <= asdict(seen[0]).items()
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("model", "tiny")]
    assert sizes[0] < 0.6 * sizes[1]


NETWORK = ModelConfig(resolution=16, z_dim=8, width=8)
ESTIMATOR = DepthInfo(width=8, resolution=16, levels=2)


@pytest.fixture
def estimated(monkeypatch, capsys):
    """argan train-depth, without the learning: arguments -> exit code, stdout, stderr, and (model, options) if any."""

    def run(*arguments):
        seen = []
        monkeypatch.setattr(
            depth, "train_depth", lambda model, config, **options: seen.extend((model, options)) or model
        )
        monkeypatch.setattr("argan.devices.resolve_device", lambda name: name)
        with pytest.raises(SystemExit) as ended:
            main(["train-depth", *map(str, arguments)])
        return ended.value.code, *capsys.readouterr(), seen

    return run


def test_all_models_and_photographs_reach_the_estimator(estimated, tmp_path):
    for name in ("one", "two"):
        Model(Config(name, NETWORK)).save(tmp_path / name)
        Image.new("RGB", (20, 30)).save(tmp_path / f"{name}.png")
    arguments = [tmp_path / "one", tmp_path / "two", "--photos", tmp_path, "--out", tmp_path / "out"]
    code, out, _, (model, options) = estimated(*arguments, "--device", "cuda:7")
    assert (code, model.config.name, options["device"]) == (0, "one", "cuda:7")
    assert [other.config.name for other in options["others"]] == ["two"]
    assert [tuple(photos.shape) for photos in options["photos"]] == [(2, 3, 16, 16)]
    assert out.splitlines()[1] == f"next: argan render photo.jpg --model {tmp_path / 'out'}"
    card = read_model_config(tmp_path / "out").card["estimator"]
    assert f"from samples of one and samples of two and 2 photographs of {tmp_path.name}, samples alone first" in card


def test_the_blur_of_all_photographs_reaches_the_estimator(estimated, tmp_path):
    Model(Config("one", NETWORK, ESTIMATOR)).save(tmp_path / "one")
    striped = Image.new("L", (128, 128))
    striped.paste(255, (0, 0, 64, 128))
    for folder, count in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        for index in range(count):
            striped.save(tmp_path / folder / f"{index}.png")
    both = ["--photos", tmp_path / "a", "--photos", tmp_path / "b"]
    for options, expected in ((["--defocus"], [(1, 1, 16, 16), (2, 1, 16, 16)]), ([], [])):
        code, _, _, (_, given) = estimated(tmp_path / "one", *both, *options, "--out", tmp_path / "out")
        assert (code, [tuple(maps.shape) for maps in given["focus"]]) == (0, expected)
        assert all(maps.any() for maps in given["focus"])
        assert ("of a and their blur" in read_model_config(tmp_path / "out").card["estimator"]) == bool(options)


def test_photographs_are_seen_by_the_runs_own_estimator_unless_it_is_older_than_the_run(estimated, tmp_path):
    run, photos = tmp_path / "run", tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (20, 30)).save(photos / "a.png")
    Model(Config("tiny", NETWORK, card={"steps": "2"})).save(run / "checkpoints" / "step-0000002")
    for steps, options, seen in (
        ("2", ["--photos", photos], True),
        ("1", ["--photos", photos], False),
        ("2", [], False),
    ):
        Model(Config("tiny", NETWORK, ESTIMATOR, card={"steps": steps})).save(run / "model")
        code, _, _, (model, _) = estimated(run, *options)
        assert (code, model.depth is not None) == (0, seen)


def test_the_model_of_a_run_may_be_named_itself(estimated, tmp_path):
    Model(Config("tiny", NETWORK)).save(tmp_path / "model")
    assert estimated(tmp_path / "model", "--json")[0] == 0
    assert "estimator" in read_model_config(tmp_path / "model").card


def test_what_would_fail_after_the_learning_is_refused_before_it(estimated, tmp_path):
    Model(Config("tiny", NETWORK)).save(tmp_path / "tiny")
    for options, said in ((["--out", tmp_path], "other things"), (["--width", 12], "a multiple of 8, got 12")):
        code, _, err, seen = estimated(tmp_path / "tiny", "--out", tmp_path / "out", *options)
        assert (code, said in err, seen) == (2, True, [])


def test_what_cannot_be_learned_from_is_refused_before_photographs_are_decoded(estimated, tmp_path, monkeypatch):
    Model(Config("tiny", NETWORK, ESTIMATOR)).save(tmp_path / "tiny")
    Model(Config("blind", NETWORK)).save(tmp_path / "blind")
    Model(Config("large", replace(NETWORK, resolution=32))).save(tmp_path / "large")
    monkeypatch.setattr("argan.data.folder.PhotoFolder", lambda *_: pytest.fail("decoded"))
    arguments = [tmp_path / "tiny", "--photos", tmp_path, "--out", tmp_path / "out"]
    code, _, err, _ = estimated(*arguments, "--teacher", tmp_path / "blind")
    assert (code, err) == (2, "error: blind has no estimator of argan's to learn from\n")
    code, _, err, _ = estimated(*arguments, tmp_path / "large")
    assert (code, err) == (2, "error: generators of 16 and 32 px cannot share an estimator\n")


def test_a_generator_without_depth_is_warned_of_once(tmp_path):
    Model(Config("plain", NETWORK, mixture="deep")).save(tmp_path / "plain")
    short = ["--steps", "1", "--width", "8", "--batch", "2", "--device", "cpu"]
    done = argan("train-depth", tmp_path / "plain", *short, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: plain was trained without rendering") == 1


def test_an_estimator_is_learned_from_photographs_too(run, tmp_path):
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (20, 30), colour).save(tmp_path / name)
    short = ["--steps", "1", "--width", "8", "--batch", "2", "--device", "cpu", "--json", "--out", tmp_path / "model"]
    newest = max((run / "checkpoints").glob("step-*"))  # the run itself has an estimator
    done = argan("train-depth", newest, "--photos", tmp_path, *short)
    assert done.returncode == 0, done.stderr
    assert "first from samples alone" in done.stderr
    learned_from = json.loads(done.stdout)["card"]["estimator"]
    assert f"samples of synthetic-cpu and 2 photographs of {tmp_path.name}, samples alone first" in learned_from
    done = argan("train-depth", newest, "--photos", tmp_path, "--teacher", run, *short)
    assert done.returncode == 0, done.stderr
    assert "first from samples alone" not in done.stderr
    assert "and the depth that synthetic-cpu sees in these: " in json.loads(done.stdout)["card"]["estimator"]
    done = argan("train-depth", newest, "--photos", tmp_path, "--teacher", newest, *short)
    assert (done.returncode, "has no estimator of argan's" in done.stderr) == (2, True)
    done = argan("train-depth", run, "--photos", tmp_path / "nowhere", *short)
    assert (done.returncode, "no such folder" in done.stderr) == (2, True)
