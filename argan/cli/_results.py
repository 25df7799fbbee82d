"""What `argan render` makes of a photo: a rendering, a preview to judge by, or a sweep of focus; and its files."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np

from argan.cli import _batch, _options, _output
from argan.cli._scene import Arrived, Scene
from argan.depth_maps import write_depth
from argan.images import Photo, check_holds, check_suffix, output_suffix, read_photo, write_photo, writing
from argan.names import SWEEP, Show
from argan.sweep import check_animation, small_frame, sweep_planes, write_animation


class Bokeh:
    """The photo with what is out of focus blurred."""

    def ending(self, photo: Path) -> str:
        return ".bokeh" + output_suffix(photo)

    def check(self, target: Path) -> None:
        check_suffix(target)

    def files(self, target: Path, photo: Path) -> list[Path]:
        """All that is written of a photo, `target` last."""
        return [target]

    def check_photo(self, photo: Photo, files: list[Path]) -> None:
        """Refuses what the format cannot hold, before it is rendered."""
        check_holds(photo, files[0].suffix)

    def make(self, scene: Scene, files: list[Path]) -> Any:
        """What `write` takes."""
        from argan.photo import render_photo

        return render_photo(scene.photo, scene.disparity, *scene.focused_at(scene.plane))

    def facts(self, scene: Scene) -> dict[str, Any]:
        """How the result was blurred and focused, for its row."""
        return {"blur": round(scene.focused_at(scene.plane)[0].blur, 4), "focus": round(scene.plane, 4)}

    def write(self, target: Path, made: Any) -> None:
        write_photo(target, made)


@dataclass(frozen=True)
class Preview(Bokeh):
    """What is judged by before it is rendered (`argan.views`)."""

    what: Show

    def ending(self, photo: Path) -> str:
        return f".{self.what}-view.png"

    def check_photo(self, photo: Photo, files: list[Path]) -> None:
        """A preview has none of the photo's transparency."""

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
        scene.planes = sweep_planes(scene.disparity[0, 0].cpu().numpy(), self.count)
        # What a lens cannot draw is refused before files change.
        views = [scene.focused_at(plane) for plane in scene.planes]
        _batch.make_folder(pictures[0].parent)
        if self.overwrite:
            remove_longer_sweep(pictures)
        for path, view in zip(pictures, views, strict=True):
            picture = render_photo(scene.photo, scene.disparity, *view)
            write_photo(path, picture)  # at once: hundreds of them need not fit into memory
            frames.append(small_frame(picture))
        return frames

    def facts(self, scene: Scene) -> dict[str, Any]:
        """Lists, picture by picture."""
        each = [super(Sweep, self).facts(replace(scene, plane=plane)) for plane in scene.planes]
        return {name: [facts[name] for facts in each] for name in ("blur", "focus")}

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
        frames = "1 frame" if len(left_over) == 1 else f"{len(left_over)} frames"
        _output.info(f"{pictures[0].parent}: removed {frames} of a longer sweep")


def result_of(show: Show | None, sweep: int | None, overwrite: bool) -> Bokeh:
    """What was asked for."""
    if show is not None:
        return Preview(show)
    return Bokeh() if sweep is None else Sweep(sweep, overwrite)


@dataclass(frozen=True)
class Files:
    """What is read of each photo, and written."""

    photos: _batch.Photos
    depth: Path | None
    depth_kind: str | None
    depth_unit: float | None
    result: Bokeh
    outputs: dict[Path, Path]
    depth_outputs: dict[Path, Path]
    overwrite: bool

    def of(self, path: Path) -> list[Path]:
        """All that the result is written to, the photo's output last."""
        return self.result.files(self.outputs[path], path)

    def read(self, path: Path) -> Arrived:
        """Refuses what is not to be replaced."""
        start = time.perf_counter()
        _batch.check_new([*self.of(path), *filter(None, [self.depth_outputs.get(path)])], self.overwrite)
        photo = read_photo(path)
        self.result.check_photo(photo, self.of(path))
        return start, photo, _options.given_depth(self.depth, path, self.photos, self.depth_kind, self.depth_unit)

    def write(self, path: Path, made: Any, disparity: Callable[[], np.ndarray]) -> list[Path]:
        """What was made of a photo, and the disparity (H, W) that was used if it is to be saved: the files."""
        _batch.make_folder(self.outputs[path].parent)
        self.result.write(self.outputs[path], made)
        written = self.of(path)
        if (depth_target := self.depth_outputs.get(path)) is not None:
            _batch.make_folder(depth_target.parent)
            write_depth(depth_target, disparity())
            written.append(depth_target)
        return written
