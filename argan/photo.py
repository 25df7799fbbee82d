"""Shallow depth of field on real photographs: `argan.render` and `argan.estimate_depth`."""

import math
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from argan import views
from argan.curves import SRGB, STRAIGHT, Curve, curve_of
from argan.depth_maps import OWN_MAP, check_proportions, check_shape, in_own_byte_order, values_of
from argan.devices import resolve_device
from argan.errors import UsageError
from argan.faces import at_face
from argan.focus import (
    BLUR,
    NO_MAP,
    Band,
    Focus,
    Range,
    blur_radius,
    check_blur,
    check_number,
    focus_band,
    resolve_focus,
    resolve_range,
)
from argan.grain import Finish, measure_grain, no_grain
from argan.guided import fit
from argan.highlights import Lamps
from argan.images import Photo, from_pil, to_pil
from argan.kernels import render_bokeh
from argan.kernels.backend import full_precision
from argan.kernels.bokeh import Aperture, develop_bokeh
from argan.kernels.bokeh.areas import Area
from argan.kernels.bokeh.plan import Plan
from argan.light import FULL_SCALE, from_linear, to_linear
from argan.models.estimator import DepthPredictor
from argan.models.hub import Model, load
from argan.models.onnx_depth import OnnxDepth
from argan.names import Show
from argan.precision import exact_convolutions

Picture = TypeVar("Picture", Image.Image, np.ndarray, Tensor)

BRIGHTEST = 1000  # of `Look.highlights`
BRIGHT = 2.0  # floats above this are highlights, or of another scale than [0, 1]


@dataclass(frozen=True)
class Look:
    """How a photo with known disparity is to be blurred; all as in `render`, checked."""

    blur: float
    aperture: Aperture
    grain: float | str = "auto"
    highlights: float = 1.0

    def __post_init__(self) -> None:
        check_blur(self.blur)
        check_number("highlights", self.highlights)
        if not isinstance(self.grain, str):
            check_number("grain", self.grain, '"auto" or a number')
        if not 1 <= self.highlights <= BRIGHTEST:
            raise UsageError(f"highlights are 1 to {BRIGHTEST} times as bright as white, not {self.highlights}")
        if self.grain != "auto" and (isinstance(self.grain, str) or not 0 <= self.grain <= 10):
            raise UsageError(f"grain is auto, or times the photo's own noise from 0 to 10, not {self.grain}")

    def coc(self, disparity: Tensor, band: Band) -> Tensor:
        """Signed blur radii in pixels: 0 inside the band of disparity, positive in front."""
        radius = blur_radius(self.blur, max(disparity.shape[-2:]))
        return disparity.clamp(*band).neg_().add_(disparity).mul_(radius)  # in place: photos are large

    def finish(self, colour: Tensor) -> Finish | None:
        """Grain and dither for pixels (C, H, W) without alpha."""
        integers = colour.dtype in FULL_SCALE
        strength = float(integers) if self.grain == "auto" else float(self.grain)
        if not integers and not strength:
            return None
        with full_precision(colour.device):  # under torch.autocast the same photo would get other noise
            grain = measure_grain(colour) if strength else no_grain(len(colour))
            return Finish(grain, strength, colour.dtype, colour.device)


