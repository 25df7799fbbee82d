"""What the commands on photographs share: which files, which outputs, and one bad file that does not stop the rest."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from argan.cli import _output
from argan.cli._errors import debugging, explain, is_interrupt
from argan.errors import ArganError, MissingError, MissingReaderError, UsageError, lower_first
from argan.names import made_of

if TYPE_CHECKING:
    from argan.images import Photo

Row = dict[str, Any]
Item = TypeVar("Item")
Done = TypeVar("Done")
Photos = dict[Path, Path]  # a photo -> its place in the folder that it came from, mirrored by folders of results


def find_photos(paths: Iterable[Path]) -> Photos:
    """Files as given, and the pictures in each folder and below, by name.

    A missing file fails when it is read, and at once if it is all that is given.
    What argan made of another file that is given is left out: the shell's `*.jpg` has photo.bokeh.jpg, too.
    """
    from argan.data.sources import FolderSource

    photos: Photos = {}
    paths = list(paths)
    if len(paths) == 1 and not paths[0].exists():
        raise UsageError(f"{paths[0]}: no such file or directory")
    given = {path.parent / name for path in paths for name in (path.stem, path.name)}
    for path in paths:
        if (source := made_of(path.name)) and path.parent / source in given:
            continue
        if not path.is_dir():
            photos.setdefault(path, Path())
            continue
        inside = FolderSource(path).names()
        if not inside:
            raise UsageError(f"{path}: no photos in this folder")
        for name in inside:
            photos.setdefault(path / name, Path(name).parent)
    return photos


def is_named_as_a_result(path: Path) -> bool:
    """By its suffix, which is a photo's or a depth map's."""
    from argan import depth_maps, images

    return path.suffix.lower() in {*images.READS, *depth_maps.READS}


def output_paths(
    photos: Photos, output: Path | None, ending: Callable[[Path], str], *, may_be_file: bool = True
) -> dict[Path, Path]:
    """Where each photo's result goes: beside it as STEM + ending, into the folder `output`, or the file `output`.

    A folder of results mirrors the folders that the photos came from. Photos that would share a result, as a.heic and
    a.jpg, have all of their names in it: a.heic.depth.png. `output` is a file where it may be one, there is one photo,
    it has a suffix, and no folder has its name. Raises UsageError when two results would be one file all the same, and
    when a folder is needed and `output` is a file, or is named as one.
    """
    if str(output) == "-":
        raise UsageError("nothing is written to a pipe", hint="--output takes a file or a folder")
    if output is not None and not output.is_dir():
        if may_be_file and len(photos) == 1 and output.suffix:
            return dict.fromkeys(photos, output)
        if output.exists() or is_named_as_a_result(output):
            raise UsageError(f"the results cannot be one file {output}", hint="give a folder")

    def named(photo: Path, name: str) -> Path:
        return (photo.parent if output is None else output / photos[photo]) / (name + ending(photo))

    wanted = Counter(str(named(photo, photo.stem)).casefold() for photo in photos)  # some file systems ignore case
    paths: dict[Path, Path] = {}
    taken: dict[str, Path] = {}
    for photo in photos:
        path = named(photo, photo.stem)
        if wanted[str(path).casefold()] > 1:
            path = named(photo, photo.name)
        key = str(path) if output is None else str(path).casefold()  # photos that lie together keep their case there
        if key in taken:
            raise UsageError(
                f"{taken[key]} and {photo} would both be written to {path}", hint="one folder at a time, or rename one"
            )
        paths[photo], taken[key] = path, photo
    return paths


def check_new(paths: Iterable[Path], overwrite: bool) -> None:
    """Refuse to write over files that are there."""
    for path in paths:
        if path.exists() and not overwrite:
            raise ArganError(f"{path} exists", hint="--overwrite replaces it")


def make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArganError(f"{path}: cannot make this folder: {lower_first(error.strerror or str(error))}") from error


def depth_file(option: Path, photo: Path, photos: Photos) -> Path:
    """The depth map of one of the photos: `option` itself, or in the folder `option` NAME.depth.png (.tif, .npy, .npz).

    NAME is the photo's, with its suffix or without. A folder may mirror the photos' own; what is not in the photo's
    place there is looked for in the folder itself, unless that is the place of another photo of this name.
    """
    from argan.depth_maps import READS

    if not option.is_dir():
        return option
    taken = any(place == Path() and other.stem == photo.stem for other, place in photos.items())
    for folder in [option / photos[photo]] if taken else [option / photos[photo], option]:
        for name in (photo.name, photo.stem):
            for suffix in READS:
                path = folder / f"{name}.depth{suffix}"
                if path.exists():
                    return path
    raise ArganError(f"{photo}: no depth map {photo.stem}.depth.png in {option}")


def row(path: Path, photo: "Photo", files: list[Path], start: float, **facts: Any) -> Row:
    """What a command says of a photo: which files it wrote, the size, its own `facts`, and the time since `start`."""
    width, height = photo.size
    seconds = round(time.perf_counter() - start, 2)
    return {"photo": path, "files": files, "width": width, "height": height, **facts, "seconds": seconds}


def read_ahead(photos: Iterable[Path], read: Callable[[Path], Item]) -> "Future[Item]":
    """Begin to read the first photo, in a thread: it takes as long as importing torch does."""
    pool = ThreadPoolExecutor(1)
    first = pool.submit(read, next(iter(photos)))
    pool.shutdown(wait=False)
    return first


def run_batch(
    photos: Iterable[Path],
    description: str,
    read: Callable[[Path], Item],
    work: Callable[[Path, Item], Done],
    write: Callable[[Path, Done], Row],
    as_json: bool,
    first: "Future[Item] | None" = None,
) -> None:
    """Read, work on and write each photo, and print the rows that `write` gives.

    In a batch the next photo is read and the last one written while one is worked on; failures are named at the end
    and the exit code is 1. A row names what was written under "files"; that is all that people are shown. `first` is
    what `read_ahead` has begun.
    """
    photos = list(photos)
    rows: dict[Path, Row] = {}

    def finish(photo: Path, done: Done) -> None:
        with _noted(photo, rows):
            rows[photo] = write(photo, done)

    try:
        if len(photos) == 1:
            with _noted(photos[0], rows, alone=True):
                arrived = first.result() if first is not None else read(photos[0])
                rows[photos[0]] = write(photos[0], work(photos[0], arrived))
        else:
            with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
                reading, writing = first or reader.submit(read, photos[0]), writer.submit(lambda: None)
                for photo, following in zip(_output.track(photos, description), [*photos[1:], None], strict=True):
                    current = reading
                    if following is not None:
                        reading = reader.submit(read, following)
                    with _noted(photo, rows):
                        done = work(photo, current.result())
                        writing.result()  # one photo at a time waits to be written
                        writing = writer.submit(finish, photo, done)
                writing.result()
    finally:  # an interrupted batch says what it has done, too
        finished = [rows[photo] for photo in photos if photo in rows]
        if finished:
            written = [str(file) for row in finished for file in row.get("files", [])]
            _output.result(finished, as_json=as_json, human="\n".join(written))
    failures = {photo: str(row["error"]) for photo, row in rows.items() if "error" in row}
    for photo, reason in failures.items():
        reason = reason if reason.startswith(str(photo)) else f"{photo}: {reason}"
        _output.info(f"failed: {' '.join(reason.split())}")
    if failures:
        raise ArganError(f"{len(failures)} of {len(photos)} photos failed")


@contextmanager
def _noted(photo: Path, rows: dict[Path, Row], alone: bool = False) -> Iterator[None]:
    """What goes wrong with one photo becomes its row; what goes wrong with all, or one `alone`, is raised."""
    try:
        yield
    except Exception as error:
        said = explain(error)
        all_fail = isinstance(said, MissingError) and not isinstance(said, MissingReaderError)
        if all_fail or is_interrupt(error) or debugging():
            raise
        rows[photo] = {"photo": photo, "error": f"{said} ({said.hint})" if said.hint else str(said)}
        if alone:
            raise
