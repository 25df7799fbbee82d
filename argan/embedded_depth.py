"""Depth that phones store inside their photos: HEIC auxiliary images, and Google's depth in JPEG, old and new.

What is read, and where it is described:

- HEIC/HEIF: an auxiliary image of type depth beside the photo (ISO/IEC 23008-12), as iPhones' portraits have it.
- GDepth: a picture in base64 in the photo's XMP, often in extended XMP, which runs through many JPEG segments
  (Google, "Depthmap Metadata"; Adobe, "XMP Specification Part 3", 1.1.3.1).
- Dynamic Depth: a directory in the XMP of pictures that follow the photo in its file (Google, "Dynamic Depth" 1.0).

Google's pictures store, between `Near` and `Far`, a share of the distance (RangeLinear) or of the inverse distance
(RangeInverse), black nearest. Both become disparity, 1 = nearest, and where the unit is the metre, dioptres too.
"""

import base64
import binascii
import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image, UnidentifiedImageError

from argan.depth_maps import DepthMap, from_distance
from argan.errors import ArganError
from argan.exif import XMP_HEADER, upright
from argan.images import reading

DEPTH = "{http://ns.google.com/photos/1.0/depthmap/}"
ITEM = "{http://ns.google.com/photos/1.0/container/item/}"
DYNAMIC = "{http://ns.google.com/photos/dd/1.0/depthmap/}"
UNIFORM_INVERSE_DISTANCE, UNIFORM_DISTANCE = 0, 2  # depth_representation_type of ITU-T H.265, F.14.3.3
EXTENSION_HEADER = b"http://ns.adobe.com/xmp/extension/\0"  # as XMP_HEADER, of extended XMP


def read_embedded_depth(path: Path) -> DepthMap:
    """The depth inside a photo file, upright as `read_photo` turns the photo. ArganError when there is none."""
    with reading(path) as image:
        found = _from_heif(image) if image.format == "HEIF" else _from_jpeg(path.read_bytes(), image)
    if found is None:
        raise ArganError(f"{path}: no depth inside", hint="phones store it in portrait mode; else --depth FILE")
    return found._replace(note=f"{path}: {found.note}")


def _from_heif(image: Image.Image) -> DepthMap | None:
    """libheif turns the auxiliary image upright as it does the photo. It holds disparity: larger is nearer."""
    pictures = image.info.get("depth_images", [])
    if not pictures:
        return None
    stored = pictures[0].to_pillow()
    values = np.asarray(stored if stored.mode.startswith("I;16") else stored.convert("L"))
    metadata: dict[str, Any] = pictures[0].info.get("metadata") or {}
    kind, near, far = metadata.get("representation_type"), metadata.get("z_near") or 0.0, metadata.get("z_far") or 0.0
    if kind == UNIFORM_DISTANCE:
        raise ArganError("its auxiliary depth is of a kind that argan does not read (uniform distance)")
    disparity = values / np.float32(np.iinfo(values.dtype).max)
    note = f"auxiliary depth {values.shape[1]} x {values.shape[0]}"
    metric = kind == UNIFORM_INVERSE_DISTANCE and 0 < near < far
    return DepthMap(disparity, note, (1 / far, 1 / near) if metric else None)


def _from_jpeg(data: bytes, image: Image.Image) -> DepthMap | None:
    if not data.startswith(b"\xff\xd8"):
        return None
    attributes, items = _xmp(data)
    if DEPTH + "Data" in attributes:
        try:
            picture = base64.b64decode(attributes[DEPTH + "Data"], validate=False)
        except binascii.Error:
            raise ArganError("its embedded depth is damaged") from None
        return _from_picture(picture, attributes, DEPTH, image, "GDepth")
    item = _container_item(data, items)
    return _from_picture(item, attributes, DYNAMIC, image, "Dynamic Depth") if item else None


def _from_picture(picture: bytes, attributes: dict[str, str], name: str, photo: Image.Image, standard: str) -> DepthMap:
    try:
        with Image.open(BytesIO(picture)) as stored:
            grey = stored if stored.mode.startswith("I;16") else stored.convert("L")
            values = upright(np.asarray(grey), photo)
        kind = attributes.get(name + "Format", "RangeInverse")
        near, far = float(attributes[name + "Near"]), float(attributes[name + "Far"])
    except UnidentifiedImageError:
        raise ArganError("its embedded depth is damaged (it is no picture)") from None
    except (OSError, SyntaxError, ValueError, KeyError) as error:
        raise ArganError(f"its embedded depth is damaged ({error})") from None
    if not 0 < near < far:
        raise ArganError(f"its embedded depth goes from {near} to {far}")
    share = values / np.float32(np.iinfo(values.dtype).max)
    note = f"{standard} {values.shape[1]} x {values.shape[0]}, {kind}"
    if kind == "RangeInverse":  # 1 / z runs evenly from near to far
        found = DepthMap(1 - share, note, (1 / far, 1 / near))
    else:
        found = from_distance(near + share * (far - near), 1.0)._replace(note=note)
    metric = attributes.get(name + "Units", "").lower() in ("m", "meters", "metres")
    return found if metric else found._replace(dioptres=None)


def _xmp(data: bytes) -> tuple[dict[str, str], list[dict[str, str]]]:
    """All attributes and simple elements of a JPEG's XMP and extended XMP, and those of each directory item."""
    packets: list[bytes] = []
    extension: dict[bytes, dict[int, bytes]] = {}
    for segment in _app1(data):
        if segment.startswith(XMP_HEADER):
            packets.append(segment[len(XMP_HEADER) :])
        elif segment.startswith(EXTENSION_HEADER):
            body = segment[len(EXTENSION_HEADER) :]
            guid, (_full, offset) = body[:32], struct.unpack_from(">II", body, 32)
            extension.setdefault(guid, {})[offset] = body[40:]
    packets += [b"".join(part for _, part in sorted(parts.items())) for parts in extension.values()]
    attributes: dict[str, str] = {}
    items: list[dict[str, str]] = []
    for packet in packets:
        try:
            root = ElementTree.fromstring(packet.strip(b"\0 \r\n\t"))
        except ElementTree.ParseError:
            continue
        for element in root.iter():
            own = dict(element.attrib)
            own |= {child.tag: child.text for child in element if child.text and child.text.strip()}
            if any(key.startswith(ITEM) for key in own):
                items.append(own)
            attributes |= own
    return attributes, items


def _app1(data: bytes) -> Iterator[bytes]:
    """Bodies of the APP1 segments before a JPEG's pixels."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        marker, (length,) = data[at + 1], struct.unpack_from(">H", data, at + 2)
        if marker == 0xE1:
            yield data[at + 4 : at + 2 + length]
        at += 2 + length


def _container_item(data: bytes, items: list[dict[str, str]]) -> bytes | None:
    """The directory item whose semantic is depth. The photo is the first; the others follow up to the file's end."""
    semantics = [item.get(ITEM + "Semantic", "").lower() for item in items]
    if "depth" not in semantics[1:]:
        return None
    index = semantics.index("depth", 1)
    try:
        lengths = [int(item.get(ITEM + "Length", "0")) + int(item.get(ITEM + "Padding", "0")) for item in items]
        start, length = len(data) - sum(lengths[index:]), int(items[index][ITEM + "Length"])
    except (ValueError, KeyError):
        start = length = 0
    if start <= 0 or length <= 0 or start + length > len(data):
        raise ArganError("its embedded depth is damaged (no such part of the file)")
    return data[start : start + length]
