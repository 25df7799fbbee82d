"""argan render: shallow depth of field on photographs."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from argan.cli import _batch, _options, _output
from argan.lens import ThinLens
from argan.names import Show

FOCUS, APERTURE, LENS, DEPTH, OUTPUT = "Focus", "Aperture", "A real lens (metric depth)", "Depth", "Output"


def render(
    context: typer.Context,
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photos, or folders of photos.")],
    blur: Annotated[
        float | None,
        typer.Option(
            min=0, max=100, help="Largest blur disc: diameter in percent of the photo's long side; default 2."
        ),
    ] = None,
    grain: Annotated[
        str,
        typer.Option(
            metavar="auto|N", help="The photo's own noise on blurred parts: auto, 0 none, 1 as much as it had."
        ),
    ] = "auto",
    highlights: Annotated[
        float,
        typer.Option(
            metavar="N",
            help="Small lights that were cut off at white are N times as bright: bright discs. 1: as they are stored.",
        ),
    ] = 1.0,
    focus: Annotated[
        str,
        typer.Option(
            metavar="auto|subject|face|X,Y",
            help="The learned focus, what is nearest about the centre, a face, or a point in fractions of the size.",
            rich_help_panel=FOCUS,
        ),
    ] = "auto",
    focus_depth: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Focus on this disparity: 0 farthest, 1 nearest.", rich_help_panel=FOCUS),
    ] = None,
    focus_range: Annotated[
        str,
        typer.Option(
            metavar="auto|WIDTH|LOW,HIGH",
            help="Keep a band of disparity sharp, about the focus or as given. auto: the model's own; "
            "0 with --depth, --focus-depth and --sweep.",
            rich_help_panel=FOCUS,
        ),
    ] = "auto",
    sweep: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=500,
            help="This many pictures, focused from far to near, and PHOTO.sweep.webp.",
            rich_help_panel=FOCUS,
        ),
    ] = None,
    show: Annotated[
        Show | None,
        typer.Option(
            help="Instead of rendering, write PHOTO.….png to judge by: depth, blur radii, layers, what is sharp.",
            rich_help_panel=FOCUS,
        ),
    ] = None,
    aperture: Annotated[
        str,
        typer.Option(
            help="disk, triangle, square, pentagon, hexagon, … nonagon, or a picture of one.", rich_help_panel=APERTURE
        ),
    ] = "disk",
    rotate: Annotated[float, typer.Option(help="Turn it, degrees clockwise.", rich_help_panel=APERTURE)] = 0.0,
    curvature: Annotated[
        float, typer.Option(min=0, max=1, help="Of blades: 0 straight, 1 a circle.", rich_help_panel=APERTURE)
    ] = 0.0,
    anamorphic: Annotated[
        float, typer.Option(min=0.25, max=4, help="Height of a disc over its width.", rich_help_panel=APERTURE)
    ] = 1.0,
    rim: Annotated[
        float,
        typer.Option(
            min=-1,
            max=1,
            help="Spherical aberration: 1 bright rims behind the focus, -1 soft ones.",
            rich_help_panel=APERTURE,
        ),
    ] = 0.0,
    cat_eye: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Discs become lemons towards the corners: 0 nowhere, 1 as much as the fastest lenses.",
            rich_help_panel=APERTURE,
        ),
    ] = 0.0,
    f_number: Annotated[
        float | None,
        typer.Option(help="Blur as a lens of this f-number does, in place of --blur.", rich_help_panel=LENS),
    ] = None,
    focal: Annotated[float, typer.Option(help="Focal length in mm.", rich_help_panel=LENS)] = ThinLens.focal,
    sensor: Annotated[
        float, typer.Option(help="Long side of the sensor in mm.", rich_help_panel=LENS)
    ] = ThinLens.sensor,
    focus_distance: Annotated[
        float | None, typer.Option(help="Focus at this distance in metres, in place of --focus.", rich_help_panel=LENS)
    ] = None,
    depth: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|FOLDER|embedded",
            help="Depth map, folder of PHOTO.depth.png, or what the phone stored in the photo.",
            rich_help_panel=DEPTH,
        ),
    ] = None,
    depth_kind: Annotated[
        Literal["disparity", "distance"] | None,
        typer.Option(
            help="What --depth stores, or FILE.onnx gives: large is near, or far. Default: disparity; distance where "
            "the name of FILE.onnx's output says so, or says metric.",
            rich_help_panel=DEPTH,
        ),
    ] = None,
    depth_unit: Annotated[
        float | None,
        typer.Option(
            help="Metres that 1 in a distance map stands for; default 1 for floats, 0.001 else.", rich_help_panel=DEPTH
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A model's name or folder, a run, or FILE.onnx; default flowers.", rich_help_panel=DEPTH),
    ] = None,
    model_input: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="How a third-party depth model takes a picture: size=384, …",
            rich_help_panel=DEPTH,
        ),
    ] = None,
    save_depth: Annotated[
        Path | None,
        typer.Option(help="Write the disparity that was used: .png, .tif, .npy, or a folder.", rich_help_panel=DEPTH),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File, or folder; default PHOTO.bokeh.jpg beside it.", rich_help_panel=OUTPUT
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace outputs that exist.", rich_help_panel=OUTPUT)
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel=OUTPUT)] = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was done as JSON.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Blur what is out of focus, as a wide aperture does.

    Depth is estimated by the model, or given with --depth.

    Examples:

        argan render photo.jpg                                photo.bokeh.jpg

        argan render photo.jpg --blur 4 --focus 0.3,0.6       focus on a point

        argan render photo.jpg --depth photo.depth.png        a depth map of your own

        argan render portrait.heic --depth embedded           the phone's own depth

        argan render holiday/ --output blurred/               every photo of a folder and its folders

        argan render photo.jpg --show focus                   see what will be sharp

        argan render photo.jpg --model argan-export/render.onnx   what was exported, without PyTorch

        argan render photo.jpg --model midas_small.onnx       depth by a third-party model
    """
    from argan.cli import _results
    from argan.cli._scene import Arrived, Optics, Scene
    from argan.errors import UsageError
    from argan.focus import BLUR
    from argan.runtime import is_onnx

    wanted_blur = BLUR if blur is None else blur
    wanted_focus = _options.parse_focus(focus, focus_depth, focus_distance)
    any_focus = wanted_focus if focus_distance is None else focus_distance
    wanted_range = _options.parse_range(focus_range, any_focus)
    wanted_grain = _options.parse_grain(grain)
    lens = _options.parse_lens(blur, f_number, focal, sensor, focus_distance)
    _options.check_one_result(sweep, show, any_focus, wanted_range)
    found = _batch.find_photos(photos)
    result = _results.result_of(show, sweep, overwrite)
    outputs = _batch.output_paths(found, output, result.ending)
    for path in outputs.values():
        result.check(path)
    depth_outputs = _options.saved_depth_paths(found, save_depth)
    depth_files = {os.path.realpath(path) for path in depth_outputs.values()}  # one file may be named in two ways
    if both := [path for path in outputs.values() if os.path.realpath(path) in depth_files]:
        raise UsageError(f"{min(both)} cannot hold the picture and its depth: --output and --save-depth name one file")
    _options.check_depth(depth, found)
    _options.check_depth_kind(depth, depth_kind, depth_unit, model)
    if lens is not None or focus_distance is not None:
        _options.check_metric(depth, depth_kind)
    files = _results.Files(found, depth, depth_kind, depth_unit, result, outputs, depth_outputs, overwrite)
    settings = _options.onnx_settings(model, model_input, depth_kind if depth is None else None)
    if is_onnx(model):
        from argan.cli import _onnx

        if (renderer := _onnx.open_renderer(context, str(model), settings, device)) is not None:
            _onnx.render(renderer, files, blur=wanted_blur, focus=wanted_focus, as_json=as_json)
            return
    if depth is not None and model is not None:
        raise UsageError("--depth and --model exclude each other: both say how far things are")
    first = _batch.read_ahead(found, files.read)

    # From here on it takes torch.
    from argan.devices import resolve_device
    from argan.focus import resolve_range
    from argan.kernels import resolve
    from argan.models.hub import load
    from argan.photo import Look, as_aperture, learned_range

    opening = as_aperture(_options.read_aperture(aperture), rotate, curvature, anamorphic, rim, cat_eye)
    look = Look(wanted_blur, opening, wanted_grain, highlights)
    where = resolve_device(device)
    estimator = load(model, onnx_settings=settings).on(where, device == "auto") if depth is None else None
    source = estimator.config.name if estimator is not None else str(depth)
    around = resolve_range(wanted_range, 0.0 if sweep is not None else wanted_focus, learned_range(estimator))
    optics = Optics(estimator, look, lens, wanted_focus, focus_distance, around)
    _output.info(f"depth: {source}; device: {where}; renderer: {resolve('auto', where, numba=True)}")

    def work(path: Path, arrived: Arrived) -> tuple[Scene, Any]:
        scene = optics.scene(path, arrived, where)
        return scene, result.make(scene, files.of(path))

    def write(path: Path, done: tuple[Scene, Any]) -> _batch.Row:
        scene, made = done
        written = files.write(path, made, lambda: scene.disparity[0, 0].cpu().numpy())
        return _batch.row(
            path,
            scene.photo,
            written,
            scene.start,
            **result.facts(scene),
            depth=source,
            device=str(where),
        )

    _batch.run_batch(found, "render", files.read, work, write, as_json, first)
