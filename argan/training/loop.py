"""The training run, top to bottom: data, resume, steps, what is logged and kept."""

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from argan import distributed
from argan.config import TrainConfig, to_dict
from argan.data.domains import FocusDomains
from argan.data.folder import PhotoFolder
from argan.data.synthetic import SyntheticPhotos
from argan.errors import ArganError, Interrupted, UsageError
from argan.files import atomic_file
from argan.models import hub
from argan.training import checkpoint
from argan.training.draws import step_seed
from argan.training.logs import Log, Progress
from argan.training.players import Players
from argan.training.systems import make_players

ASKED = 10  # steps after which several processes ask each other whether to stop: torchrun waits for 30 seconds


class Photos(Protocol):
    """Training photographs: how many, and a batch of them on a device, (B, 3, S, S) in [0, 1]."""

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor, flips: Tensor, device: torch.device) -> Tensor: ...


def open_photos(config: TrainConfig, progress: Callable[[int, int], None] | None = None) -> Photos:
    """The photographs that `config.data` names; for CycleGAN, its two domains."""
    photos: PhotoFolder | SyntheticPhotos
    if config.data == "synthetic":
        photos = SyntheticPhotos(config.model.resolution, config.synthetic_photos, progress=progress)
    else:
        with distributed.main_first():  # which decodes; the others map what it has kept
            photos = PhotoFolder(config.data, config.model.resolution, progress=progress)
    return FocusDomains(photos.images) if config.players == "cycle" else photos


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
    bit on the CPU. Under torchrun all processes come here, share every batch, and the main one writes.

    Args:
        preparing: called with (done, total) while photographs are decoded or drawn.
        report: called after every logged step.

    Raises:
        Interrupted: Ctrl-C or SIGTERM came before the last step; a checkpoint was written first.
        ArganError: a loss is no longer finite (the last checkpoint is kept), or the data cannot be read.
        UsageError: the batch cannot be shared out, the run was begun with other settings, or another process is at it.
    """
    began = time.monotonic()
    refuse_unequal_parts(config)
    with distributed.process_group(device) as where:
        main = distributed.is_main()
        config = checkpoint.settings_of(run, config)
        players = make_players(config, where)
        step = checkpoint.resume(run, players)
        distributed.broadcast(players.networks.values())
        if step >= config.steps:
            return hub.checkpoints(run)[-1]
        photos = open_photos(config, preparing)
        if main:
            checkpoint.warn_of_other_photographs(run, len(photos))
        with (
            open_run(run, config),
            Log(run, step, config.tensorboard, writes=main) as log,
            stop_signals() as stopped,
            closing(batches(photos, config, step, where)) as coming,
        ):
            if main and step == 0:
                players.save_samples(samples_at(run, step))
            while step < config.steps:
                real, rng = next(coming)
                stats = players.step(real, step, rng)
                step += 1
                log.add(stats, config.batch)

                logged = step % config.log_every == 0
                out_of_time = 0 < 60 * config.max_minutes <= time.monotonic() - began
                stop = distributed.agree(bool(stopped) or out_of_time, now=logged or step % ASKED == 0)
                last = stop or step == config.steps
                if logged or last:
                    means = log.write(step)
                    refuse_not_finite(means, step, run)
                    if main and report is not None:
                        report(Progress(step, means))
                kept = step % config.checkpoint_every == 0 or last
                if main and kept:
                    keep(run, players, config, step, len(photos), log)
                if main and (step % config.sample_every == 0 or last):
                    try:
                        players.save_samples(samples_at(run, step))
                    except ArganError:  # which costs no steps
                        if not kept:
                            keep(run, players, config, step, len(photos), log)
                        raise
                if stop:
                    break
    if stopped and step < config.steps:
        raise Interrupted(f"stopped by {stopped[0]} at step {step}", hint="the same command goes on from there")
    return checkpoint.folder(run, step)


def samples_at(run: Path, step: int) -> Path:
    """The picture of what has been learned in that many steps."""
    return run / "samples" / f"step-{step:07d}.png"


def keep(run: Path, players: Players, config: TrainConfig, step: int, photographs: int, log: Log) -> None:
    """Write a checkpoint, unless a loss or a weight is no longer finite: that is an ArganError."""
    refuse_not_finite(log.pending(), step, run)
    damaged = dict.fromkeys(checkpoint.not_finite(players), math.nan)
    refuse_not_finite(damaged, step, run)  # losses are of the weights before
    checkpoint.save(run, players, config, step, photographs)


@contextmanager
def open_run(run: Path, config: TrainConfig) -> Iterator[None]:
    """The run's folder, with its settings written down, for this training alone; the main process sees to it."""
    if not distributed.is_main():
        yield
        return
    run.mkdir(parents=True, exist_ok=True)
    with alone_in(run):
        checkpoint.remove_unfinished(run)
        with atomic_file(run / "config.json") as temporary:
            temporary.write_text(json.dumps(to_dict(config), indent=2) + "\n")
        yield


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """No other training is in the folder for the block; the system drops the lock with the process, however it ends.

    Raises UsageError if there is one already. Where the file system knows no locks, nobody is kept out.
    """
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        hint = "wait for it, or give --out another folder"
        raise UsageError(f"another process is training in {folder}", hint=hint) from None
    except OSError:
        pass
    try:
        yield
    finally:
        lock.release()


def batches(
    photos: Photos, config: TrainConfig, step: int, device: torch.device
) -> Generator[tuple[Tensor, torch.Generator]]:
    """For every step this process's photographs and the rest of the step's randomness.

    The next step's are made ready in a thread while this step runs, on the same stream of the device.
    """
    mine = distributed.share(config.batch)
    device = torch.empty(0, device=device).device  # with its number: in a thread "cuda" is the first GPU

    def ready(step: int) -> tuple[Tensor, torch.Generator]:
        rng = torch.Generator().manual_seed(step_seed(config.seed, step))
        indices = torch.randint(len(photos), (config.batch,), generator=rng)
        flips = torch.rand(config.batch, generator=rng) < 0.5
        return photos.batch(indices[mine], flips[mine], device), rng

    with ThreadPoolExecutor(1, "photographs") as thread:
        coming = thread.submit(ready, step)
        while True:
            made = coming.result()
            step += 1
            coming = thread.submit(ready, step)
            yield made


def refuse_unequal_parts(config: TrainConfig) -> None:
    """Every process and every part of its share works on as many photographs, or on as many pairs."""
    paired = config.model.viewpoints or config.players == "cycle"
    parts = distributed.world() * config.accumulate * (2 if paired else 1)
    if config.accumulate < 1 or config.batch % parts:
        pairs = " pairs in" if paired else ""
        what = f"{distributed.world()} processes of{pairs} {config.accumulate} parts"
        raise UsageError(f"a batch of {config.batch} cannot be shared by {what}", hint=f"a multiple of {parts}")


def refuse_not_finite(means: dict[str, float], step: int, run: Path) -> None:
    """Stop when a loss has become NaN or infinite, and say which."""
    bad = [name for name, value in means.items() if not math.isfinite(value)]
    if bad:
        kept = hub.newest_checkpoint(run)
        raise ArganError(
            f"{', '.join(bad)} not finite at step {step}",
            hint=f"last good checkpoint: {kept}" if kept is not None else "no checkpoint had been written yet",
        )


@contextmanager
def stop_signals() -> Iterator[list[str]]:
    """A list that receives the name of SIGINT or SIGTERM when it arrives, so that a step is finished first.

    A second signal acts as it would have without argan. Threads beside the main one receive none.
    """
    received: list[str] = []
    before: dict[int, Any] = {}
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

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
