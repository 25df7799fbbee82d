"""The training run: it learns something, resumes bit for bit, stops cleanly, and refuses what it should."""

import json
import math
import ntpath
import signal
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from argan.config import LossConfig, ModelConfig, TrainConfig
from argan.errors import ArganError, Interrupted, UsageError
from argan.models import hub
from argan.training import checkpoint, loop
from argan.training.gan import GRID_SAMPLES, AperturePlayers
from argan.training.logs import Progress
from argan.training.systems import make_players

TINY = TrainConfig(
    name="tiny",
    steps=6,
    batch=4,
    synthetic_photos=12,
    log_every=2,
    sample_every=3,
    checkpoint_every=2,
    model=ModelConfig(resolution=16, z_dim=8, width=8, discriminator_width=8),
    loss=LossConfig(r1_interval=2, smoothness=0.1),
)


def final_state(run) -> dict[str, torch.Tensor]:
    return load_file(hub.checkpoints(run)[-1] / "state.safetensors")


def assert_same(ours: dict, theirs: dict) -> None:
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different


def test_a_run_leaves_what_it_promises(tmp_path):
    reports = []
    last = loop.train(TINY, tmp_path, device="cpu", report=reports.append)
    assert last == hub.checkpoints(tmp_path)[-1]
    assert last.name == "step-0000006"
    assert len(hub.checkpoints(tmp_path)) == TINY.keep_checkpoints
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6] == [report.step for report in reports]
    assert {"d", "g", "prior", "r1", "steps_per_second", "images_per_second"} <= set(lines[0])
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [
        f"step-{step:07d}.png" for step in (0, 3, 6)
    ]
    assert Image.open(tmp_path / "samples" / "step-0000000.png").size == (GRID_SAMPLES * 16, 3 * 16)
    model = hub.load(tmp_path)
    assert model.generator is not None
    assert model.depth is None


def test_a_resumed_run_is_the_same_run_bit_for_bit(tmp_path):
    loop.train(TINY, tmp_path / "whole", device="cpu")
    loop.train(replace(TINY, steps=2), tmp_path / "parts", device="cpu")
    loop.train(TINY, tmp_path / "parts", device="cpu")
    assert_same(final_state(tmp_path / "parts"), final_state(tmp_path / "whole"))
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not list what is mapped")
def test_a_resumed_run_holds_no_checkpoint_open(tmp_path):
    """Windows removes no file that is mapped into memory, and old checkpoints are removed."""
    loop.train(replace(TINY, steps=2), tmp_path, device="cpu")
    players = make_players(TINY, torch.device("cpu"))
    assert checkpoint.resume(tmp_path, players) == 2
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_command_goes_on(tmp_path, number):
    loop.train(TINY, tmp_path / "whole", device="cpu")

    def interrupt(progress: Progress) -> None:
        if progress.step == 2:
            signal.raise_signal(number)

    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=signal.Signals(number).name) as caught:
        loop.train(TINY, tmp_path / "parts", device="cpu", report=interrupt)
    assert caught.value.exit_code == 130
    assert signal.getsignal(number) is before
    loop.train(TINY, tmp_path / "parts", device="cpu")
    assert_same(final_state(tmp_path / "parts"), final_state(tmp_path / "whole"))


def test_a_signal_in_the_last_step_interrupts_nothing(tmp_path):
    def interrupt(progress: Progress) -> None:
        signal.raise_signal(signal.SIGINT)

    last = loop.train(replace(TINY, steps=2), tmp_path, device="cpu", report=interrupt)
    assert last == hub.newest_checkpoint(tmp_path)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_no_checkpoint(tmp_path, monkeypatch, bad):
    """The losses of a step are of the weights before it."""
    step = torch.optim.Adam.step

    def poison(self, *arguments, **options):
        step(self, *arguments, **options)
        self.param_groups[0]["params"][0].data[0] = bad

    monkeypatch.setattr(torch.optim.Adam, "step", poison)
    with pytest.raises(ArganError, match="not finite at step 1"):
        loop.train(replace(TINY, steps=1), tmp_path, device="cpu")
    assert hub.checkpoints(tmp_path) == []


