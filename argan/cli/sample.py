"""argan sample."""

from pathlib import Path
from typing import Annotated

import typer

from argan.cli import _output


def sample(
    checkpoint: Annotated[
        str | None, typer.Argument(help="A model's name or folder, a run, or a checkpoint; default flowers.")
    ] = None,
    num: Annotated[
        int | None, typer.Option(min=1, help="How many samples; default 16, or 4 from several views.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the noise.")] = 0,
    out: Annotated[Path, typer.Option(help="A picture (grid of all), or a folder (single files).")] = Path(
        "samples.png"
    ),
    scale: Annotated[
        float, typer.Option(min=0, max=100, help="DoF scale s: 0 deep, 1 as learned, more exaggerates.")
    ] = 1.0,
    views: Annotated[int, typer.Option(min=1, help="Viewpoints of each sample, from left to right.")] = 1,
    apertures: Annotated[int, typer.Option(min=2, help="Depths of field of each, from deep to --scale.")] = 2,
    columns: Annotated[int | None, typer.Option(min=1, help="Samples a row of the grid; default 8.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Draw images of growing depth of field and depth from noise; with --views, a row for each sample.

    Examples:

        argan sample runs/argan-64 --num 32 --out grid.png

        argan sample flowers-rgbd --views 5 --apertures 3   viewpoint from left to right

        argan sample --num 100 --out samples/               single files
    """
    import torch

    from argan.devices import resolve_device
    from argan.errors import UsageError
    from argan.images import check_suffix
    from argan.models.hub import load
    from argan.training import pictures

    if in_one := bool(out.suffix) and not out.is_dir():
        check_suffix(out)
    if views > 1 and columns is not None:
        raise UsageError("--columns goes without --views, whose grid has a row for each sample")
    model = load(checkpoint)
    if (network := model.config.generator) is None:
        raise UsageError(f"{model.config.name} has no generator")
    if views > 1 and not network.yaw:
        hint = "flowers-rgbd does; argan train --preset argan-rgbd-64 learns it"
        raise UsageError(f"{model.config.name} does not turn from left to right", hint)
    model = model.to(where := resolve_device(device))
    _output.info(f"{model.config.name} on {where}")
    count = num or (4 if views > 1 else 16)
    noise, camera = pictures.in_views(network, count, views, seed)
    scales = torch.linspace(0, scale, apertures).tolist()
    images, disparity = pictures.generate_apertures(model, noise, scales, camera)
    depth = pictures.depth_picture(disparity)
    if in_one:
        pictures.save_picture([*images, depth], out, views if views > 1 else columns or 8)
        written = [out]
    else:
        middle = [f"aperture-{number}" for number in range(1, apertures - 1)]
        names = ["deep", *middle, "shallow", "depth"]
        written = pictures.save_singles(dict(zip(names, [*images, depth], strict=True)), out, views)
    _output.result({"files": written}, as_json=as_json, human="\n".join(map(str, written)))
