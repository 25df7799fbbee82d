"""argan train."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from argan.cli import _output

if TYPE_CHECKING:
    from argan.config import TrainConfig


def train(
    data: Annotated[
        str | None, typer.Option(help="Folder or zip of photographs, a data set's name, or 'synthetic'.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Named settings; --dry-run shows them.")] = None,
    config: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="TOML or JSON file of settings.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, e.g. loss.prior=0.05.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; default runs/NAME.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on with the run in that folder, or refuse if there is one.")
    ] = True,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps in all, those already done included.")] = None,
    max_minutes: Annotated[
        float | None, typer.Option(min=0, help="Stop after that many minutes, with a checkpoint to go on from.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="Of all that is random in a run.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the settings and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Learn depth and depth-of-field from photographs. The same command again goes on where it stopped.

    Settings: the preset's, then --config, then --set, then the other options.

    Examples:

        argan train                                          the built-in synthetic photographs

        argan train --data photos/ --preset argan-64         your own, on a GPU

        argan train --data photos/ --preset photos-cpu       without one, in an hour or two

        torchrun --nproc-per-node 8 cli.py train --preset argan-128 --data photos/     on eight
    """
    from argan.config import resolve_config, to_dict
    from argan.errors import UsageError

    options = {"data": data, "steps": steps, "max_minutes": max_minutes, "seed": seed}
    overrides = {name: value for name, value in options.items() if value is not None}
    resolved = resolve_config(preset, config, settings or [], overrides)
    if dry_run:
        _output.result(to_dict(resolved), as_json=True)
        return
    run = out or Path("runs") / resolved.name
    if not resume and (run / "checkpoints").exists():
        raise UsageError(
            f"{run} already holds a run", hint="leave --no-resume away to go on with it, or give another --out"
        )

    from argan.data.datasets import refuse_missing
    from argan.devices import resolve_device
    from argan.distributed import is_main, world
    from argan.models.hub import newest_checkpoint, step_of
    from argan.training.logs import Progress
    from argan.training.loop import train as run_training

    if resolved.data != "synthetic":
        refuse_missing(resolved.data)
    before = newest_checkpoint(run)
    done = before is not None and step_of(before) >= resolved.steps
    if is_main() and not done:
        processes = f", {world()} processes" if world() > 1 else ""
        _output.info(f"training {resolved.name} on {resolve_device(device)}{processes}, in {run}")
    with _output.progress() as bar:
        preparing, training = bar.add_task("photographs", total=None), bar.add_task("train", total=resolved.steps)
        log = _output.line_a_minute(bar)

        def show(progress: Progress) -> None:
            stats = progress.stats
            pace = f"{stats['steps_per_second']:.1f} steps/s, {stats['images_per_second']:.0f} images/s"
            text = f"train  d {stats['d']:.2f}  g {stats['g']:.2f}  {pace}"
            bar.update(training, completed=progress.step, description=text)
            log(f"{text}  step {progress.step} of {resolved.steps}")

        checkpoint = run_training(
            resolved,
            run,
            device=device,
            preparing=lambda done, total: bar.update(preparing, completed=done, total=total),
            report=show,
        )
    if not is_main():
        return
    step = step_of(checkpoint)
    if done:
        _output.info(f"all {step} steps of {run} are done; more --steps go on from there")
    human = f"{checkpoint}{_following(resolved, run, step)}"
    _output.result({"run": run, "checkpoint": checkpoint, "steps": step}, as_json=as_json, human=human)


def _following(config: "TrainConfig", run: Path, step: int) -> str:
    """A line that says what to run next; "" after a run that has learned no depth."""
    from argan.config import shows_depth

    if step < config.steps:
        return "\nnext: the same command goes on from there"
    depth = config.players == "aperture" and shows_depth(config.model, config.loss.mixture)
    return f"\nnext: argan train-depth {run}" if depth else ""
