"""argan eval: what a model is worth, in figures."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from argan.cli import _output


def evaluate(
    checkpoint: Annotated[
        str | None, typer.Argument(help="A run, a checkpoint, or a model; default the shipped one.")
    ] = None,
    data: Annotated[
        str,
        typer.Option(
            help='Folder, zip or data set of photographs, or "synthetic": the built-in ones, with true depth.'
        ),
    ] = "synthetic",
    num: Annotated[int, typer.Option(min=2, help="Generated samples, and photographs to compare with.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of samples and photographs.")] = 0,
    features: Annotated[
        Literal["auto", "efficientnet-lite0", "inception", "none"],
        typer.Option(help="What KID and FID compare; auto is efficientnet-lite0 if 'metrics' is installed."),
    ] = "auto",
    mixture: Annotated[
        Literal["bernoulli", "uniform", "deep", "shallow"],
        typer.Option(help="Depth of field of the samples for KID and FID; bernoulli is deep or shallow, as trained."),
    ] = "bernoulli",
    masks: Annotated[
        Path | None, typer.Option(help="Folder of figure masks of the photographs: is the figure nearer?")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    cache: Annotated[bool, typer.Option(help="Keep decoded photographs on disk for the next time.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Measure a model: KID and FID of its samples, the error of its depth.

    Depth scores stand beside those of the bare centre prior on the same photographs.

    Examples:

        argan eval runs/synthetic-cpu                                  depth against truth

        argan eval --data flowers.zip --masks flower-masks/ --json     depth against figure masks
    """
    from argan.devices import resolve_device
    from argan.evaluation import evaluate_model
    from argan.models.hub import load

    where = resolve_device(device)
    with _output.progress() as bar:
        report = evaluate_model(
            load(checkpoint).to(where),
            data,
            where,
            count=num,
            seed=seed,
            features=features,
            mixture=mixture,
            masks=masks,
            cache=cache,
            track=lambda items, description, total: bar.track(items, total=total, description=description),
        )
    for what, why in report.left_out.items():
        _output.info(f"not measured: {what}: {why}")
    _output.result(report.as_dict(), as_json=as_json, human=_output.table([row.as_cells() for row in report.rows]))
