"""What an exported file says of itself, read back from any format."""

import hashlib
import json
import zipfile
from pathlib import Path

import onnx

from argan.errors import ArganError, UsageError
from argan.export.formats import FORMATS
from argan.export.metadata import METADATA_FILE

Facts = dict[str, str | int | dict[str, str]]
JSON = ("argan.conventions", "argan.tensors")
"""Entries that are objects of texts."""


def read_metadata(path: Path) -> dict[str, str]:
    """What an exported file says of itself, and its `format`: "onnx", "torchscript" or "pt2".

    Raises:
        UsageError: there is no such file, or no exported file has such a suffix.
        ArganError: it is not a file that argan exported, or it is damaged.
    """
    formats = {format.suffix: name for name, format in FORMATS.items()}
    format = formats.get(path.suffix.lower())
    if format is None:
        raise UsageError(f"{path}: exported files end in {', '.join(formats)}")
    if not path.is_file():
        raise UsageError(f"{path}: no such file", hint="argan export writes them")
    try:
        if format == "onnx":
            model = onnx.load(path, load_external_data=False)
            entries = {prop.key: prop.value for prop in model.metadata_props}
        else:
            with zipfile.ZipFile(path) as archive:
                if (changed := archive.testzip()) is not None:  # torch's loaders do not look at checksums
                    raise ValueError(f"{changed} has been changed")
                (name,) = [name for name in archive.namelist() if name.endswith(METADATA_FILE)]
                entries = json.loads(archive.read(name))
        if not (isinstance(entries, dict) and all(isinstance(value, str) for value in entries.values())):
            raise ValueError(f"{METADATA_FILE} is no object of texts")
    except Exception as error:  # onnx, protobuf, zipfile and json have no common class of errors
        raise ArganError(f"{path} is damaged, or was not exported by argan: {error}") from error
    if "argan.target" not in entries:
        raise ArganError(f"{path} was not exported by argan: it does not say what it is")
    return {**entries, "format": format}


def describe(path: Path) -> Facts:
    """`read_metadata`, its parts unpacked, with the file's own size and checksum. Raises as that does.

    Entries of others than argan are shown as they are, unless they are called as something of argan's.
    """
    entries = read_metadata(path)
    first: Facts = {"file": str(path), "format": entries.pop("format")}
    facts: Facts = {}
    for name, value in entries.items():
        if name.startswith("argan."):
            facts[name.removeprefix("argan.")] = _unpacked(path, name, value) if name in JSON else value
    data = path.read_bytes()
    last: Facts = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    foreign: Facts = {name: value for name, value in entries.items() if not name.startswith("argan.")}
    return {**first, **facts, **{name: foreign[name] for name in foreign if name not in facts}, **first, **last}


def _unpacked(path: Path, name: str, value: str) -> dict[str, str]:
    try:
        found = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ArganError(f"{path} is damaged: its entry {name} is no JSON") from error
    if not isinstance(found, dict):
        raise ArganError(f"{path} is damaged: its entry {name} is no JSON object")
    return found
