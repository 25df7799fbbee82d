"""argan depth: the disparity of photographs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from argan.cli import _batch, _options, _output

if TYPE_CHECKING:
    import numpy as np

    from argan.images import Photo


def depth(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photos, or folders of photos.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the results; default beside each photo.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A model's name or folder, a run, or FILE.onnx; default flowers.")
    ] = None,
    model_input: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="How a third-party depth model takes a picture: size=384, …"),
    ] = None,
    depth_kind: Annotated[
        Literal["disparity", "distance"] | None,
        typer.Option(
            help="What FILE.onnx gives: large is near, or far. Default: disparity; distance where its output's name "
            "says so, or says metric."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Estimate depth: PHOTO.depth.png (16 bits, 65535 = nearest) and PHOTO.depth-view.png (a picture to look at).

    Examples:

        argan depth photo.jpg

        argan depth holiday/ --output maps/                           every photo of a folder

        argan render photo.jpg --depth photo.depth.png --blur 4       use the map
    """
    files = _batch.find_photos(photos)
    maps = _batch.output_paths(files, output, lambda _: ".depth.png", may_be_file=False)
    views = _batch.output_paths(files, output, lambda _: ".depth-view.png", may_be_file=False)
    estimator = open_estimator(model, _options.onnx_settings(model, model_input, depth_kind), device)
    _output.info(f"depth: {estimator.name}; device: {estimator.device}")

    import time

    from argan import depth_maps
    from argan.focus import resolve_focus
    from argan.images import read_photo

    def read(path: Path) -> "tuple[float, Photo]":
        start = time.perf_counter()
        _batch.check_new([maps[path], views[path]], overwrite)
        return start, read_photo(path)

    def work(_path: Path, arrived: "tuple[float, Photo]") -> "tuple[float, Photo, np.ndarray]":
        return *arrived, estimator.disparity(arrived[1])

    def write(path: Path, done: "tuple[float, Photo, np.ndarray]") -> _batch.Row:
        start, photo, disparity = done
        _batch.make_folder(maps[path].parent)
        depth_maps.write_depth(maps[path], disparity)
        depth_maps.write_depth_view(views[path], disparity)
        return _batch.row(
            path,
            photo,
            [maps[path], views[path]],
            start,
            focus=round(resolve_focus("auto", disparity, estimator.focus), 4),
            least=round(float(disparity.min()), 4),
            greatest=round(float(disparity.max()), 4),
            model=estimator.name,
            device=estimator.device,
        )

    _batch.run_batch(files, "depth", read, work, write, as_json)


@dataclass(frozen=True)
class Estimator:
    """What the command asks of a model, whatever runs it: its disparity (H, W) of a photo, and the focus it learned."""

    name: str
    device: str
    focus: float | None
    disparity: "Callable[[Photo], np.ndarray]"


def open_estimator(model: str | None, settings: dict[str, str], device: str) -> Estimator:
    """In ONNX Runtime alone for what `argan export` wrote; in PyTorch, imported here, for everything else."""
    from argan.runtime import is_onnx

    if is_onnx(model):
        from argan.cli import _onnx

        if (exported := _onnx.open_estimator(str(model), settings, device)) is not None:
            return Estimator(exported.name, exported.device, exported.focus, exported.disparity)

    from argan.devices import resolve_device
    from argan.models.hub import load
    from argan.photo import photo_disparity

    where = resolve_device(device)
    loaded = load(model, onnx_settings=settings).on(where, device == "auto")

    def disparity(photo: "Photo") -> "np.ndarray":
        return photo_disparity(photo, loaded, where)[0, 0].cpu().numpy()

    return Estimator(loaded.config.name, str(where), loaded.depth.focus if loaded.depth else None, disparity)
