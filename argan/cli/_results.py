"""What `argan render` makes of a photo: a rendering, a preview to judge by, or a sweep of focus."""

from collections.abc import Callable
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from argan.cli import _batch, _output
from argan.images import Photo, check_suffix, output_suffix, write_photo, writing
from argan.names import SWEEP
from argan.sweep import check_animation, small_frame, sweep_planes, write_animation

if TYPE_CHECKING:
    from torch import Tensor

    from argan.focus import Band
    from argan.photo import Look


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


class Bokeh:
    """The photo with what is out of focus blurred."""

    def ending(self, photo: Path) -> str:
        return ".bokeh" + output_suffix(photo)

    def check(self, target: Path) -> None:
        check_suffix(target)

    def files(self, target: Path, photo: Path) -> list[Path]:
        """All that is written of a photo, `target` last."""
        return [target]

    def make(self, scene: Scene, files: list[Path]) -> Any:
        """What `write` takes."""
        from argan.photo import render_photo

        return render_photo(scene.photo, scene.disparity, *scene.focused_at(scene.plane))

    def write(self, target: Path, made: Any) -> None:
        write_photo(target, made)


@dataclass(frozen=True)
class Preview(Bokeh):
    """One of `argan.names.SHOWS`."""

    what: str

    def ending(self, photo: Path) -> str:
        return f".{self.what}-view.png"

    def make(self, scene: Scene, files: list[Path]) -> Any:
        from argan.photo import show

        return show(self.what, scene.photo, scene.disparity, *scene.focused_at(scene.plane))

    def write(self, target: Path, made: Any) -> None:
        with writing(target) as temporary:
            made.save(temporary)


@dataclass(frozen=True)
class Sweep(Bokeh):
    """An animation, and its pictures in a folder beside it."""

    count: int
    overwrite: bool

    def ending(self, photo: Path) -> str:
        return f"{SWEEP}.webp"

    def check(self, target: Path) -> None:
        check_animation(target)

    def files(self, target: Path, photo: Path) -> list[Path]:
        numbered = (f"{photo.stem}.{number:03}{output_suffix(photo)}" for number in range(1, self.count + 1))
        return [*(target.with_suffix("") / name for name in numbered), target]

    def make(self, scene: Scene, files: list[Path]) -> Any:
        from argan.photo import render_photo

        pictures, frames = files[:-1], []
        _batch.make_folder(pictures[0].parent)
        if self.overwrite:
            remove_longer_sweep(pictures)
        planes = sweep_planes(scene.disparity[0, 0].cpu().numpy(), self.count)
        for path, scene.plane in zip(pictures, planes, strict=True):  # the last one is reported
            picture = render_photo(scene.photo, scene.disparity, *scene.focused_at(scene.plane))
            write_photo(path, picture)  # at once: hundreds of them need not fit into memory
            frames.append(small_frame(picture))
        return frames

    def write(self, target: Path, made: Any) -> None:
        write_animation(target, made)


def remove_longer_sweep(pictures: list[Path]) -> None:
    """Pictures beyond these, of a sweep that had more, PHOTO.NNN.SUFFIX in the same folder; says how many."""
    photo = pictures[0].name.removesuffix(f".001{pictures[0].suffix}")
    numbered = pictures[0].parent.glob(f"{escape(photo)}.[0-9][0-9][0-9]{pictures[0].suffix}")
    left_over = {*numbered} - {*pictures}
    for picture in left_over:
        picture.unlink()
    if left_over:
        _output.info(f"{pictures[0].parent}: removed {len(left_over)} frames of a longer sweep")
