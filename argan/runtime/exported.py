"""What `argan export` writes, at work on photographs: depth.onnx, render.onnx and pipeline.onnx."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from argan.depth_maps import check_proportions, check_shape
from argan.errors import UsageError
from argan.faces import at_face
from argan.focus import BLUR, NO_MAP, Focus, blur_radius, check_blur, focus_band, resolve_focus, resolve_range
from argan.images import Photo
from argan.runtime.pixels import Through, display_rgb, has_transparency, resize, seen_through, srgb
from argan.runtime.session import Session
from argan.runtime.tiles import Tile, tiles

SMALLEST = 16  # px: the least height and width that the graphs take
DEPTH_PIXELS = 24_000_000  # a larger photo's depth is estimated on a smaller copy: a graph takes 40 bytes a pixel
PIPELINE_PIXELS = 4_000_000  # what pipeline.onnx is given, in one run: it takes a kilobyte a pixel

RESOLUTION = 64  # px: what estimators are trained at that do not say
AUTO = -1.0  # what pipeline.onnx takes for the learned focal plane, and what is sharp about it


@dataclass(frozen=True)
class Rendering:
    """A rendered photo, the disparity (H, W) that it was rendered with, and the disparity in focus."""

    photo: Photo
    disparity: np.ndarray
    focus: float


class DepthFile:
    """depth.onnx: the disparity of a photo.

    Attributes:
        name: of the model that was exported.
        device: where it runs.
        focus: the focal plane that the model has learned, a disparity in [0, 1].
        focus_range: what it has learned to see sharp about that, a width in disparity.
        resolution: px of the short side that it works at inside.
    """

    def __init__(self, session: Session):
        self.session, self.name, self.device = session, model_name(session), session.device
        self.focus, self.focus_range = _number(session, "argan.focus"), _number(session, "argan.focus_range")
        self.resolution = int(_number(session, "argan.resolution") or RESOLUTION)

    def disparity(self, photo: Photo) -> np.ndarray:
        """Disparity (H, W), float32 in [0, 1], 1 = nearest.

        Raises UsageError for a photo that is too small or narrow, or of values that are not finite.
        """
        return self.disparity_of(display_rgb(photo))

    def disparity_of(self, image: np.ndarray) -> np.ndarray:
        """Disparity (H, W) of display-encoded RGB (1, 3, H, W) in [0, 1]."""
        size = image.shape[2:]
        check_proportions(*size)
        image = resize(image, self._working_size(*size))
        _check_size(self.session, image)
        (disparity,) = self.session.run(image)
        return np.clip(resize(disparity.numpy(), size)[0, 0], 0, 1)

    def _working_size(self, height: int, width: int) -> tuple[int, int]:
        """The size that the graph is given: the photo's own, unless the file has one fixed, or it is very large."""
        fixed_height, fixed_width = self.session.inputs["image"][2:]
        scale = min(1.0, (DEPTH_PIXELS / (height * width)) ** 0.5)
        return fixed_height or round(height * scale), fixed_width or round(width * scale)