def render(
    image: Picture,
    *,
    blur: float = BLUR,
    focus: Focus = "auto",
    focus_range: Range | str = "auto",
    depth: Any = None,
    model: Model | str | Path | None = None,
    aperture: Any = "disk",
    grain: float | str = "auto",
    highlights: float = 1.0,
    device: str = "auto",
) -> Picture:
    """A shallow-focus version of an all-in-focus photo, of the same kind, type and size.

    Args:
        image: a PIL image (turned upright by its EXIF orientation), a numpy array (H, W) or (H, W, C), or a torch
            tensor (C, H, W) or (B, C, H, W); C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA; uint8, uint16, or floats in
            [0, 1], highlights beyond. Values are display-encoded: as sRGB, or as a PIL image's own ICC profile says.
        blur: diameter of the blur disc where |disparity - focus| = 1, in percent of the photo's long side; the distance
            is that to the nearer end of what is sharp about the focus. 0 returns the pixels as they are.
        focus: "auto", "subject", "face", a point (x, y) in fractions of width and height, or a disparity in [0, 1].
            "auto" is the model's learned focal plane; with `depth` it is the centre-weighted median disparity.
            "subject" is the nearest thing about the centre, "face" the largest face that is found, else the subject.
        focus_range: what is sharp besides: a width in disparity about the focus, or disparities (low, high) instead.
            "auto" is what the model has learned to see sharp (`DepthPredictor.focus_range`); 0 with `depth`, and about
            a disparity.
        depth: disparity, 1 = nearest, as a PIL image, array or tensor (H, W): floats in [0, 1], or 8- or 16-bit
            integers. Of any size: it is brought to the photo's. Without it the model estimates it.
        model: what estimates depth, where `depth` does not say it: a loaded model, which is moved to the device and
            works in float32 whatever its precision, or what `argan.load` takes; None is the shipped one.
        aperture: a name of `argan.kernels.bokeh.APERTURES`; an image of one: a 2-D array, 0 where closed; or an
            `argan.Aperture`, which has rotation, curved blades, anamorphic stretch, rim and cat's eyes too.
        grain: how much of its own noise the photo gets back where blur has smoothed it away: 1 as much as it had, 0
            none. "auto" is 1 for integers and 0 for floats.
        highlights: how many times as bright as white small white lights were, which then blur to bright discs; see
            `argan.highlights`. 1: as they are stored.
        device: "auto", "cpu" or "cuda[:n]". "auto" is a tensor's own device; else the first GPU, else the CPU.

    Returns:
        The picture. Alpha is blurred with the colour (premultiplied): transparent pixels lend no colour. 8-bit values
        are dithered where they are blurred, and others rounded. Float tensors are differentiable.

    Raises:
        TypeError: an argument of another type.
        UsageError: a value out of range, a depth map of another shape than the photo, or both `depth` and `model`.
        MissingError: the device that was asked for is not here, or what finds faces.
    """
    if depth is not None and model is not None:
        raise UsageError("depth and model exclude each other: both say how far things are")
    look = Look(blur, as_aperture(aperture), grain, highlights)
    if isinstance(image, Tensor):
        where = image.device if device == "auto" else resolve_device(device)
        pictures = _as_batch(image)
        maps = _depth_tensors(depth, len(pictures))
        model = None if depth is not None else _loaded(model, where, device == "auto")
        rendered = torch.stack(
            [
                _render(picture.to(where), d, look, focus, focus_range, SRGB, model).to(image.device)
                for picture, d in zip(pictures, maps, strict=True)
            ]
        )
        return rendered if image.ndim == 4 else rendered[0]
    where = resolve_device(device)
    photo = _as_photo(image)
    (disparity,) = _depth_tensors(depth, 1)
    model = None if depth is not None else _loaded(model, where, device == "auto")
    with torch.no_grad():
        pixels = _to_tensor(photo.pixels).to(where)
        rendered = _render(pixels, disparity, look, focus, focus_range, curve_of(photo.icc), model)
    result = photo.with_pixels(_to_array(rendered))
    return to_pil(result) if isinstance(image, Image.Image) else result.pixels.reshape(image.shape)


def estimate_depth(
    image: Picture, *, model: Model | str | Path | None = None, device: str = "auto"
) -> np.ndarray | Tensor:
    """Disparity of a photo, 1 = nearest: float32 (H, W), a numpy array for PIL images and arrays.

    For torch tensors (C, H, W) or (B, C, H, W) it is a tensor (H, W) or (B, H, W). Arguments and errors as in `render`.
    """
    if isinstance(image, Tensor):
        where = image.device if device == "auto" else resolve_device(device)
        pictures = _as_batch(image)
        model = _loaded(model, where, device == "auto")
        maps = torch.cat([predict(picture.to(where), model)[0] for picture in pictures]).to(image.device)
        return maps if image.ndim == 4 else maps[0]
    where = resolve_device(device)
    pixels = _to_tensor(_as_photo(image).pixels).to(where)
    return predict(pixels, _loaded(model, where, device == "auto"))[0, 0].cpu().numpy()


def render_photo(photo: Photo, disparity: Tensor, look: Look, band: Band) -> Photo:
    """`render` for a photo from a file, with disparity (1, 1, H, W) at its size, on its device; `band` is sharp."""
    with torch.no_grad():
        pixels = _to_tensor(photo.pixels).to(disparity.device)
        return photo.with_pixels(_to_array(_defocus(pixels, look.coc(disparity, band), look, curve_of(photo.icc))))


def photo_disparity(photo: Photo, source: Model | np.ndarray | None, device: torch.device) -> Tensor:
    """Disparity (1, 1, H, W) of a photo from a file: a model's estimate, or a depth map brought to the photo's size."""
    pixels = _to_tensor(photo.pixels).to(device)
    if isinstance(source, np.ndarray):
        return fit_depth(torch.from_numpy(source)[None, None].to(device), pixels)
    assert source is not None
    return predict(pixels, source)


