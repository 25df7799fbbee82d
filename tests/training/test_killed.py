"""SIGKILL at any moment costs the steps since the last checkpoint, never a checkpoint."""

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from argan.config import ModelConfig, TrainConfig
from argan.models import hub
from argan.training import loop

KILLS = 10
EVERY = 3
TINY = TrainConfig(
    name="tiny",
    steps=100_000,
    batch=2,
    synthetic_photos=4,
    log_every=1,
    sample_every=5,
    checkpoint_every=EVERY,
    model=ModelConfig(resolution=8, z_dim=4, width=4, discriminator_width=4),
)


def work(config: TrainConfig, run: Path) -> None:
    torch.set_num_threads(1)
    loop.train(config, run, device="cpu")


def newest(run: Path) -> int:
    """The newest checkpoint's step, each checkpoint having been read whole."""
    steps = [0]
    for folder in hub.checkpoints(run):
        load_file(folder / "state.safetensors")
        hub.load(folder)
        steps.append(hub.step_of(folder))
    return max(steps)


def newest_name(run: Path) -> int:
    folders = hub.checkpoints(run)
    return hub.step_of(folders[-1]) if folders else 0


def last_logged(run: Path) -> int:
    lines = (run / "metrics.jsonl").read_text().split("\n")[:-1] if (run / "metrics.jsonl").exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the killed processes have: sums over another number of threads have other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
@pytest.mark.usefixtures("one_thread")
def test_ten_kills_at_random_moments(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["argan.training.loop"])
    moment, reached = random.Random(0), 0
    for _ in range(KILLS):
        process = context.Process(target=work, args=(TINY, tmp_path))
        process.start()
        patience = time.monotonic() + 120
        while newest_name(tmp_path) <= reached and process.is_alive() and time.monotonic() < patience:
            time.sleep(0.005)  # until this life has got further than the last one
        time.sleep(moment.uniform(0, 0.2))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        saved = newest(tmp_path)
        assert saved > reached  # every life's work counts
        assert last_logged(tmp_path) - saved <= EVERY
        reached = saved
    config = replace(TINY, steps=reached + 1)
    whole, killed = tmp_path / "whole", tmp_path
    loop.train(config, killed, device="cpu")
    loop.train(config, whole, device="cpu")
    ours, theirs = (load_file(hub.checkpoints(run)[-1] / "state.safetensors") for run in (killed, whole))
    assert not [name for name in theirs if not torch.equal(ours[name], theirs[name])]
    assert len(list((killed / "checkpoints").iterdir())) == config.keep_checkpoints  # no remains