class RenderFile:
    """render.onnx: the blur, for disparity that a depth.onnx beside it estimates, or that is given.

    Photos of any size are rendered in tiles, in bounded memory.
    """

    def __init__(self, session: Session, find_depth: Callable[[], DepthFile | None]):
        """`find_depth` opens what estimates depth, once it is needed."""
        self.session, self.device, self.path = session, session.device, session.path
        self._find_depth = find_depth

    @cached_property
    def depth(self) -> DepthFile | None:
        """What estimates depth, where there is such a file."""
        return self._find_depth()

    @property
    def name(self) -> str:
        """Of the model that was exported."""
        return self.depth.name if self.depth is not None else model_name(self.session)

    def render(
        self, photo: Photo, *, blur: float = BLUR, focus: Focus = "auto", depth: np.ndarray | None = None
    ) -> Rendering:
        """As `argan.render`; `depth` is disparity (h, w) of any size: floats in [0, 1], or 8- or 16-bit integers.

        Raises:
            UsageError: a value out of range, `depth` of another shape, or neither it nor a depth.onnx beside the file.
        """
        check_blur(blur)
        model = self.depth if depth is None else None
        learned_focus, learned_range = (model.focus, model.focus_range) if model is not None else (None, None)
        disparity = self._disparity(photo) if depth is None else given_disparity(depth, photo)
        plane = resolve_focus(at_face(focus, photo.pixels), disparity, learned_focus)
        if blur == 0:
            return Rendering(photo, disparity, plane)
        # The graph keeps one plane sharp: the band is shrunk onto it, and what lies beyond its ends moves along.
        band = focus_band(plane, resolve_range("auto", focus, learned_range))
        moved = disparity + (plane - disparity.clip(*band))
        (width, height), long_side = photo.size, max(photo.size)
        pixels = np.empty_like(photo.pixels)
        # Nothing is further from the focus than this, so nothing is blurred by a larger disc.
        reach = blur_radius(blur, long_side) * float(np.abs(moved - plane).max())
        _check_reach(self.session, reach)
        for tile in self._tiles(height, width, reach):
            part = photo.with_pixels(photo.pixels[tile.seen])
            # Blur is in percent of the long side, and the tile has another one than the photo.
            local_blur = blur * long_side / max(part.size)
            lens = self._lens(moved[tile.seen], local_blur, plane)
            pixels[tile.core] = seen_through(part, lens).pixels[tile.core_in_seen]
        return Rendering(photo.with_pixels(pixels), disparity, plane)

    def _tiles(self, height: int, width: int, reach: float) -> Iterator[Tile]:
        """A file of one size takes the photo in one piece, or not at all."""
        if self.session.inputs["image"][2:] != (None, None):
            return tiles(height, width, reach, max(height, width))
        return tiles(height, width, reach)

    def _disparity(self, photo: Photo) -> np.ndarray:
        if self.depth is None:
            raise UsageError(
                f"{self.session.path} renders, and needs depth",
                hint="--depth FILE, or depth.onnx in the same folder: argan export --format onnx writes both",
            )
        return self.depth.disparity(photo)

    def _lens(self, disparity: np.ndarray, blur: float, focus: float) -> Through:
        tail = [self.session.put(values) for values in (disparity[None, None], one(blur), one(focus))]

        def lens(image: np.ndarray) -> np.ndarray:
            _check_size(self.session, image)
            (rendered,) = self.session.run(image, *tail)
            return rendered.numpy()

        return lens


