"""What the commands' options ask for, checked: focus, grain, a real lens, depth, a model's input, an aperture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from argan.cli import _batch, _output
from argan.errors import UsageError

if TYPE_CHECKING:
    from argan.depth_maps import DepthMap
    from argan.images import Photo
    from argan.lens import ThinLens

EMBEDDED = "embedded"


def parse_focus(
    focus: str, focus_depth: float | None, focus_distance: float | None
) -> str | float | tuple[float, float]:
    """--focus and --focus-depth as `argan.render` takes them."""
    given = {
        "--focus": focus != "auto",
        "--focus-depth": focus_depth is not None,
        "--focus-distance": focus_distance is not None,
    }
    if sum(given.values()) > 1:
        raise UsageError(f"{' and '.join(name for name in given if given[name])} exclude each other")
    if focus_depth is not None:
        return focus_depth
    if focus in ("auto", "subject", "face"):
        return focus
    try:
        x, y = (float(part) for part in focus.split(","))
    except ValueError:
        raise UsageError(f"--focus {focus}: auto, subject, face, or X,Y such as 0.5,0.4") from None
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise UsageError(f"--focus {focus}: fractions of width and height, from 0 to 1")
    return x, y


def parse_range(focus_range: str, focus: Any) -> str | float | tuple[float, float]:
    """--focus-range as `argan.render` takes it."""
    from argan.focus import focus_band

    if focus_range == "auto":
        return focus_range
    try:
        numbers = tuple(float(part) for part in focus_range.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 2):
        raise UsageError(f"--focus-range {focus_range}: auto, a width such as 0.1, or LOW,HIGH such as 0.4,0.6")
    if len(numbers) == 2 and focus != "auto":
        raise UsageError("--focus-range LOW,HIGH is itself the focus: with another one, give a width")
    wanted = numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])
    focus_band(0.5, wanted)  # raises for what is out of range
    return wanted


def parse_grain(grain: str) -> float | str:
    if grain == "auto":
        return grain
    try:
        return float(grain)
    except ValueError:
        raise UsageError(f"--grain {grain}: auto, or times the photo's own noise") from None


def parse_lens(
    blur: float | None, f_number: float | None, focal: float, sensor: float, focus_distance: float | None
) -> "ThinLens | None":
    """The lens that gives the blur; None where --blur does."""
    from argan.lens import ThinLens

    if focus_distance is not None and not focus_distance > 0:
        raise UsageError(f"--focus-distance is in metres, above 0, not {focus_distance}")
    if f_number is None:
        if (focal, sensor) != (ThinLens.focal, ThinLens.sensor):
            raise UsageError("--focal and --sensor go with --f-number")
        return None
    if blur is not None:
        raise UsageError("--blur and --f-number exclude each other")
    return ThinLens(f_number, focal, sensor)


def metric(dioptres: tuple[float, float] | None) -> tuple[float, float]:
    """The dioptres at disparity 0 and 1; UsageError where they are not known, or one."""
    if dioptres is None:
        raise UsageError(
            "--f-number and --focus-distance need to know how far things are",
            hint="--depth with --depth-kind distance, or embedded depth in metres; else --blur and --focus",
        )
    if not dioptres[1] > dioptres[0]:
        raise UsageError(
            f"--f-number and --focus-distance need things near and far: all are {1 / dioptres[0]:.4g} m away here",
            hint="is it the right depth map?",
        )
    return dioptres


def disparity_of(distance: float, dioptres: tuple[float, float] | None) -> float:
    """The disparity of a distance in metres; beyond [0, 1] where nothing in the photo is."""
    far, near = metric(dioptres)
    return (1 / distance - far) / (near - far)


def blur_of(lens: "ThinLens", plane: float, dioptres: tuple[float, float] | None) -> float:
    """--blur that makes discs as large as the lens does, focused on a disparity, which may lie beyond [0, 1]."""
    far, near = metric(dioptres)
    focus = max(0.0, far + plane * (near - far))  # infinity is below 0 where it is rounded
    blur = lens.blur(focus, (far, near))
    if (widest := blur * max(1, abs(plane), abs(1 - plane))) > 100:
        raise UsageError(
            f"this lens draws discs of {widest:.0f} % of the photo's long side, and 100 is the most",
            hint="a larger --f-number, a shorter --focal, or a focus farther away",
        )
    return blur


def given_depth(
    depth: Path | None, photo: Path, photos: _batch.Photos, kind: str | None, unit: float | None = None
) -> "DepthMap | None":
    """What --depth has for one of the photos."""
    from argan.depth_maps import read_depth
    from argan.embedded_depth import read_embedded_depth

    if depth is None:
        return None
    if str(depth) == EMBEDDED:
        return read_embedded_depth(photo)
    return read_depth(_batch.depth_file(depth, photo, photos), kind or "disparity", unit)


def say_depth(given: "DepthMap | None") -> None:
    """Says what was done to the values of a depth map. Not while it is read ahead: that may be too early."""
    if given is not None and given.note:
        _output.info(given.note)


def focus_in(path: Path, wanted: Any, photo: "Photo") -> Any:
    """A focus with a face in its place; says so where there is none."""
    from argan.faces import at_face

    focus = at_face(wanted, photo.pixels)
    if wanted == "face" and focus == "subject":
        _output.info(f"{path}: no face was found; focus on the subject")
    return focus


def check_one_result(sweep: int | None, show: str | None, focus: Any, focus_range: Any) -> None:
    if sweep is not None and show is not None:
        raise UsageError("--sweep and --show exclude each other")
    if sweep is not None and (focus != "auto" or isinstance(focus_range, tuple)):
        raise UsageError("--sweep focuses from far to near: it takes no other focus", hint="--focus-range WIDTH")


def saved_depth_paths(photos: _batch.Photos, save_depth: Path | None) -> dict[Path, Path]:
    from argan.depth_maps import check_depth_suffix

    if save_depth is None:
        return {}
    paths = _batch.output_paths(photos, save_depth, lambda _: ".depth.png")
    for path in paths.values():
        check_depth_suffix(path)
    return paths


def check_depth(depth: Path | None, photos: _batch.Photos) -> None:
    if depth is None or str(depth) == EMBEDDED:
        return
    if not depth.exists():
        raise UsageError(f"{depth}: no such file or folder")
    if len(photos) > 1 and not depth.is_dir():
        raise UsageError("one depth map cannot serve several photos", hint="--depth FOLDER with PHOTO.depth.png in it")


def check_depth_kind(depth: Path | None, kind: str | None, unit: float | None, model: str | None) -> None:
    """Refuse to say what a map stores where none is given."""
    from argan.runtime import is_onnx

    if kind is not None and (str(depth) == EMBEDDED or (depth is None and not is_onnx(model))):
        raise UsageError("--depth-kind goes with --depth FILE, or --model FILE.onnx")
    if unit is not None and (kind != "distance" or depth is None):
        raise UsageError("--depth-unit goes with --depth FILE --depth-kind distance")


def check_metric(depth: Path | None, kind: str | None) -> None:
    """Refuse depth that cannot be metric, whatever is in it; `metric` refuses what is not."""
    if depth is None or (str(depth) != EMBEDDED and kind != "distance"):
        metric(None)


def onnx_settings(model: str | None, options: Sequence[str] | None, kind: str | None) -> dict[str, str]:
    """--model-input KEY=VALUE … and --depth-kind as `argan.load` takes them; nothing for a model that is no ONNX file.

    Raises:
        UsageError: not KEY=VALUE, the model takes none, or two kinds are given.
    """
    from argan.runtime import is_onnx

    if options and not is_onnx(model):
        raise UsageError(f"--model-input {options[0]} goes with --model FILE.onnx")
    if kind is not None and not is_onnx(model):
        raise UsageError("--depth-kind goes with --model FILE.onnx")
    settings = key_values("--model-input", options)
    if kind is not None and settings.setdefault("kind", kind) != kind:
        raise UsageError(f"--depth-kind {kind} and --model-input kind={settings['kind']} exclude each other")
    return settings


def key_values(name: str, options: Sequence[str] | None) -> dict[str, str]:
    """KEY=VALUE … of the option called `name`; anything else is a UsageError."""
    for option in options or ():
        if "=" not in option:
            raise UsageError(f"{name} {option}: KEY=VALUE, such as size=384")
    return dict(option.split("=", 1) for option in options or ())


def read_aperture(aperture: str) -> Any:
    """The name of an aperture, or the brightness of a picture of one: a 2-D array."""
    import numpy as np

    from argan.exif import upright
    from argan.images import reading
    from argan.kernels.bokeh import APERTURES

    if aperture in APERTURES:
        return aperture
    path = Path(aperture)
    if not path.is_file():
        raise UsageError(f"no aperture {aperture}", hint=f"{', '.join(APERTURES)}, or a picture of one")
    with reading(path) as image:
        if image.mode in ("I", "F"):
            raise UsageError(f"an aperture of {image.mode} pixels", hint="save it as grey, with 8 or 16 bits")
        if image.mode.startswith("I;16"):
            mask = np.asarray(image).astype(np.float32) / 65535
        else:
            brightness, alpha = np.moveaxis(np.asarray(image.convert("LA"), dtype=np.float32) / 255, 2, 0)
            mask = brightness * alpha
        mask = upright(mask, image)
    if not mask.any():
        raise UsageError(f"{path}: an aperture that is black all over lets no light through")
    return mask