def predict(pixels: Tensor, model: Model) -> Tensor:
    """The model's disparity (1, 1, H, W) for pixels (C, H, W) of any type."""
    depth = estimator_of(model)
    height, width = pixels.shape[1:]
    if min(height, width) < 16:
        raise UsageError(f"a photo needs 16 pixels each way to estimate depth, not {width} x {height}", hint=OWN_MAP)
    check_proportions(height, width)
    with torch.no_grad(), exact_convolutions(), torch.autocast(pixels.device.type, enabled=False):
        return depth(_display_rgb(pixels)).clamp(0, 1)


def estimator_of(model: Model) -> DepthPredictor | OnnxDepth:
    """What estimates depth in it. UsageError where nothing does."""
    if model.depth is None:
        raise UsageError(f"the model {model.config.name} estimates no depth", hint="argan train-depth teaches it to")
    return model.depth


def fit_depth(disparity: Tensor, pixels: Tensor) -> Tensor:
    """Bring disparity (1, 1, h, w) to the size of pixels (C, H, W), as `argan.guided.fit` does."""
    size, full_size = disparity.shape[2:], pixels.shape[1:]
    if size == full_size:
        return disparity
    check_shape(size, full_size)
    return fit(disparity, _display_rgb(pixels))


def plane_in_focus(focus: Focus, disparity: Tensor, model: Model | None = None) -> float:
    """The disparity in focus. `disparity` (1, 1, H, W); `model` is what estimated it, None for a given depth map."""
    learned = estimator_of(model).focus if model is not None else None
    known = (learned is not None and focus == "auto") if isinstance(focus, str) else not isinstance(focus, tuple | list)
    # A map that nobody looks at is not copied from the GPU, 48 MB for 12 megapixels.
    return resolve_focus(focus, NO_MAP if known else disparity[0, 0].detach().cpu().numpy(), learned)


def learned_range(model: Model | None) -> float | None:
    """What the model that estimates depth has learned to see sharp, a width in disparity; None where nothing has."""
    return estimator_of(model).focus_range if model is not None else None


def show(what: Show, photo: Photo, disparity: Tensor, look: Look, band: Band) -> Image.Image:
    """A picture to judge by (`argan.views`)."""
    pixels = _to_tensor(photo.pixels).to(disparity.device)
    coc = look.coc(disparity, band)
    radii, colour = coc[0, 0].cpu().numpy(), _display_rgb(pixels)[0].permute(1, 2, 0).cpu().numpy()
    if what == "depth":
        return views.depth_view(disparity[0, 0].cpu().numpy())
    if what == "coc":
        return views.coc_view(colour.mean(-1), radii)
    if what == "layers":
        return views.layers_view(radii, Plan.of(coc, look.aperture).radii)
    return views.focus_view(colour, radii)


def as_aperture(
    aperture: Any,
    rotation: float = 0.0,
    curvature: float = 0.0,
    anamorphic: float = 1.0,
    rim: float = 0.0,
    cat_eye: float = 0.0,
) -> Aperture:
    """An `argan.Aperture` from one, or from a name or an image (array or tensor) and what the lens does to it."""
    try:
        if isinstance(aperture, Aperture):
            return aperture
        shape = torch.as_tensor(aperture, device="cpu") if isinstance(aperture, np.ndarray) else aperture
        return Aperture(shape, rotation, curvature, anamorphic, rim, cat_eye)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from None


def _render(
    pixels: Tensor,
    depth: Tensor | None,
    look: Look,
    focus: Focus,
    focus_range: Range | str,
    curve: Curve,
    model: Model | None,
) -> Tensor:
    """One picture (C, H, W) of any type; `depth` (1, 1, h, w), or None for the model's."""
    if depth is not None:
        disparity = fit_depth(depth.to(pixels.device), pixels)
    else:
        assert model is not None
        disparity = predict(pixels, model)
    if isinstance(focus, str) and focus == "face":
        focus = at_face(focus, _to_array(_widened(pixels.detach())))
    plane = plane_in_focus(focus, disparity, model)
    band = focus_band(plane, resolve_range(focus_range, focus, learned_range(model)))
    return _defocus(pixels, look.coc(disparity, band), look, curve)


