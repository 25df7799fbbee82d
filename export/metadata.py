"""What an exported file says of itself: enough to use it right and to know its origin, without this package."""

import hashlib
import json

from argan import __version__
from argan.export.targets import SMALLEST, Size, Target

METADATA_FILE = "argan.json"
"""Where a format is an archive: the file inside it that holds the entries as a JSON object."""

CONVENTIONS = {
    "images": "float32, (batch, channel, height, width), display-encoded RGB in [0, 1]",
    "disparity": "larger is nearer; in [0, 1] with 1 = nearest unless it is called signed",
    "signed disparity": "D = d - f relative to the focal plane: 0 in focus, positive in front, negative behind",
    "blur": "percent of the photo's long side, the diameter of the disc at |d - f| = 1, f the nearest d in focus",
}


def metadata(target: Target) -> dict[str, str]:
    """Flat text entries, all under "argan.": conventions, tensors, provenance, licence, version and checksum."""
    card = target.model_config.card
    entries = {
        "version": __version__,
        "target": target.name,
        "model": target.model_config.name,
        "precision": target.precision,
        "size": size_text(target.size),
        "training_data": card.get("data", "not recorded"),
        "licence": card.get("licence", "not recorded"),
        "weights_sha256": weights_checksum(target),
        "conventions": json.dumps(CONVENTIONS),
        "tensors": json.dumps({name: target.meaning[name] for name in (*target.inputs, *target.outputs)}),
        **target.facts(),
    }
    return {f"argan.{name}": value for name, value in entries.items()}


def size_text(size: Size | None) -> str:
    """As people are told it and `--size` takes it; "any" where all is dynamic."""
    return "any" if size is None else "{}x{}".format(*size)


def read_size(text: str) -> Size | None:
    """The inverse of `size_text`; ValueError for what it does not write."""
    if text == "any":
        return None
    width, height = (int(part) for part in text.split("x"))
    if min(width, height) < SMALLEST:
        raise ValueError(text)
    return width, height


def weights_checksum(target: Target) -> str:
    """SHA-256 over the weights' names and float32 values: equal when the networks are, in any precision."""
    digest = hashlib.sha256()
    for name, value in sorted(target.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
