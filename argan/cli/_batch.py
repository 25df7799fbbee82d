"""What the commands on photographs share: which files, which outputs, and one bad file that does not stop the rest."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from argan.cli import _output
from argan.cli._errors import explain
from argan.errors import ArganError, MissingError, UsageError

OWN_ENDINGS = (".bokeh", ".depth", ".depth-view")  # what the commands write beside photos is no input in a folder
DEPTH_SUFFIXES = (".png", ".tif", ".tiff", ".npy", ".npz")

Row = dict[str, Any]


def find_photos(paths: Iterable[Path]) -> list[Path]:
    """Files as given, and the pictures directly in each folder, by name. A missing file fails when it is read."""
    from argan.images import READS

    photos: list[Path] = []
    for path in paths:
        if not path.is_dir():
            photos.append(path)
            continue
        inside = [file for file in path.iterdir() if file.suffix.lower() in READS and not is_own_output(file)]
        if not inside:
            raise UsageError(f"{path}: no photos in this folder")
        photos += sorted(inside)
    return list(dict.fromkeys(photos))


def is_own_output(path: Path) -> bool:
    return path.name.startswith(".") or path.stem.endswith(OWN_ENDINGS)


def output_paths(
    photos: Sequence[Path], output: Path | None, ending: Callable[[Path], str], *, may_be_file: bool = True
) -> list[Path]:
    """Where each photo's result goes: beside it as STEM + ending, into the folder `output`, or the file `output`.

    `output` is a file where it may be one, there is one photo, it has a suffix, and no folder has its name.
    Raises UsageError when two results would be one file.
    """
    if output is not None and may_be_file and len(photos) == 1 and output.suffix and not output.is_dir():
        return [output]
    paths = [(output or photo.parent) / (photo.stem + ending(photo)) for photo in photos]
    for index, path in enumerate(paths):
        if path in paths[:index]:
            first = photos[paths.index(path)]
            raise UsageError(f"{first} and {photos[index]} would both be written to {path}")
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
        reason = (error.strerror or str(error)).lower()
        raise ArganError(f"{path}: cannot make this folder: {reason}") from error


def depth_file(option: Path, photo: Path) -> Path:
    """The depth map of a photo: `option` itself, or in the folder `option` STEM.depth.png (.tif, .npy, .npz)."""
    if not option.is_dir():
        return option
    for suffix in DEPTH_SUFFIXES:
        path = option / f"{photo.stem}.depth{suffix}"
        if path.exists():
            return path
    raise ArganError(f"{photo}: no depth map {photo.stem}.depth.png in {option}")


def onnx_settings(model: str | None, options: Sequence[str] | None, kind: str) -> dict[str, str]:
    """--model-input KEY=VALUE … and --depth-kind as `argan.load` takes them; nothing for a model that is no ONNX file.

    Raises:
        UsageError: not KEY=VALUE, or the model takes none.
    """
    from argan.runtime import is_onnx

    for option in options or ():
        if not is_onnx(model):
            raise UsageError(f"--model-input {option} goes with --model FILE.onnx")
        if "=" not in option:
            raise UsageError(f"--model-input {option}: KEY=VALUE, such as size=384")
    settings = dict(option.split("=", 1) for option in options or ())
    return {"kind": kind, **settings} if is_onnx(model) and kind != "disparity" else settings


def run_batch(photos: Sequence[Path], description: str, work: Callable[[Path], Row], as_json: bool) -> None:
    """Call `work` for each photo and print its rows; in a batch, failures are named at the end and the exit code is 1.

    A row names what was written under "files"; that is all that people are shown.
    """
    rows: list[Row] = []
    failures: list[str] = []
    if len(photos) == 1:
        rows.append(work(photos[0]))
    else:
        for photo in _output.track(photos, description):
            try:
                rows.append(work(photo))
            except MissingError:
                raise
            except Exception as error:
                if os.environ.get("ARGAN_DEBUG") == "1":
                    raise
                reason = str(explain(error))
                failures.append(reason if reason.startswith(str(photo)) else f"{photo}: {reason}")
                rows.append({"photo": photo, "error": str(explain(error))})
    written = [str(file) for row in rows for file in row.get("files", [])]
    _output.result(rows, as_json=as_json, human="\n".join(written))
    if failures:
        for failure in failures:
            _output.info(f"failed: {' '.join(failure.split())}")
        raise ArganError(f"{len(failures)} of {len(photos)} photos failed")