def test_the_weights_change_and_the_average_follows(tmp_path):
    loop.train(TINY, tmp_path, device="cpu")
    state, start = final_state(tmp_path), checkpoint.collect(make_players(TINY, torch.device("cpu")))
    for part in ("player", "average", "discriminator"):
        assert any(not torch.equal(state[name], start[name]) for name in start if name.startswith(f"{part}.")), (
            f"{part} did not learn"
        )


def test_a_run_of_any_length_ends_with_all_that_it_leaves(tmp_path):
    """Steps that are no multiple of anything; the newest checkpoint is gone on from, and says what it is."""
    loop.train(replace(TINY, steps=5), tmp_path, device="cpu")
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4, 5]
    assert (tmp_path / "samples" / "step-0000005.png").exists()
    assert checkpoint.resume(tmp_path, make_players(TINY, torch.device("cpu"))) == 5
    card = hub.load(tmp_path).config.card
    assert (card["data"], card["steps"], card["seed"]) == ("synthetic", "5", "0")
    longer = replace(TINY, steps=6, max_minutes=9.0, log_every=1, sample_every=1, checkpoint_every=1)
    assert loop.train(longer, tmp_path, device="cpu").name == "step-0000006"


def test_photographs_are_mirrored_half_of_the_time():
    seen = []

    class Recorded(list):
        def batch(self, indices, flips, device):
            seen.append(flips)
            return torch.zeros(len(indices), 3, 4, 4)

    coming = loop.batches(Recorded([None] * 9), replace(TINY, batch=400), 0, torch.device("cpu"))
    next(coming)
    coming.close()
    assert 0.4 < seen[0].float().mean() < 0.6


def test_every_photograph_is_drawn_and_the_seed_decides_in_which_order():
    class Recorded(list):
        def batch(self, indices, flips, device):
            return indices

    def drawn(seed):
        coming = loop.batches(Recorded([None] * 9), replace(TINY, batch=20, seed=seed), 0, torch.device("cpu"))
        indices = torch.stack([next(coming)[0] for _ in range(10)])
        coming.close()
        return indices

    first = drawn(0)
    assert first.unique().tolist() == list(range(9))
    assert not first[0].equal(first[1])
    assert first.equal(drawn(0)) and not first.equal(drawn(1))


def test_a_second_signal_acts_as_it_would_have():
    before = signal.getsignal(signal.SIGTERM)
    with loop.stop_signals() as received:
        signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is before
    assert received == ["SIGTERM"]


def test_training_in_a_thread_is_training_without_signals(tmp_path):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(loop.train, replace(TINY, steps=1), tmp_path, device="cpu").result()
    assert hub.checkpoints(tmp_path)


def test_other_settings_are_refused_with_a_list(tmp_path):
    loop.train(replace(TINY, steps=2), tmp_path, device="cpu")
    with pytest.raises(UsageError, match=r"batch 4 -> 8"):
        loop.train(replace(TINY, batch=8), tmp_path, device="cpu")
    with pytest.raises(UsageError, match=r"seed 0 -> 1"):
        loop.train(replace(TINY, seed=1), tmp_path, device="cpu")
    with pytest.raises(UsageError, match=r"loss.prior"):
        loop.train(replace(TINY, loss=replace(TINY.loss, prior=0.5)), tmp_path, device="cpu")


def test_a_folder_of_photographs_written_otherwise_is_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "others"):
        (tmp_path / name).mkdir()
        Image.effect_noise((40, 30), 20).convert("RGB").save(tmp_path / name / "0.png")
    for steps, data in enumerate(("photos", "photos/", "./photos", str(tmp_path / "photos")), 1):
        loop.train(replace(TINY, data=data, steps=steps), tmp_path / "run", device="cpu")
    assert hub.checkpoints(tmp_path / "run")[-1].name == "step-0000004"
    for data in ("others", "synthetic", "./synthetic"):
        with pytest.raises(UsageError, match="other settings: data"):
            loop.train(replace(TINY, data=data, steps=5), tmp_path / "run", device="cpu")


