"""argan sample."""

from pathlib import Path
from typing import Annotated

import typer

from argan.cli import _output


def sample(
    checkpoint: Annotated[
        str | None, typer.Argument(help="A run, a checkpoint, or a model; default the shipped one.")
    ] = None,
    num: Annotated[int, typer.Option(min=1, help="How many samples.")] = 16,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path, typer.Option(help="A picture (grid of all), or a folder (three files a sample).")] = Path(
        "samples.png"
    ),
    scale: Annotated[float, typer.Option(min=0.0, help="DoF scale s: 0 deep, 1 as learned, more exaggerates.")] = 1.0,
    columns: Annotated[int, typer.Option(min=1, help="Samples a row of the grid.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Draw deep images, shallow images and depth from noise.

    Examples:

        argan sample runs/argan-64 --num 32 --out grid.png

        argan sample --num 100 --out samples/               single files
    """
    import torch

    from argan.devices import resolve_device
    from argan.errors import UsageError
    from argan.models.hub import load
    from argan.training import pictures

    model = load(checkpoint)
    generator = model.generator
    if generator is None:
        raise UsageError(f"{model.config.name} has no generator")
    model = model.to(resolve_device(device))
    noise = torch.randn(num, generator.z_dim, generator=torch.Generator().manual_seed(seed))
    deep, shallow, disparity = (x.cpu() for x in pictures.generate(model, noise, scale))
    if out.suffix:
        written = pictures.save_grid(deep, shallow, disparity, out, columns)
    else:
        written = pictures.save_singles(deep, shallow, disparity, out)
    _output.result({"files": written}, as_json=as_json, human="\n".join(map(str, written)))
