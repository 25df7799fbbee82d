"""A photo as `argan render` sees it: its depth, and the lens before it with its focus."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from argan.cli import _options
from argan.depth_maps import DepthMap
from argan.focus import Band, Focus, Range, focus_band
from argan.images import Photo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from torch import Tensor

    from argan.lens import ThinLens
    from argan.models.hub import Model
    from argan.photo import Look

Arrived = tuple[float, Photo, DepthMap | None]  # when a photo began to be read, the photo, and its map if one is given
Dioptres = tuple[float, float] | None  # as `DepthMap` has them


@dataclass
class Scene:
    """A photo from a file with its depth."""

    photo: Photo
    disparity: "Tensor"
    plane: float
    """The disparity in focus."""
    focused_at: "Callable[[float], tuple[Look, Band]]"
    """How a photo is blurred that is focused on a disparity, and what is sharp in it."""
    start: float
    """When it began to be read."""
    planes: "Sequence[float]" = ()
    """Of a sweep: the disparities in focus, picture by picture."""


@dataclass(frozen=True)
class Optics:
    """What the options say of depth, lens and focus: the same for all photos."""

    estimator: "Model | None"
    """None: depth is given."""
    look: "Look"
    lens: "ThinLens | None"
    """Its blur takes the place of the look's."""
    focus: Focus
    distance: float | None
    """Metres, in place of `focus`."""
    around: Range

    def scene(self, path: Path, arrived: Arrived, where: "torch.device") -> Scene:
        from argan.photo import photo_disparity

        start, photo, given = arrived
        _options.say_depth(given)
        dioptres = given.dioptres if given is not None else None
        disparity = photo_disparity(photo, given.disparity if given is not None else self.estimator, where)
        plane = self.plane(path, photo, disparity, dioptres)
        return Scene(photo, disparity, plane, partial(self.focused_at, dioptres), start)

    def plane(self, path: Path, photo: Photo, disparity: "Tensor", dioptres: Dioptres) -> float:
        """The disparity in focus."""
        from argan.photo import plane_in_focus

        if self.distance is not None:
            return _options.disparity_of(self.distance, dioptres)
        if isinstance(self.around, tuple):
            return sum(self.around) / 2
        return plane_in_focus(_options.focus_in(path, self.focus, photo), disparity, self.estimator)

    def focused_at(self, dioptres: Dioptres, plane: float) -> "tuple[Look, Band]":
        blur = self.look.blur if self.lens is None else _options.blur_of(self.lens, plane, dioptres)
        return replace(self.look, blur=blur), focus_band(plane, self.around)