class PipelineFile:
    """pipeline.onnx: depth, focus and blur in one graph, for photos up to `PIPELINE_PIXELS`.

    The range that the model has learned to see sharp holds about its learned plane alone; others have none.
    """

    def __init__(self, session: Session):
        self.session, self.device, self.path = session, session.device, session.path
        self.name = model_name(session)
        self.focus, self.focus_range = _number(session, "argan.focus"), _number(session, "argan.focus_range")

    def render(
        self, photo: Photo, *, blur: float = BLUR, focus: Focus = "auto", depth: np.ndarray | None = None
    ) -> Rendering:
        """As `argan.render`.

        Raises:
            UsageError: a value out of range, or `depth`, transparency or a size that only render.onnx can work with.
        """
        check_blur(blur)
        if depth is not None:
            raise self._refuse("estimates depth itself")
        if has_transparency(photo):
            raise self._refuse("takes no transparency")
        if blur == 0 or not (focus == "auto" or isinstance(focus, int | float)):
            disparity = self.disparity(photo)
            focus = resolve_focus(at_face(focus, photo.pixels), disparity, self.focus)
            if blur == 0:
                return Rendering(photo, disparity, focus)
        plane = AUTO if focus == "auto" else resolve_focus(focus, NO_MAP)
        maps: list[np.ndarray] = []

        def lens(image: np.ndarray) -> np.ndarray:
            rendered, disparity = self._run(image, blur, plane)
            maps.append(disparity)
            return rendered

        rendered, disparity = seen_through(photo, lens), maps[0]
        band = (plane, plane)
        if plane == AUTO:
            plane = resolve_focus("auto", disparity, self.focus)
            band = focus_band(plane, self.focus_range or 0.0)
        farthest = float(np.abs(disparity - disparity.clip(*band)).max())
        _check_reach(self.session, blur_radius(blur, max(photo.size)) * farthest)
        return Rendering(rendered, disparity, plane)

    def disparity(self, photo: Photo) -> np.ndarray:
        """Disparity (H, W), float32 in [0, 1], 1 = nearest.

        Raises UsageError for a photo that is too small, large or narrow, not of the size that the file has fixed, or
        of values that are not finite.
        """
        return self._run(srgb(photo), 0.0, 0.0)[1]

    def _run(self, image: np.ndarray, blur: float, focus: float) -> tuple[np.ndarray, np.ndarray]:
        _check_size(self.session, image)
        check_proportions(*image.shape[2:])
        if image.shape[2] * image.shape[3] > PIPELINE_PIXELS:
            raise self._refuse(f"takes photos up to {PIPELINE_PIXELS // 1_000_000} megapixels")
        rendered, disparity = self.session.run(image, one(blur), one(focus))
        return rendered.numpy(), disparity.numpy()[0, 0]

    def _refuse(self, what: str) -> UsageError:
        return UsageError(f"{self.session.path} {what}", hint="render.onnx has no such limit: give it as the model")


def given_disparity(depth: np.ndarray, photo: Photo) -> np.ndarray:
    """A disparity map of somebody's at the photo's size: (H, W), float32 in [0, 1]."""
    width, height = photo.size
    depth = np.asarray(depth)
    if depth.ndim != 2 or not depth.size:
        raise UsageError(f"depth is one disparity map (h, w), not {depth.shape}")
    if depth.dtype.kind not in "biuf":
        raise UsageError(f"depth is a map of numbers, not of {depth.dtype}")
    values = depth.astype(np.float32) / (np.iinfo(depth.dtype).max if depth.dtype.kind == "u" else 1)
    if not ((values >= 0) & (values <= 1)).all():
        raise UsageError("depth is disparity in [0, 1], 1 = nearest; this map has other values")
    check_shape(values.shape, (height, width))
    return resize(values[None, None], (height, width))[0, 0]


def one(value: float) -> np.ndarray:
    return np.array([value], np.float32)


def model_name(session: Session) -> str:
    return session.metadata.get("argan.model", session.path.stem)


def _number(session: Session, entry: str) -> float | None:
    """A finite number that the file says; None where it says none."""
    try:
        number = float(session.metadata[entry])
    except (KeyError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _check_size(session: Session, image: np.ndarray) -> None:
    """Refuse pictures that are too small, or not of the size that the file was exported for."""
    height, width = image.shape[2:]
    if min(height, width) < SMALLEST:
        raise UsageError(f"an exported model needs {SMALLEST} pixels each way, not {width} x {height}")
    fixed = session.inputs["image"][2:]
    if fixed != (None, None) and fixed != (height, width):
        raise UsageError(
            f"{session.path} was exported for {fixed[1]} x {fixed[0]} pixels alone, not {width} x {height}",
            hint="argan export without --size writes one for any size",
        )


def _check_reach(session: Session, radius: float) -> None:
    """Refuse discs that are larger than the graph draws: they would come out smaller than asked for."""
    largest = _number(session, "argan.largest_radius")
    if largest is not None and radius > largest:
        raise UsageError(
            f"{session.path} draws discs up to {largest:g} px of radius, and this takes {radius:.0f}",
            hint="a smaller --blur, or depth.onnx as the model: argan's own renderer draws any",
        )
