"""The training run, top to bottom: data, resume, steps, what is logged and kept."""

import json
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from argan.config import TrainConfig, to_dict
from argan.data.folder import PhotoFolder
from argan.data.synthetic import SyntheticPhotos
from argan.devices import resolve_device
from argan.errors import ArganError, Interrupted
from argan.training import checkpoint, pictures
from argan.training.gan import make_players, train_step
from argan.training.logs import Log

GRID_SAMPLES = 16


class Photos(Protocol):
    """Training photographs: how many, and a batch of them, (B, 3, S, S) in [0, 1]."""

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor, flips: Tensor) -> Tensor: ...


@dataclass
class Progress:
    """What a progress bar shows."""

    step: int
    steps: int
    stats: dict[str, float]


def open_photos(config: TrainConfig, progress: Callable[[int, int], None] | None = None) -> Photos:
    """The photographs that `config.data` names."""
    if config.data == "synthetic":
        return SyntheticPhotos(config.model.resolution, config.synthetic_photos, progress=progress)
    return PhotoFolder(config.data, config.model.resolution, progress=progress)


def train(
    config: TrainConfig,
    run: Path,
    *,
    device: str = "auto",
    preparing: Callable[[int, int], None] | None = None,
    report: Callable[[Progress], None] | None = None,
) -> Path:
    """Train, or go on with, the run in the folder `run`; returns its newest checkpoint.

    A step's randomness is a function of (seed, step) alone, so an interrupted and resumed run is the same run, bit for
    bit on the CPU.

    Args:
        preparing: called with (done, total) while photographs are decoded or drawn.
        report: called after every logged step.

    Raises:
        Interrupted: Ctrl-C or SIGTERM came; a checkpoint was written first.
        ArganError: a loss is no longer finite (the last checkpoint is kept), or the data cannot be read.
    """
    place = resolve_device(device)
    run.mkdir(parents=True, exist_ok=True)
    players = make_players(config, place)
    step = checkpoint.resume(run, players, config)
    (run / "config.json").write_text(json.dumps(to_dict(config), indent=2) + "\n")
    if step >= config.steps:
        return checkpoint.existing(run)[-1]
    photos = open_photos(config, preparing)
    noise = torch.randn(GRID_SAMPLES, config.model.z_dim, generator=torch.Generator().manual_seed(config.seed))

    with Log(run, step, tensorboard=config.tensorboard) as log, stop_signals() as stopped:
        if step == 0:
            pictures.save_samples(players.average.module, noise, run / "samples" / "step-0000000.png")
        while step < config.steps:
            rng = torch.Generator().manual_seed(step_seed(config.seed, step))
            indices = torch.randint(len(photos), (config.batch,), generator=rng)
            flips = torch.rand(config.batch, generator=rng) < 0.5
            stats = train_step(players, photos.batch(indices, flips).to(place), config, step, rng)
            step += 1
            log.add(stats, config.batch)

            last = step == config.steps or bool(stopped)
            if step % config.log_every == 0 or last:
                means = log.write(step)
                refuse_not_finite(means, step, run)
                if report is not None:
                    report(Progress(step, config.steps, means))
            if step % config.sample_every == 0 or last:
                pictures.save_samples(players.average.module, noise, run / "samples" / f"step-{step:07d}.png")
            if step % config.checkpoint_every == 0 or last:
                refuse_not_finite(log.pending(), step, run)
                saved = checkpoint.save(run, players, config, step)
            if stopped:
                raise Interrupted(f"stopped by {stopped[0]} at step {step}", hint="the same command goes on from there")
    return saved


def step_seed(seed: int, step: int) -> int:
    """A seed of its own for every (seed, step)."""
    return (seed << 32) + step


def refuse_not_finite(means: dict[str, float], step: int, run: Path) -> None:
    """Stop when a loss has become NaN or infinite, and say which."""
    bad = [name for name, value in means.items() if not math.isfinite(value)]
    if bad:
        kept = checkpoint.existing(run)
        raise ArganError(
            f"{', '.join(bad)} not finite at step {step}",
            hint=f"last good checkpoint: {kept[-1]}" if kept else "no checkpoint had been written yet",
        )


@contextmanager
def stop_signals() -> Iterator[list[str]]:
    """A list that receives the name of SIGINT or SIGTERM when it arrives, so that a step is finished first.

    A second signal acts as it would have without argan.
    """
    received: list[str] = []
    before: dict[int, Any] = {}

    def note(number: int, frame: object) -> None:
        received.append(signal.Signals(number).name)
        signal.signal(number, before[number])

    for watched in (signal.SIGINT, signal.SIGTERM):
        before[watched] = signal.signal(watched, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