def _defocus(pixels: Tensor, coc: Tensor, look: Look, curve: Curve) -> Tensor:
    """The rendering itself: decode to linear light, blur, encode. Pixels (C, H, W), coc (1, 1, H, W)."""
    if look.blur == 0 or (pixels.dtype in FULL_SCALE and not bool(coc.any())):
        return pixels.clone()
    has_alpha = len(pixels) in (2, 4)
    colour = pixels[: len(pixels) - has_alpha]
    finish = look.finish(colour)
    if has_alpha and not bool(((alpha := to_linear(_widened(pixels[-1:]), STRAIGHT)) == 1).all()):
        return _defocus_transparent(colour, alpha, coc, look, curve, finish)
    if pixels.dtype in FULL_SCALE:
        blurred = _defocus_by_tiles(colour, coc, look, curve, finish)
    else:
        blurred = _encode(_through_lens(_light(colour, coc, look, curve), coc, look), coc, curve, pixels.dtype, finish)
    return torch.cat([blurred, pixels[-1:]]) if has_alpha else blurred


def _defocus_by_tiles(colour: Tensor, coc: Tensor, look: Look, curve: Curve, finish: Finish | None) -> Tensor:
    """`_defocus` for integers without alpha: light is decoded, blurred and encoded a tile at a time."""

    def stored(area: Area) -> Tensor:
        return to_linear(colour[area.index()], curve).expand(3, -1, -1)[None]

    lamps = Lamps(stored, Area.of(coc), look.highlights) if look.highlights > 1 else None

    def lit(area: Area) -> Tensor:
        return stored(area) if lamps is None else lamps.lit(stored(area), coc[area.index()], area)

    def develop(rendered: Tensor, area: Area) -> Tensor:
        place = finish.at(coc[0, 0][area.index()], area.top, area.left) if finish is not None else None
        return from_linear(rendered[0, : len(colour)], curve, colour.dtype, place)[None]

    white = math.inf if lamps is None else 1.0
    return develop_bokeh(lit, coc, develop, aperture=look.aperture, white=white)[0]


def _defocus_transparent(
    colour: Tensor, alpha: Tensor, coc: Tensor, look: Look, curve: Curve, finish: Finish | None
) -> Tensor:
    """`_defocus` with linear alpha (1, H, W): light is premultiplied with it, and blurred as it is."""
    light = _light(colour, coc, look, curve)
    coverage = _through_lens(alpha, coc, look)
    blurred = _through_lens(light * alpha, coc, look) / coverage.clamp(min=1e-4)
    # Mixed pixels are found in light and in alpha each by itself; where alpha is rough they do not go together.
    least, most = _extremes(light, seen=alpha > 0)
    blurred = blurred.clamp(least, most)
    encoded = from_linear(coverage, STRAIGHT, colour.dtype)
    return torch.cat([_encode(blurred, coc, curve, colour.dtype, finish), encoded])


