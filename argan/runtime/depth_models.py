"""Depth models that argan did not export: MiDaS, DPT, Depth Anything and their like, in ONNX files.

Such files seldom say how they want a picture. What is looked at, first match wins: settings by hand; entries in the
file's metadata ("depth.size" and so on, the same words); the input's shape and type; normalising constants and the
patch size inside the file; the names that Hugging Face's exporters give. `Convention.name` says what was recognised.

MiDaS            normalised by ImageNet's mean and deviation, in the official files by themselves; 384 px, small: 256
DPT              pixel_values -> predicted_depth, (x - 0.5) / 0.5, 384 px
Depth Anything   patches of 14 px, ImageNet's mean and deviation, 518 px

They give relative inverse depth, larger is nearer, up to an unknown factor and offset: its quantiles LOW and HIGH
become 0 and 1. Models that give distance need the setting kind=distance, which inverts first.
"""

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from argan.errors import ArganError, UsageError
from argan.images import Photo
from argan.runtime.pixels import display_rgb, resize
from argan.runtime.session import Session

Three = tuple[float, float, float]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NORMALISATIONS: dict[str, tuple[Three, Three]] = {
    "imagenet": IMAGENET,
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
CHOICES = {"channels": ("rgb", "bgr"), "layout": ("nchw", "nhwc"), "kind": ("disparity", "distance")}
SETTINGS = ("size", "multiple", "normalise", "mean", "std", "scale", *CHOICES)
LOW, HIGH = 0.01, 0.99
LARGEST = 16384  # px each way that a model may be given
PROPORTIONS = 0.1  # how much those of a map may differ from the picture's
LONGEST = 3  # a file that takes any size is given at most this multiple of its short side: panoramas


@dataclass(frozen=True)
class Convention:
    """How a model takes a picture and what it gives.

    Each field but `name` is a setting, `--model-input FIELD=VALUE`; `normalise` is one for `mean` and `std` together.

    Attributes:
        name: what was recognised.
        size: px of the short side, or width x height: a pair.
        multiple: what both sides must be multiples of.
        mean, std: the input is (scale x - mean) / std for x in [0, 1]; of R, G, B, also where `channels` is bgr.
        scale: 1, or 255 for models that take bytes.
        channels: "rgb" or "bgr".
        layout: "nchw" or "nhwc".
        kind: "disparity", larger is nearer, or "distance".
    """

    name: str
    size: int | tuple[int, int]
    multiple: int
    mean: Three
    std: Three
    scale: float = 1.0
    channels: str = "rgb"
    layout: str = "nchw"
    kind: str = "disparity"


class DepthModel:
    """A depth model of somebody else's.

    Attributes:
        name: of its file, and what it was taken for.
        device: where it runs.
        convention: how it takes a picture.
        focus, focus_range: None: such models have learned no focal plane.
    """

    focus = focus_range = None

    def __init__(self, session: Session, settings: Mapping[str, str]):
        """Raises UsageError for a wrong setting, ArganError for a file that is no model from one picture to a map."""
        if len(session.inputs) != 1 or len(next(iter(session.inputs.values()))) != 4:
            raise ArganError(
                f"{session.path} takes {', '.join(f'{name} {shape}' for name, shape in session.inputs.items())}",
                hint="a depth model takes one picture, (batch, 3, height, width) or (batch, height, width, 3)",
            )
        self.session, self.device = session, session.device
        replaced = {*settings, *(("mean", "std") if "normalise" in settings else ())}
        entries = ((key.removeprefix("depth."), x) for key, x in session.metadata.items() if key.startswith("depth."))
        own = {key: x for key, x in entries if key in SETTINGS and key not in replaced}
        try:
            found = configure(recognise(session), own)
        except UsageError as error:
            raise ArganError(f"{session.path}, in its metadata: {error}", error.hint) from None
        self.convention = configure(found, settings)
        self._kind_is_told = "kind" in own or "kind" in settings

    @property
    def name(self) -> str:
        return f"{self.session.path.stem} ({self.convention.name}, {self.convention.kind})"

    @property
    def resolution(self) -> int:
        """Px of the short side that the model works at."""
        size = self.convention.size
        return min(size) if isinstance(size, tuple) else size

    def disparity(self, photo: Photo) -> np.ndarray:
        """Disparity (H, W), float32 in [0, 1], 1 = nearest; smooth where the model's own map is coarser.

        Raises UsageError for a photo of values that are not finite, ArganError for a model that gives no map of
        numbers.
        """
        rgb = display_rgb(photo)
        return resize(self.coarse(rgb)[None, None], rgb.shape[2:])[0, 0]

    def coarse(self, image: np.ndarray) -> np.ndarray:
        """Disparity (h, w) in [0, 1] at the model's own size, for display-encoded RGB (1, 3, H, W) in [0, 1]."""
        prepared = self.prepare(image)
        outputs = {
            name: value.numpy().astype(np.float32)
            for name, value in zip(self.session.outputs, self.session.run(prepared), strict=True)
            if value.is_tensor() and value.data_type() != "tensor(string)"
        }
        shapes = {name: value.shape for name, value in outputs.items()}
        height, width = prepared.shape[1:3] if self.convention.layout == "nhwc" else prepared.shape[2:4]
        name = find_map(shapes, height / width)
        if name is None:
            raise ArganError(f"{self.session.path} gives no map of depth, but {list(shapes.values())}")
        kind = self.convention.kind if self._kind_is_told else kind_of(name)
        return unit_disparity(outputs[name].reshape(map_size(shapes[name])), kind)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """The model's input for display-encoded RGB (1, 3, H, W) in [0, 1]."""
        how = self.convention
        planes = (1, 3, 1, 1)
        x = resize(image, self._size(*image.shape[2:]))
        x = (how.scale * x - np.reshape(how.mean, planes)) / np.reshape(how.std, planes)
        x = x[:, ::-1] if how.channels == "bgr" else x
        x = x.transpose(0, 2, 3, 1) if how.layout == "nhwc" else x
        (dtype,) = self.session.dtypes.values()
        return (x + 0.5 if dtype is np.uint8 else x).astype(dtype)

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that the model is given: fixed ones, or the short side at `size` and the shape kept."""
        how = self.convention
        if isinstance(how.size, tuple):
            return how.size[1], how.size[0]
        scale = min(how.size / min(height, width), LONGEST * how.size / max(height, width))
        rows, columns = (
            max(how.multiple, round(side * scale / how.multiple) * how.multiple) for side in (height, width)
        )
        return rows, columns


def recognise(session: Session) -> Convention:
    """What the file itself gives away of its convention."""
    ((name, shape),) = session.inputs.items()
    nhwc = shape[3] == 3 and shape[1] != 3
    height, width = shape[1:3] if nhwc else shape[2:4]
    with session.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        patches_of_14 = any(data.find(b"kernel_shape" + sides) >= 0 for sides in (b"@\x0e@\x0e", b"B\x02\x0e\x0e"))
        inside = _holds(data, IMAGENET[0])
        inside_bytes = _holds(data, tuple(255 * value for value in IMAGENET[0]))
    if patches_of_14 or 518 in (height, width):
        found = Convention("Depth Anything", 518, 14, *IMAGENET)
    elif name == "pixel_values":
        found = Convention("DPT", 384, 32, *NORMALISATIONS["half"])
    else:
        small = "small" in session.path.stem.lower()
        found = Convention("MiDaS", 256 if small else 384, 32, *IMAGENET)
    takes_bytes = session.dtypes[name] is np.uint8 or inside_bytes
    if takes_bytes:
        found = replace(found, scale=255.0)
    if takes_bytes or inside:  # the file normalises by itself
        found = replace(found, **_setting("normalise", "none"))
    if side := width or height:  # where only one is fixed, a square will do
        found = replace(found, size=(width or side, height or side))
    depth = find_map(session.outputs, height / width if height and width else None)
    return replace(found, layout="nhwc" if nhwc else "nchw", kind=kind_of(depth or ""))


def find_map(outputs: Mapping[str, tuple[int | None, ...]], proportions: float | None) -> str | None:
    """The output that is the map of depth; None where none can be.

    Of those that are maps: what is called depth goes first, then what has the picture's proportions (the states inside
    a network have others), then the first.

    Args:
        outputs: shapes by name; None is an axis of any size.
        proportions: height / width of what the model is given, where that is known.
    """
    maps = [name for name, shape in outputs.items() if _may_be_map(shape)]
    named = [name for name in maps if any(word in name.lower() for word in ("depth", "disp"))]
    found = named or maps
    fitting = [name for name in found if proportions is None or _fits(outputs[name], proportions)]
    return next(iter(fitting or found), None)


def kind_of(output: str) -> str:
    """Which kind of depth an output of this name gives."""
    return "distance" if any(word in output.lower() for word in ("metric", "distance")) else "disparity"


def configure(convention: Convention, settings: Mapping[str, str]) -> Convention:
    """`convention` with settings by hand, which are texts: size=518, normalise=half, channels=bgr, …

    Raises:
        UsageError: there is no such setting, or it does not take that value.
    """
    for key, text in settings.items():
        try:
            convention = replace(convention, **_setting(key, text.strip().lower()))
        except ValueError as error:
            raise UsageError(f"depth model setting {key}={text}", hint=str(error)) from None
    return convention


def unit_disparity(values: np.ndarray, kind: str) -> np.ndarray:
    """What a model gives, up to factor and offset -> disparity in [0, 1], robust against outliers.

    Args:
        kind: "disparity", or "distance": inverted first; what is not above 0 or not finite counts as farthest.
    """
    if kind == "distance":
        known = np.isfinite(values) & (values > 0)
        values = np.where(known, 1 / np.where(known, values, 1), 0)
    if not np.isfinite(values).all():
        raise ArganError("the depth model gave values that are not finite")
    low, high = np.quantile(values, (LOW, HIGH))
    if high - low <= 1e-6 * max(abs(high), abs(low)):  # all the same: a flat scene, all of it in focus
        return np.full(values.shape, 0.5, np.float32)
    return np.clip((values - low) / (high - low), 0, 1).astype(np.float32)


def map_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of a map with axes of size one around it."""
    height, width = [side for side in shape if side > 1] or [1, 1]
    return height, width


