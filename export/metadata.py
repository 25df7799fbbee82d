"""What an exported file says of itself: enough to use it right and to know its origin, without this package."""

import hashlib
import json
import zipfile
from pathlib import Path

import onnx

from argan import __version__
from argan.errors import ArganError
from argan.export.targets import Target

METADATA_FILE = "argan.json"
"""Where a format is an archive: the file inside it that holds the entries as a JSON object."""

CONVENTIONS = {
    "images": "float32, (batch, channel, height, width), display-encoded RGB in [0, 1]",
    "disparity": "larger is nearer; in [0, 1] with 1 = nearest unless it is called signed",
    "signed disparity": "D = d - f relative to the focal plane: 0 in focus, positive in front, negative behind",
    "blur": "percent of the photo's long side, the diameter of the disc at |d - f| = 1",
}


def metadata(target: Target) -> dict[str, str]:
    """Flat text entries, all under "argan.": conventions, tensors, provenance, licence, version and checksum."""
    card = target.model_config.card
    entries = {
        "version": __version__,
        "target": target.name,
        "model": target.model_config.name,
        "training_data": card.get("data", "not recorded"),
        "licence": card.get("licence", "not recorded"),
        "weights_sha256": weights_checksum(target),
        "conventions": json.dumps(CONVENTIONS),
        "tensors": json.dumps({name: target.meaning[name] for name in (*target.inputs, *target.outputs)}),
        **target.facts(),
    }
    return {f"argan.{name}": value for name, value in entries.items()}


def weights_checksum(target: Target) -> str:
    """SHA-256 over the weights' names and values: equal exactly when the exported networks are."""
    digest = hashlib.sha256()
    for name, value in sorted(target.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_metadata(path: Path) -> dict[str, str]:
    """What an exported file says of itself, and its `format`: "onnx", "torchscript" or "pt2".

    Raises:
        ArganError: it is not a file that argan exported, or it is damaged.
    """
    formats = {".onnx": "onnx", ".pt": "torchscript", ".pt2": "pt2"}
    format = formats.get(path.suffix)
    if format is None:
        raise ArganError(f"{path}: exported files end in {', '.join(formats)}")
    if not path.is_file():
        raise ArganError(f"{path}: no such file", hint="argan export writes them")
    try:
        if format == "onnx":
            model = onnx.load(path, load_external_data=False)
            entries = {prop.key: prop.value for prop in model.metadata_props}
        else:
            with zipfile.ZipFile(path) as archive:
                (name,) = [name for name in archive.namelist() if name.endswith(METADATA_FILE)]
                entries = json.loads(archive.read(name))
    except Exception as error:  # onnx, protobuf, zipfile and json have no common class of errors
        raise ArganError(f"{path} is damaged, or was not exported by argan: {error}") from error
    if "argan.target" not in entries:
        raise ArganError(f"{path} was not exported by argan: it does not say what it is")
    return {"format": format, **entries}


def describe(path: Path) -> dict[str, str | int | dict[str, str]]:
    """`read_metadata`, its parts unpacked, with the file's own size and checksum. Raises as that does."""
    entries = read_metadata(path)
    facts: dict[str, str | int | dict[str, str]] = {"file": str(path), "format": entries.pop("format")}
    for name, value in entries.items():
        facts[name.removeprefix("argan.")] = json.loads(value) if value.startswith("{") else value
    data = path.read_bytes()
    return {**facts, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
