"""Full training state on disk: a checkpoint is a model folder with the state beside it, written whole or not at all."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from argan.config import TrainConfig, override, to_dict
from argan.errors import ArganError, UsageError
from argan.files import atomic_folder
from argan.models import hub
from argan.training.gan import Players

MAY_CHANGE = {"steps", "log_every", "sample_every", "checkpoint_every", "keep_checkpoints", "tensorboard"}


def save(run: Path, players: Players, config: TrainConfig, step: int) -> Path:
    """Write `run`/checkpoints/step-N and forget the oldest beyond `config.keep_checkpoints`."""
    folder = run / "checkpoints" / f"step-{step:07d}"
    with atomic_folder(folder) as temporary:
        card = {"data": config.data, "steps": str(step), "seed": str(config.seed)}
        model = hub.Config(name=config.name, generator=config.model, card=card)
        hub.write_model(temporary, model, _contiguous(players.average.module.state_dict()))
        save_file(_contiguous(collect(players)), temporary / "state.safetensors")
        (temporary / "state.json").write_text(json.dumps({"step": step, "train": to_dict(config)}, indent=2) + "\n")
    for old in existing(run)[: -config.keep_checkpoints]:
        shutil.rmtree(old)
    return folder


def existing(run: Path) -> list[Path]:
    """Checkpoints of a run, oldest first."""
    return sorted((run / "checkpoints").glob("step-*"))


def resume(run: Path, players: Players, config: TrainConfig) -> int:
    """Put the newest checkpoint of `run` into `players`; the step to go on from, 0 in a new run.

    Raises:
        UsageError: the run was made with other settings.
        ArganError: the checkpoint is damaged.
    """
    folders = existing(run)
    if not folders:
        return 0
    folder = folders[-1]
    try:
        record = json.loads((folder / "state.json").read_text())
        refuse_other_settings(override(TrainConfig(), record["train"]), config, run)
        restore(players, load_file(folder / "state.safetensors"))
        return int(record["step"])
    except UsageError:
        raise
    except Exception as error:
        raise ArganError(
            f"{folder} is not a readable checkpoint: {error}", hint="delete that folder to go on from the one before it"
        ) from error


def refuse_other_settings(before: TrainConfig, now: TrainConfig, run: Path) -> None:
    """A run goes on with the settings that it began with."""
    was, wanted = flatten(to_dict(before)), flatten(to_dict(now))
    changed = [
        f"{key} {was[key]!r} -> {wanted[key]!r}" for key in wanted if key not in MAY_CHANGE and was[key] != wanted[key]
    ]
    if changed:
        raise UsageError(f"{run} was begun with other settings: {'; '.join(changed)}", hint="give --out another folder")


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _parts(players: Players) -> dict[str, torch.nn.Module]:
    return {"player": players.generator, "discriminator": players.discriminator, "average": players.average.module}


def _optimizers(players: Players) -> dict[str, torch.optim.Optimizer]:
    return {"generator_adam": players.generator_optimizer, "discriminator_adam": players.discriminator_optimizer}


def collect(players: Players) -> dict[str, Tensor]:
    """Every tensor that training changes, by name: weights, their average, and Adam's moments and step counts."""
    state = {f"{part}.{name}": x for part, module in _parts(players).items() for name, x in module.state_dict().items()}
    for part, optimizer in _optimizers(players).items():
        for index, moments in optimizer.state_dict()["state"].items():
            state |= {f"{part}.{index}.{name}": x for name, x in moments.items()}
    return state


def restore(players: Players, state: dict[str, Tensor]) -> None:
    """The inverse of `collect`."""

    def under(part: str) -> dict[str, Tensor]:
        return {name.removeprefix(f"{part}."): x for name, x in state.items() if name.startswith(f"{part}.")}

    for part, module in _parts(players).items():
        module.load_state_dict(under(part))
    for part, optimizer in _optimizers(players).items():
        moments: dict[int, dict[str, Tensor]] = {}
        for name, x in under(part).items():
            index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = x
        optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})


def _contiguous(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.detach().cpu().contiguous() for name, x in state.items()}
