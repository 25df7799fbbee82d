"""argan eval: what a model is worth, in figures."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from argan.cli import _options, _output
from argan.config import Mixture


def evaluate(
    checkpoint: Annotated[
        str | None, typer.Argument(help="A model's name or folder, a run, or a checkpoint; default flowers.")
    ] = None,
    data: Annotated[
        str,
        typer.Option(
            help='Folder, zip or data set of photographs, or "synthetic": the built-in ones, with true depth.'
        ),
    ] = "synthetic",
    num: Annotated[int, typer.Option(min=2, help="Generated samples, and photographs to compare with.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of samples and photographs.")] = 0,
    features: Annotated[
        Literal["auto", "efficientnet-lite0", "inception", "none"],
        typer.Option(help="What KID and FID compare; auto is efficientnet-lite0 if argan\\[metrics] is installed."),
    ] = "auto",
    mixture: Annotated[
        Literal["auto", Mixture],
        typer.Option(
            help="Depth of field of the samples for KID and FID; auto: as in training; bernoulli: deep or shallow."
        ),
    ] = "auto",
    masks: Annotated[
        Path | None, typer.Option(help="Folder of figure masks of the photographs: is the figure nearer?")
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="Folder of other photographs with true depth: NAME.jpg beside NAME.inv.png, 1 = nearest."),
    ] = None,
    surrogate: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="An ONNX depth network to compare with on the photographs."),
    ] = None,
    surrogate_input: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="How it takes a picture, as --model-input of argan depth: size=384, …"),
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Picture to write: samples, and photographs with their depth.")
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

        argan eval --data photos/ --surrogate midas.onnx --sheet sheet.png
    """
    from argan.errors import UsageError
    from argan.images import check_suffix
    from argan.runtime import is_onnx

    settings = _options.key_values("--surrogate-input", surrogate_input)
    if surrogate_input and surrogate is None:
        raise UsageError("--surrogate-input goes with --surrogate FILE.onnx")
    if surrogate is not None and not is_onnx(surrogate):
        raise UsageError(f"{surrogate} is not an ONNX network", hint="--surrogate FILE.onnx")
    if sheet is not None:
        check_suffix(sheet)

    # From here on it takes torch.
    from argan.devices import resolve_device
    from argan.evaluation.run import evaluate_model
    from argan.models.hub import load
    from argan.models.onnx_depth import OnnxDepth

    where, model = resolve_device(device), load(checkpoint)
    _output.info(f"measuring {model.config.name} on {where}")
    other = OnnxDepth(surrogate, settings) if surrogate is not None else None
    with _output.progress() as bar:
        report = evaluate_model(
            model.to(where),
            data,
            where,
            count=num,
            seed=seed,
            features=features,
            mixture=None if mixture == "auto" else mixture,
            masks=masks,
            truth=truth,
            surrogate=other,
            sheet=sheet,
            cache=cache,
            track=lambda items, description, total: bar.track(items, total=total, description=description),
        )
    for what, why in report.left_out.items():
        _output.info(f"not measured: {what}: {why}")
    _output.result(asdict(report), as_json=as_json, human=_output.table([row.as_cells() for row in report.rows]))