def _extremes(light: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the most (C, 1, 1) of light (C, H, W) where it is `seen` (1, H, W): a lens only mixes it."""
    if not bool(seen.any()):
        seen = torch.ones_like(seen)
    least = light.masked_fill(~seen, math.inf).amin((1, 2), keepdim=True)
    most = light.masked_fill(~seen, -math.inf).amax((1, 2), keepdim=True)
    return least, most


def _light(colour: Tensor, coc: Tensor, look: Look, curve: Curve) -> Tensor:
    """Linear light (C, H, W) of pixels, with lamps as bright as they are taken to be."""
    linear = to_linear(_widened(colour), curve)
    if look.highlights == 1:
        return linear
    light, picture = linear.expand(3, -1, -1)[None], Area.of(coc)
    lamps = Lamps(lambda area: light[area.index()], picture, look.highlights)
    return lamps.lit(light, coc, picture)[0, : len(linear)]


def _through_lens(linear: Tensor, coc: Tensor, look: Look) -> Tensor:
    """Light (C, H, W), blurred by signed radii (1, 1, H, W)."""
    rgb = linear.expand(3, -1, -1)[None]
    return render_bokeh(rgb, coc.to(rgb.dtype), 1.0, 0.0, aperture=look.aperture)[0, : len(linear)]


def _encode(linear: Tensor, coc: Tensor, curve: Curve, dtype: torch.dtype, finish: Finish | None) -> Tensor:
    """Light (C, H, W) as pixels of `dtype`, with grain and dither."""
    return from_linear(linear, curve, dtype, finish.at(coc[0, 0]) if finish is not None else None)


def _display_rgb(pixels: Tensor) -> Tensor:
    """Pixels (C, H, W) of any type -> what models look at: (1, 3, H, W) float32 in [0, 1], without alpha."""
    colour = pixels[: len(pixels) - (len(pixels) in (2, 4))]
    unit = colour.float() / FULL_SCALE[pixels.dtype] if pixels.dtype in FULL_SCALE else colour.float().clamp(0, 1)
    return unit.expand(3, -1, -1)[None]


def _widened(pixels: Tensor) -> Tensor:
    """Half precision as float32; integers and wider floats as they are."""
    return pixels.float() if pixels.dtype in (torch.float16, torch.bfloat16) else pixels


def _as_photo(image: Any) -> Photo:
    if isinstance(image, Image.Image):
        return from_pil(image)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"a picture is a PIL image, a numpy array or a torch tensor, not {type(image).__name__}")
    pixels = in_own_byte_order(image[:, :, None] if image.ndim == 2 else image)
    if pixels.ndim != 3 or pixels.size == 0:
        raise UsageError(f"a numpy picture is (H, W) or (H, W, C), not {image.shape}")
    _check_channels(pixels.shape[2], image.shape, "numpy pictures are (H, W, C): array.transpose(1, 2, 0)")
    if pixels.dtype.kind == "f":
        _check_floats(bool(np.isfinite(pixels).all()), float((pixels > BRIGHT).mean()))
    return Photo(pixels)


def _as_batch(image: Tensor) -> Tensor:
    """(C, H, W) or (B, C, H, W) -> (B, C, H, W)."""
    if image.ndim not in (3, 4) or image.numel() == 0:
        raise UsageError(f"a picture tensor is (C, H, W) or (B, C, H, W), not {tuple(image.shape)}")
    _check_channels(image.shape[-3], tuple(image.shape), "picture tensors are (C, H, W): tensor.movedim(-1, -3)")
    if image.dtype not in FULL_SCALE and not image.is_floating_point():
        raise UsageError(f"pixels are uint8, uint16 or floats, not {image.dtype}")
    if image.is_floating_point():
        values = image.detach()
        _check_floats(bool(values.isfinite().all()), float((values > BRIGHT).float().mean()))
    return image if image.ndim == 4 else image[None]


def _check_channels(channels: int, shape: tuple[int, ...], hint: str) -> None:
    if not 1 <= channels <= 4:
        raise UsageError(f"a picture has 1 to 4 channels; this one has the shape {shape}", hint=hint)


def _check_floats(finite: bool, bright: float) -> None:
    """Refuse values that are not finite, and those of a scale to 255: highlights, a share, are never most of them."""
    if not finite:
        raise UsageError("a picture's values must be finite")
    if bright > 0.5:
        raise UsageError("floats are in [0, 1], and most of this picture is far beyond", hint="divide it by 255")


def _to_tensor(pixels: np.ndarray) -> Tensor:
    """(H, W, C) array -> (C, H, W) tensor."""
    if pixels.dtype not in (np.uint8, np.uint16, np.float16, np.float32, np.float64):
        raise UsageError(f"pixels are uint8, uint16 or floats, not {pixels.dtype}")
    return torch.from_numpy(np.require(pixels, requirements=["C", "W"])).permute(2, 0, 1)


def _to_array(pixels: Tensor) -> np.ndarray:
    """(C, H, W) tensor -> (H, W, C) array."""
    return np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy())


def _depth_tensors(depth: Any, count: int) -> list[Tensor] | list[None]:
    """A depth map as given -> one (1, 1, h, w) tensor of disparity in [0, 1] for each of `count` pictures."""
    if depth is None:
        return [None] * count
    if isinstance(depth, str | Path):
        raise TypeError("depth is a PIL image, a numpy array or a torch tensor, not a path")
    if not isinstance(depth, Tensor):
        values = values_of(depth) if isinstance(depth, Image.Image) else depth
        depth = torch.from_numpy(in_own_byte_order(np.array(values)))
    if depth.ndim == 3 and count == 1 and depth.shape[-1] == 1:
        depth = depth[..., 0]
    if depth.ndim == 2:
        depth = depth.expand(count, *depth.shape)
    if depth.ndim == 4 and depth.shape[1] == 1:
        depth = depth[:, 0]
    if depth.ndim != 3 or len(depth) != count or depth.numel() == 0:
        raise UsageError(f"depth is one disparity map (H, W) for each picture, not {tuple(depth.shape)}")
    full_scale = FULL_SCALE.get(depth.dtype, 1)
    depth = depth.float() / full_scale
    if not bool(((depth >= 0) & (depth <= 1)).all()):
        raise UsageError(
            "depth is disparity in [0, 1], 1 = nearest; this map has other values",
            hint="(d - d.min()) / (d.max() - d.min()) of disparity; of distance, first 1 / d",
        )
    return list(depth[:, None, None].unbind())


def _loaded(model: Model | str | Path | None, device: torch.device, auto: bool) -> Model:
    """A model as given, on the device. One in another precision than `_display_rgb`'s is copied, not changed."""
    model = load(model) if model is None or isinstance(model, str | Path) else model
    if any(x.dtype != torch.float32 for x in model.parameters()):
        model = deepcopy(model).float()
    return model.on(device, auto)
