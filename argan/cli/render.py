"""argan render: shallow depth of field on photographs."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from argan.cli import _batch, _output


def render(
    context: typer.Context,
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photos, or folders of photos.")],
    blur: Annotated[
        float, typer.Option(min=0, max=100, help="Largest blur disc: its diameter in percent of the photo's long side.")
    ] = 2.0,
    focus: Annotated[
        str, typer.Option(metavar="auto|X,Y", help="A point in fractions of width and height, or the learned focus.")
    ] = "auto",
    focus_depth: Annotated[
        float | None, typer.Option(min=0, max=1, help="Focus on this disparity: 0 farthest, 1 nearest.")
    ] = None,
    depth: Annotated[
        Path | None, typer.Option(help="Depth map to use, or a folder that holds PHOTO.depth.png for each photo.")
    ] = None,
    depth_kind: Annotated[
        Literal["disparity", "distance"],
        typer.Option(help="What --depth stores, or FILE.onnx gives: large is near, or far."),
    ] = "disparity",
    model: Annotated[
        str | None, typer.Option(help="A model's name or folder, or FILE.onnx; default the shipped one.")
    ] = None,
    model_input: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="How a depth model of somebody else's takes a picture: size=384, …"),
    ] = None,
    aperture: Annotated[
        str, typer.Option(help="disk, triangle, square, pentagon, hexagon, … nonagon, or a picture of one.")
    ] = "disk",
    save_depth: Annotated[
        Path | None, typer.Option(help="Write the disparity that was used: .png, .tif, .npy, or a folder.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="File, or folder; default PHOTO.bokeh.jpg beside it.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Blur what is out of focus, as a wide aperture does.

    Depth is estimated by the model, or given with --depth.

    Examples:

        argan render photo.jpg                                photo.bokeh.jpg

        argan render photo.jpg --blur 4 --focus 0.3,0.6       focus on a point

        argan render photo.jpg --depth photo.depth.png        a depth map of your own

        argan render holiday/ --output blurred/               every photo of a folder

        argan render photo.jpg --model argan-export/render.onnx   what was exported, without PyTorch

        argan render photo.jpg --model midas_small.onnx       depth by a model of somebody else's
    """
    from argan.images import check_suffix, output_suffix
    from argan.runtime import is_onnx

    wanted_focus = parse_focus(focus, focus_depth)
    files = _batch.find_photos(photos)
    outputs = _batch.output_paths(files, output, lambda photo: ".bokeh" + output_suffix(photo))
    for path in outputs:
        check_suffix(path)
    depth_outputs = saved_depth_paths(files, save_depth)
    check_depth(depth, files)
    settings = _batch.onnx_settings(model, model_input, depth_kind)
    if is_onnx(model):
        from argan.cli import _onnx

        if (renderer := _onnx.open_renderer(context, str(model), device)) is not None:
            _onnx.render(
                renderer,
                files,
                outputs,
                depth_outputs,
                blur=blur,
                focus=wanted_focus,
                depth=depth,
                depth_kind=depth_kind,
                overwrite=overwrite,
                as_json=as_json,
            )
            return

    # From here on it takes torch.
    import time

    from argan import depth_maps, photo
    from argan.devices import resolve_device
    from argan.images import read_photo, write_photo
    from argan.kernels import resolve
    from argan.models.hub import load

    photo.check_blur(blur)
    lens = photo.as_aperture(read_aperture(aperture))
    where = resolve_device(device)
    estimator = load(model, onnx_settings=settings).to(where) if depth is None else None
    source = estimator.config.name if estimator is not None else str(depth)
    _output.info(f"depth: {source}; device: {where}; renderer: {resolve('auto', where)}")

    def read_given(path: Path) -> Any:
        assert depth is not None
        disparity, note = depth_maps.read_depth(_batch.depth_file(depth, path), depth_kind)
        if note:
            _output.info(note)
        return disparity

    def work(path: Path) -> _batch.Row:
        start = time.perf_counter()
        target, depth_target = outputs[files.index(path)], depth_outputs[files.index(path)]
        _batch.check_new([p for p in (target, depth_target) if p is not None], overwrite)
        picture = read_photo(path)
        disparity = photo.photo_disparity(picture, estimator or read_given(path), where)
        plane = photo.resolve_focus(wanted_focus, disparity, estimator)
        rendered = photo.render_photo(picture, disparity, blur=blur, focus=plane, aperture=lens)
        written = [target]
        _batch.make_folder(target.parent)
        write_photo(target, rendered)
        if depth_target is not None:
            _batch.make_folder(depth_target.parent)
            depth_maps.write_depth(depth_target, disparity[0, 0].cpu().numpy())
            written.append(depth_target)
        width, height = picture.size
        return {
            "photo": path,
            "files": written,
            "width": width,
            "height": height,
            "blur": blur,
            "focus": round(plane, 4),
            "depth": source,
            "device": str(where),
            "seconds": round(time.perf_counter() - start, 2),
        }

    _batch.run_batch(files, "render", work, as_json)


def parse_focus(focus: str, focus_depth: float | None) -> str | float | tuple[float, float]:
    """--focus and --focus-depth as `argan.render` takes them."""
    from argan.errors import UsageError

    if focus_depth is not None:
        if focus != "auto":
            raise UsageError("--focus and --focus-depth exclude each other")
        return focus_depth
    if focus == "auto":
        return focus
    try:
        x, y = (float(part) for part in focus.split(","))
    except ValueError:
        raise UsageError(f"--focus {focus}: auto, or X,Y such as 0.5,0.4") from None
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise UsageError(f"--focus {focus}: fractions of width and height, from 0 to 1")
    return x, y


def saved_depth_paths(photos: list[Path], save_depth: Path | None) -> list[Path | None]:
    from argan.depth_maps import check_depth_suffix

    if save_depth is None:
        return [None] * len(photos)
    paths = _batch.output_paths(photos, save_depth, lambda _: ".depth.png")
    for path in paths:
        check_depth_suffix(path)
    return list(paths)


def check_depth(depth: Path | None, photos: list[Path]) -> None:
    from argan.errors import ArganError, UsageError

    if depth is None:
        return
    if not depth.exists():
        raise ArganError(f"{depth}: no such file or folder")
    if len(photos) > 1 and not depth.is_dir():
        raise UsageError("one depth map cannot serve several photos", hint="--depth FOLDER with PHOTO.depth.png in it")


def read_aperture(aperture: str) -> Any:
    """The name of an aperture, or the brightness of a picture of one: a 2-D array."""
    import numpy as np

    from argan.errors import UsageError
    from argan.images import reading
    from argan.kernels.bokeh import APERTURES

    if aperture in APERTURES:
        return aperture
    path = Path(aperture)
    if not path.is_file():
        raise UsageError(f"no aperture {aperture}", hint=f"{', '.join(APERTURES)}, or a picture of one")
    with reading(path) as image:
        mask = np.asarray(image.convert("L"), dtype=np.float32) / 255
    if not mask.any():
        raise UsageError(f"{path}: an aperture that is black all over lets no light through")
    return mask
