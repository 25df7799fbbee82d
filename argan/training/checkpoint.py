"""Full training state on disk: a checkpoint is a model folder with the state beside it, written whole or not at all."""

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from argan import distributed
from argan.config import TrainConfig, flatten, override, to_dict
from argan.data.datasets import place_of
from argan.errors import ArganError, UsageError
from argan.files import atomic_folder
from argan.models import hub
from argan.training.players import Players

MAY_CHANGE = {
    *("steps", "max_minutes", "log_every", "sample_every", "checkpoint_every", "keep_checkpoints", "tensorboard"),
    "cuda_graphs",
    "loss.consistency_start",  # which resolve_config takes from the steps: see settings_of
}


def save(run: Path, players: Players, config: TrainConfig, step: int, photographs: int) -> Path:
    """Write `run`/checkpoints/step-N and forget the oldest beyond `config.keep_checkpoints`.

    `photographs`: how many there are to learn from.
    """
    target = folder(run, step)
    with atomic_folder(target) as temporary:
        card = {"data": config.data, "steps": str(step), "seed": str(config.seed)}
        model, weights = players.shown_model()
        hub.write_model(temporary, replace(model, card=card), _contiguous(weights))
        save_file(_contiguous(collect(players)), temporary / "state.safetensors")
        about = {"step": step, "photographs": photographs, "place": place_of(config.data)}
        state = about | {"train": to_dict(config)}
        (temporary / "state.json").write_text(json.dumps(state, indent=2) + "\n")
    for old in hub.checkpoints(run)[: -config.keep_checkpoints]:
        _remove(old)
    return target


def _remove(old: Path) -> None:
    """On Windows a checkpoint that another process reads stays, with a warning, until the next one is written."""
    gone = old.with_name(f".{old.name}.old")  # first out of sight: being killed here leaves no half of a checkpoint
    try:
        old.rename(gone)
        shutil.rmtree(gone)
    except PermissionError as error:
        warnings.warn(f"{old} could not be removed: {error.strerror}", stacklevel=3)


def not_finite(players: Players) -> list[str]:
    """Parts of the training state that hold what is not finite."""
    bad = (name for name, x in collect(players).items() if not bool(torch.isfinite(x).all()))
    return sorted({name.partition(".")[0] for name in bad})


def folder(run: Path, step: int) -> Path:
    """Where the checkpoint of that step is, or will be."""
    return run / "checkpoints" / f"step-{step:07d}"


def remove_unfinished(run: Path) -> None:
    """Remove what a killed process had not finished writing or removing."""
    for left in (run / "checkpoints").glob(".step-*"):
        shutil.rmtree(left, ignore_errors=True)


def resume(run: Path, players: Players) -> int:
    """Put the newest checkpoint of `run` into `players`; the step to go on from, 0 in a new run.

    Raises ArganError if the checkpoint is damaged.
    """
    newest = hub.newest_checkpoint(run)
    if newest is None:
        return 0
    with readable(newest):
        restore(players, load_file(newest / "state.safetensors"))
        return int(_about(newest)["step"])


def settings_of(run: Path, config: TrainConfig) -> TrainConfig:
    """The settings that `run` goes on with: `config`, but consistency sets in at the step that the run began with.

    `resolve_config` takes that step from the run's length, which may have been changed since.

    Raises:
        UsageError: the run was made with other settings.
        ArganError: the checkpoint is damaged.
    """
    newest = hub.newest_checkpoint(run)
    if newest is None:
        return config
    with readable(newest):
        about = _about(newest)
        before = override(TrainConfig(), about["train"])
    refuse_other_settings(before, config, run, about.get("place"))
    start = before.loss.consistency_start
    if config.loss.consistency and config.loss.consistency_start != start and distributed.is_main():
        warnings.warn(f"3D consistency sets in at step {start}, as it was to when this run began", stacklevel=2)
    return replace(config, loss=replace(config.loss, consistency_start=start))


def warn_of_other_photographs(run: Path, count: int) -> None:
    """Say that a run goes on with more or fewer photographs: it will not be the run that it was."""
    newest = hub.newest_checkpoint(run)
    if newest is None:
        return
    with readable(newest):
        before = _about(newest)["photographs"]
    if before != count:
        warnings.warn(f"this run had {before} photographs, and goes on with {count}", stacklevel=2)


@contextmanager
def readable(checkpoint: Path) -> Iterator[None]:
    """Whatever goes wrong while a checkpoint is read is its damage."""
    try:
        yield
    except Exception as error:
        raise ArganError(
            f"{checkpoint} is not a readable checkpoint: {error}",
            hint="delete that folder to go on from the one before it",
        ) from error


def refuse_other_settings(before: TrainConfig, now: TrainConfig, run: Path, place: str | None) -> None:
    """A run goes on with the settings that it began with.

    `place`: where its data was, whatever today's folder is; None in checkpoints that do not say. Where that is no more,
    as of a run that was moved together with its data, data is the same that is written the same from today's folder.
    """
    was, wanted = flatten(to_dict(before)), flatten(to_dict(now))
    if place is None or not os.path.exists(place):
        place = place_of(before.data)
    if place == place_of(now.data):
        was["data"] = now.data
    elif was["data"] == now.data:  # the same words: say which places they are
        was["data"], wanted["data"] = place, place_of(now.data)
    changed = [
        f"{key} {was[key]!r} -> {wanted[key]!r}" for key in wanted if key not in MAY_CHANGE and was[key] != wanted[key]
    ]
    if changed:
        raise UsageError(f"{run} was begun with other settings: {'; '.join(changed)}", hint="give --out another folder")


def collect(players: Players) -> dict[str, Tensor]:
    """Every tensor that training changes, by name: weights, their average, and Adam's moments and step counts."""
    state = {
        f"{part}.{name}": x for part, module in players.networks.items() for name, x in module.state_dict().items()
    }
    for part, optimizer in players.optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            state |= {f"{part}.{index}.{name}": x for name, x in moments.items()}
    return state


def restore(players: Players, state: dict[str, Tensor]) -> None:
    """The inverse of `collect`."""

    def under(part: str) -> dict[str, Tensor]:
        return {name.removeprefix(f"{part}."): x for name, x in state.items() if name.startswith(f"{part}.")}

    for part, module in players.networks.items():
        module.load_state_dict(under(part))
    for part, optimizer in players.optimizers.items():
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, x in under(part).items():
            index, moment = name.split(".")
            # A copy: Adam keeps what it is given, a part of the mapped file, which Windows then could not remove. It is
            # laid out in memory as the weights are: fused Adam goes through both at once.
            like = weights if (weights := parameters[int(index)]).shape == x.shape else x
            copy = torch.empty_like(like, dtype=x.dtype, device=x.device).copy_(x)
            moments.setdefault(int(index), {})[moment] = copy
        optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})


def _about(checkpoint: Path) -> dict[str, Any]:
    """What is said of a checkpoint beside its tensors: its step, how many photographs there were, the settings."""
    return json.loads((checkpoint / "state.json").read_text())


def _contiguous(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.detach().cpu().contiguous() for name, x in state.items()}