def test_a_relative_folder_of_photographs_is_where_the_run_found_it(tmp_path, monkeypatch):
    for name in ("here", "there"):
        (tmp_path / name / "photos").mkdir(parents=True)
        Image.effect_noise((40, 30), 20).convert("RGB").save(tmp_path / name / "photos" / "0.png")
    run, here = tmp_path / "here" / "run", tmp_path / "here" / "photos"
    monkeypatch.chdir(tmp_path / "here")
    loop.train(replace(TINY, data="photos", steps=1), run, device="cpu")
    monkeypatch.chdir(tmp_path / "there")
    with pytest.raises(UsageError, match="other settings: data") as refused:
        loop.train(replace(TINY, data="photos", steps=2), run, device="cpu")
    assert f"{str(here)!r} -> {str(tmp_path / 'there' / 'photos')!r}" in str(refused.value)
    loop.train(replace(TINY, data=str(here), steps=2), run, device="cpu")
    loop.train(replace(TINY, data="../here/photos", steps=3), run, device="cpu")


def test_a_run_that_was_moved_together_with_its_photographs_goes_on(tmp_path, monkeypatch):
    (tmp_path / "old" / "photos").mkdir(parents=True)
    Image.effect_noise((40, 30), 20).convert("RGB").save(tmp_path / "old" / "photos" / "0.png")
    monkeypatch.chdir(tmp_path / "old")
    loop.train(replace(TINY, data="photos", steps=1), Path("run"), device="cpu")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").rename(tmp_path / "new")
    monkeypatch.chdir(tmp_path / "new")
    loop.train(replace(TINY, data="photos", steps=2), Path("run"), device="cpu")
    (tmp_path / "new" / "others").mkdir()
    with pytest.raises(UsageError, match="other settings: data"):
        loop.train(replace(TINY, data="others", steps=3), Path("run"), device="cpu")


