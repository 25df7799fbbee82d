"""argan train-depth."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from argan.cli import _output


def train_depth(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_OR_CHECKPOINT...", help="Runs, checkpoints, or models; the first gets the estimator."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="The model's folder; default RUN/model of the first.")] = None,
    steps: Annotated[int, typer.Option(min=1)] = 2000,
    width: Annotated[int, typer.Option(min=8, help="Channels of the U-Net at full size, a multiple of 8.")] = 16,
    batch: Annotated[int, typer.Option(min=1)] = 16,
    images: Annotated[
        Literal["both", "deep", "shallow"], typer.Option(help="What it sees of each sample; real photos are both.")
    ] = "both",
    collage: Annotated[
        float, typer.Option(min=0, max=1, help="Share of samples that get another one's figure set into them.")
    ] = 0.5,
    close: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of these figures that are close: large, and cut off by the frame."),
    ] = 0.0,
    stage: Annotated[
        float, typer.Option(min=0, max=1, help="Share that become figures standing on a receding ground.")
    ] = 0.25,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"], typer.Option(help="Of the network; auto: bfloat16 on GPUs.")
    ] = "auto",
    half: Annotated[bool, typer.Option("--half", help="Store the weights as float16: half the size.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Learn a depth estimator for real photos from generators' own images and depth (AR-GAN-DR).

    Examples:

        argan train-depth runs/argan-64

        argan train-depth runs/flowers runs/birds        from samples of both
    """
    from argan.config import DepthConfig
    from argan.devices import resolve_device
    from argan.errors import UsageError
    from argan.models.hub import find, load
    from argan.training.depth import train_depth as learn
    from argan.training.loop import Progress

    if width % 8:
        raise UsageError(f"--width is a multiple of 8, got {width}")
    model, *others = map(load, checkpoints)
    given = Path(checkpoints[0])
    folder = out or (given if (given / "checkpoints").is_dir() else given.parent) / "model"
    _output.info(
        f"learning depth from {', '.join(str(find(name)) for name in checkpoints)} on {resolve_device(device)}"
    )
    with _output.progress() as bar:
        task = bar.add_task("depth", total=steps)

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.step, description=f"depth  error {progress.stats['error']:.3f} px")

        config = DepthConfig(
            width,
            steps,
            batch,
            seed=seed,
            images=images,
            collage=collage,
            close=close,
            stage=stage,
            precision=precision,
        )
        learned = learn(model, config, others=others, device=device, report=show)
    names = " and ".join(source.config.name for source in (model, *others))
    about = f"{steps} steps, width {width}, seed {seed}, {images} images, collage {collage:g}, stage {stage:g}"
    about += f", close {close:g}" if close else ""
    card = {**learned.config.card, "estimator": f"argan train-depth from samples of {names}, {about}"}
    learned.config = replace(learned.config, card=card)
    learned.save(folder, half)
    human = f"{folder}\nnext: argan render photo.jpg --model {folder}"
    _output.result({"model": folder, "card": card}, as_json=as_json, human=human)
