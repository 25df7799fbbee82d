"""argan train-depth."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from argan.cli import _output


def train_depth(
    checkpoint: Annotated[str, typer.Argument(metavar="RUN_OR_CHECKPOINT", help="A run, a checkpoint, or a model.")],
    out: Annotated[Path | None, typer.Option(help="The model's folder; default RUN/model.")] = None,
    steps: Annotated[int, typer.Option(min=1)] = 2000,
    width: Annotated[int, typer.Option(min=8, help="Channels of the U-Net at full size, a multiple of 8.")] = 16,
    batch: Annotated[int, typer.Option(min=1)] = 16,
    images: Annotated[
        Literal["both", "deep", "shallow"], typer.Option(help="What it sees of each sample; real photos are both.")
    ] = "both",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    half: Annotated[bool, typer.Option("--half", help="Store the weights as float16: half the size.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Learn a depth estimator for real photos from a generator's own images and depth (AR-GAN-DR).

    Example:

        argan train-depth runs/argan-64
    """
    from argan.config import DepthConfig
    from argan.devices import resolve_device
    from argan.errors import UsageError
    from argan.models.hub import find, load
    from argan.training.depth import train_depth as learn
    from argan.training.loop import Progress

    if width % 8:
        raise UsageError(f"--width is a multiple of 8, got {width}")
    model = load(checkpoint)
    given = Path(checkpoint)
    folder = out or (given if (given / "checkpoints").is_dir() else given.parent) / "model"
    _output.info(f"learning depth from {find(checkpoint)} on {resolve_device(device)}")
    with _output.progress() as bar:
        task = bar.add_task("depth", total=steps)

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.step, description=f"depth  error {progress.stats['error']:.3f} px")

        learned = learn(model, DepthConfig(width, steps, batch, seed=seed, images=images), device=device, report=show)
    card = {
        **learned.config.card,
        "estimator": f"argan train-depth, {steps} steps, width {width}, seed {seed}, {images} images",
    }
    learned.config = replace(learned.config, card=card)
    learned.save(folder, half)
    human = f"{folder}\nnext: argan render photo.jpg --model {folder}"
    _output.result({"model": folder, "card": card}, as_json=as_json, human=human)