def test_checkpoints_that_do_not_say_where_the_photographs_were_go_on_as_written(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    Image.effect_noise((40, 30), 20).convert("RGB").save(tmp_path / "photos" / "0.png")
    monkeypatch.chdir(tmp_path)
    about = loop.train(replace(TINY, data="photos", steps=1), Path("run"), device="cpu") / "state.json"
    about.write_text(
        json.dumps({name: value for name, value in json.loads(about.read_text()).items() if name != "place"})
    )
    loop.train(replace(TINY, data="./photos", steps=2), Path("run"), device="cpu")


def test_photographs_that_came_later_are_named(tmp_path):
    photos, run = tmp_path / "photos", tmp_path / "run"
    photos.mkdir()
    Image.effect_noise((40, 30), 20).convert("RGB").save(photos / "0.png")
    with warnings.catch_warnings(action="error", category=UserWarning):
        for steps in (1, 2):
            loop.train(replace(TINY, data=str(photos), steps=steps), run, device="cpu")
    Image.effect_noise((40, 30), 30).convert("RGB").save(photos / "1.png")
    with pytest.warns(UserWarning, match="had 1 photographs, and goes on with 2"):
        loop.train(replace(TINY, data=str(photos), steps=3), run, device="cpu")


def test_not_a_number_stops_with_its_cause_and_the_last_good_checkpoint(tmp_path, monkeypatch):
    real_step, calls = AperturePlayers.step, []

    def poisoned(*arguments):
        calls.append(1)
        stats = real_step(*arguments)
        return stats | {"g": torch.tensor(float("nan"))} if len(calls) == 4 else stats

    monkeypatch.setattr(AperturePlayers, "step", poisoned)
    with pytest.raises(ArganError, match="g not finite at step 4") as caught:
        loop.train(TINY, tmp_path, device="cpu")
    assert "step-0000002" in caught.value.hint
    assert [path.name for path in hub.checkpoints(tmp_path)] == ["step-0000002"]


def test_two_trainings_do_not_share_a_folder(tmp_path):
    def again(progress: Progress) -> None:
        with pytest.raises(UsageError, match="another process is training"):
            loop.train(replace(TINY, steps=8), tmp_path, device="cpu")

    loop.train(replace(TINY, steps=4), tmp_path, device="cpu", report=again)
    assert [path.name for path in hub.checkpoints(tmp_path)] == ["step-0000002", "step-0000004"]
    loop.train(replace(TINY, steps=6), tmp_path, device="cpu")


def test_a_damaged_checkpoint_is_one_clear_error(tmp_path):
    loop.train(replace(TINY, steps=2), tmp_path, device="cpu")
    state = hub.checkpoints(tmp_path)[-1] / "state.safetensors"
    state.write_bytes(state.read_bytes()[:500])
    with pytest.raises(ArganError, match="not a readable checkpoint"):
        loop.train(TINY, tmp_path, device="cpu")


def test_a_full_disk_leaves_the_last_checkpoint_and_no_half_written_one(tmp_path, monkeypatch):
    loop.train(replace(TINY, steps=2), tmp_path, device="cpu")

    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        loop.train(TINY, tmp_path, device="cpu")
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-0000002"]


def test_a_kill_while_an_old_checkpoint_is_removed_leaves_no_half_of_it(tmp_path, monkeypatch):
    def killed(folder, **_options):
        if Path(folder).exists():
            raise KeyboardInterrupt

    players = make_players(TINY, torch.device("cpu"))
    checkpoint.save(tmp_path, players, replace(TINY, keep_checkpoints=1), 2, 12)
    monkeypatch.setattr(checkpoint.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path, players, replace(TINY, keep_checkpoints=1), 4, 12)
    monkeypatch.undo()
    assert [path.name for path in hub.checkpoints(tmp_path)] == ["step-0000004"]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
    checkpoint.remove_unfinished(tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-0000004"]


def test_an_old_checkpoint_that_another_process_reads_is_removed_with_the_next(tmp_path, monkeypatch):
    """Windows renames no folder of which a file is open; training must not end there."""

    def refuse(path, target):
        raise PermissionError(13, "Access is denied", str(path))

    players, config = make_players(TINY, torch.device("cpu")), replace(TINY, keep_checkpoints=1)
    checkpoint.save(tmp_path, players, config, 2, 12)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refuse)
        with pytest.warns(UserWarning, match=r"step-0000002 could not be removed: Access"):
            checkpoint.save(tmp_path, players, config, 4, 12)
    checkpoint.save(tmp_path, players, config, 6, 12)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-0000006"]


def test_a_folder_is_the_same_however_windows_writes_it(tmp_path, monkeypatch):
    monkeypatch.setattr("os.path.normcase", ntpath.normcase)
    was, now = (replace(TINY, data=str(tmp_path / name)) for name in ("Photos", "photos"))
    checkpoint.refuse_other_settings(was, now, tmp_path, None)
    monkeypatch.undo()
    with pytest.raises(UsageError, match="other settings"):
        checkpoint.refuse_other_settings(was, now, tmp_path, None)


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    (tmp_path / "checkpoints" / ".step-0000002.0123abcd").mkdir(parents=True)
    with loop.open_run(tmp_path, TINY):
        assert list((tmp_path / "checkpoints").iterdir()) == []


def test_when_consistency_sets_in_is_not_said_of_runs_without_it(tmp_path):
    players = make_players(TINY, torch.device("cpu"))
    checkpoint.save(tmp_path, players, replace(TINY, loss=replace(TINY.loss, consistency_start=3)), 2, 12)
    with warnings.catch_warnings(action="error"):
        checkpoint.settings_of(tmp_path, TINY)


@pytest.mark.parametrize("step", [3, 6])
def test_a_picture_that_cannot_be_written_costs_no_steps(tmp_path, step):
    (tmp_path / "samples" / f"step-{step:07}.png").mkdir(parents=True)
    with pytest.raises(ArganError, match=rf"step-{step:07}\.png: cannot be written"):
        loop.train(TINY, tmp_path, device="cpu")
    assert hub.newest_checkpoint(tmp_path) == checkpoint.folder(tmp_path, step)


def test_own_photographs_are_read_from_a_folder(tmp_path):
    folder = tmp_path / "photos" / "deeper"
    folder.mkdir(parents=True)
    for index in range(5):
        Image.effect_noise((40, 30), 20 + index).convert("RGB").save(folder / f"{index}.png")
    (folder / "broken.jpg").write_bytes(b"not a picture")
    loop.train(replace(TINY, data=str(tmp_path / "photos"), steps=2), tmp_path / "run", device="cpu")
    assert (tmp_path / "run" / "checkpoints" / "step-0000002").is_dir()


def test_signals_are_restored_outside_the_main_flow():
    assert threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    with loop.stop_signals() as received:
        signal.raise_signal(signal.SIGINT)
    assert received == ["SIGINT"]
    assert signal.getsignal(signal.SIGINT) is before