def _may_be_map(shape: tuple[int | None, ...]) -> bool:
    """Whether two of its sides can be larger than one, and no more have to."""
    if 0 in shape:
        return False
    return sum(side != 1 for side in shape) >= 2 >= sum(side is not None and side > 1 for side in shape)


def _fits(shape: tuple[int | None, ...], proportions: float) -> bool:
    if None in shape:
        return True
    height, width = map_size(tuple(side for side in shape if side is not None))
    return abs(math.log(height / width / proportions)) <= math.log(1 + PROPORTIONS)


def _setting(key: str, text: str) -> dict[str, Any]:
    """One setting as fields of a Convention. ValueError, which says what it takes, for what it does not take."""
    if key == "size":
        numbers = [int(part) for part in text.split("x") if part.isdecimal() and int(part) > 0]
        if len(numbers) != len(text.split("x")) or len(numbers) > 2 or max(numbers) > LARGEST:
            raise ValueError(f"px of the short side, or WIDTHxHEIGHT, up to {LARGEST}")
        return {"size": numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])}
    if key == "multiple":
        if not text.isdecimal() or not 1 <= int(text) <= LARGEST:
            raise ValueError(f"a whole number from 1 to {LARGEST}")
        return {"multiple": int(text)}
    if key == "normalise":
        if text not in NORMALISATIONS:
            raise ValueError(f"one of {', '.join(NORMALISATIONS)}; or mean=R,G,B and std=R,G,B")
        mean, std = NORMALISATIONS[text]
        return {"mean": mean, "std": std}
    if key in ("mean", "std"):
        return {key: _three(text, positive=key == "std")}
    if key == "scale":
        return {"scale": _three(",".join([text] * 3), positive=True)[0]}
    if key not in CHOICES:
        raise ValueError(f"there are: {', '.join(SETTINGS)}")
    if text not in CHOICES[key]:
        raise ValueError(f"one of {', '.join(CHOICES[key])}")
    return {key: text}


def _three(text: str, positive: bool) -> Three:
    try:
        r, g, b = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError("three numbers, such as 0.485,0.456,0.406") from None
    if not np.isfinite([r, g, b]).all() or (positive and min(r, g, b) <= 0):
        raise ValueError("numbers above 0" if positive else "finite numbers")
    return r, g, b


def _holds(data: mmap.mmap, values: tuple[float, ...]) -> bool:
    """Whether these numbers stand in a row as a constant in the file, as 32- or 16-bit floats."""
    return any(data.find(np.array(values, dtype).tobytes()) >= 0 for dtype in ("<f4", "<f2"))
