"""argan train-depth."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from argan.cli import _output
from argan.config import DepthConfig, EncoderName, Images, NetworkPrecision

if TYPE_CHECKING:
    from argan.data.folder import PhotoFolder
    from argan.models.hub import Model

DEFAULT = DepthConfig()


def train_depth(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_OR_CHECKPOINT...", help="Runs, checkpoints, or models; the first gets the estimator."
        ),
    ],
    photos: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DATA",
            help="Photographs (folder, zip or data set) to learn from as well, with the depth that an estimator sees "
            "in them: the first model's, or if it has none, one that is learned from samples first. Repeatable: "
            "each is drawn from equally often.",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Whose estimator sees depth in --photos; default: the first's own."),
    ] = None,
    defocus: Annotated[
        bool,
        typer.Option(
            "--defocus",
            help="The photographs have shallow depth of field: what is sharp in them is near, what is blurred far. "
            "Seen in files of at least 6 times the generator's size.",
        ),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="The model's folder; default RUN/model of the first run.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the optimizer.")] = DEFAULT.steps,
    width: Annotated[
        int, typer.Option(min=8, help="Channels of the U-Net at full size, a multiple of 8.")
    ] = DEFAULT.width,
    batch: Annotated[int, typer.Option(min=1, help="Images a step.")] = DEFAULT.batch,
    images: Annotated[Images, typer.Option(help="What it sees of each sample; real photos are both.")] = DEFAULT.images,
    collage: Annotated[
        float, typer.Option(min=0, max=1, help="Share of samples that get another one's figure set into them.")
    ] = DEFAULT.collage,
    close: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of these figures that are close: large, and cut off by the frame."),
    ] = DEFAULT.close,
    stage: Annotated[
        float, typer.Option(min=0, max=1, help="Share that become figures standing on a receding ground.")
    ] = DEFAULT.stage,
    light: Annotated[
        float, typer.Option(min=0, help="Uneven light: how far the logarithm of its gain deviates.")
    ] = DEFAULT.light,
    negatives: Annotated[
        float, typer.Option(min=0, max=1, help="Share that are shown as negatives.")
    ] = DEFAULT.negatives,
    encoder: Annotated[
        EncoderName,
        typer.Option(help="What it starts from: a network that knows ImageNet's things, or nothing, as the paper's."),
    ] = DEFAULT.encoder,
    levels: Annotated[
        int, typer.Option(min=1, help="With no encoder: halvings of the U-Net, down to no less than 4 px.")
    ] = DEFAULT.levels,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of samples and first weights.")] = DEFAULT.seed,
    precision: Annotated[
        NetworkPrecision, typer.Option(help="Of the network; auto: bfloat16 on GPUs.")
    ] = DEFAULT.precision,
    half: Annotated[bool, typer.Option("--half", help="Store the weights as float16: half the size.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Learn a depth estimator for real photos from generators' own images and depth (AR-GAN-DR).

    Examples:

        argan train-depth runs/argan-64

        argan train-depth runs/flowers runs/birds        from samples of both

        argan train-depth runs/argan-64 --photos photos/       then from photographs too

        argan train-depth runs/argan-64 --photos portraits/ --defocus       and from their blur
    """
    import torch

    from argan.config import to_dict
    from argan.data.datasets import refuse_missing
    from argan.data.defocus import focus_maps
    from argan.data.folder import PhotoFolder
    from argan.devices import resolve_device
    from argan.errors import UsageError
    from argan.models.hub import find, load, refuse_other_things
    from argan.training.depth import predictor, shared_resolution
    from argan.training.depth import train_depth as learn
    from argan.training.logs import Progress

    if width % 8:
        raise UsageError(f"--width is a multiple of 8, got {width}")
    if defocus and not photos:
        raise UsageError("--defocus goes with --photos")
    if teacher is not None and not photos:
        raise UsageError("--teacher goes with --photos")
    for data in photos or ():
        refuse_missing(data)
    config = DepthConfig(
        width=width,
        steps=steps,
        batch=batch,
        seed=seed,
        images=images,
        collage=collage,
        close=close,
        stage=stage,
        light=light,
        negatives=negatives,
        encoder=encoder,
        levels=levels,
        precision=precision,
    )
    newest = newest_of(checkpoints, estimates=bool(photos))
    model, *others = map(load, newest)
    taught_by = None if teacher is None else load(teacher)
    if taught_by is not None:
        predictor(taught_by)  # one without an estimator is an error now, not after the photographs
    resolution = shared_resolution([model, *others])
    folder = out or model_folder(Path(checkpoints[0]))
    refuse_other_things(folder)
    twice = bool(photos) and model.depth is None and teacher is None
    _output.info(f"learning depth from {', '.join(str(find(name)) for name in newest)} on {resolve_device(device)}")
    if twice:
        _output.info(f"{model.config.name} has no estimator yet: first from samples alone, then from photographs too")
    seen = {data: PhotoFolder(data, resolution) for data in photos or ()}
    with _output.progress() as bar:
        focus = [
            torch.cat([*bar.track(focus_maps(data, found.names, resolution), len(found), description="blur")])
            for data, found in (seen.items() if defocus else ())
        ]
        task, log = bar.add_task("depth", total=steps), _output.line_a_minute(bar)

        def show(progress: Progress) -> None:
            said = f"depth  error {progress.stats['error']:.3f} px"
            bar.update(task, completed=progress.step, description=said)
            log(f"{said}  step {progress.step} of {steps}")

        photographs = [found.images for found in seen.values()]
        learned = learn(
            model, config, others=others, photos=photographs, focus=focus, teacher=taught_by, device=device, report=show
        )
    names = learned_from([model, *others], seen, defocus, taught_by) + ", samples alone first" * twice
    about = ", ".join(f"{name} {value}" for name, value in to_dict(config).items())
    card = {**learned.config.card, "estimator": f"argan train-depth from {names}: {about}"}
    learned.config = replace(learned.config, card=card)
    learned.save(folder, half)
    human = f"{folder}\nnext: argan render photo.jpg --model {folder}"
    _output.result({"model": folder, "card": card}, as_json=as_json, human=human)


def newest_of(checkpoints: list[str], estimates: bool) -> list[str]:
    """Of each run the newest checkpoint; of the first, if it `estimates`, the model that was made of that."""
    from argan.models.hub import is_outdated, newest_checkpoint

    newest = [str(newest_checkpoint(Path(name)) or name) for name in checkpoints]
    model = Path(checkpoints[0], "model")
    if estimates and (model / "config.json").is_file() and not is_outdated(model.parent, model):
        newest[0] = str(model)
    return newest


def learned_from(
    models: "list[Model]", photos: "dict[str, PhotoFolder]", defocus: bool, teacher: "Model | None"
) -> str:
    """In words, for the model's card."""
    blur = " and their blur" if defocus else ""
    return " and ".join(
        [
            *(f"samples of {model.config.name}" for model in models),
            *(f"{len(found)} photographs of {Path(data).name}{blur}" for data, found in photos.items()),
            *([] if teacher is None else [f"the depth that {teacher.config.name} sees in these"]),
        ]
    )


def model_folder(given: Path) -> Path:
    """Where the model of a run goes, for the run, one of its checkpoints, or the model that it has."""
    from argan.errors import UsageError

    if given.parent.name == "checkpoints":
        return given.parent.parent / "model"
    if (given / "checkpoints").is_dir():
        return given / "model"
    if given.name == "model" and given.is_dir():
        return given
    raise UsageError(f"{given} is not a run: where should the model go?", hint="--out FOLDER")
