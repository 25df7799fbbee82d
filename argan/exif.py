"""What a photo says of itself besides its pixels, EXIF and XMP, made true of pixels that were turned upright."""

import re
import struct
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from PIL import ExifTags, Image

EXIF_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
EXIF_HEADER, XMP_HEADER = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"  # what begins their segments of a JPEG
INTEROPERABILITY = int(ExifTags.IFD.Interop)  # a directory inside the first of these
ORIENTATION = int(ExifTags.Base.Orientation)
SIDES = ((256, 257), (0xA002, 0xA003))  # tags of width and height
# What to do with the pixel array for each EXIF orientation.
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}
# Tags of a TIFF file that describe how its pixels are laid out, or that are written from elsewhere (XMP, ICC, IPTC).
LAYOUT_TAGS = {254, 255, *range(256, 267), 269, 273, 274, *range(277, 282), 284, 292, 293, 297, 301, 317, 318, 319}
LAYOUT_TAGS |= {*range(320, 326), 330, *range(332, 348), *range(512, 522), *range(529, 533), 700, 33723, 34377, 34675}


def upright(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    """Pixels (H, W, ...) turned as an image's EXIF orientation says."""
    turn = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    return np.ascontiguousarray(turn(pixels)) if turn else pixels


def is_turned(image: Image.Image) -> bool:
    """Whether `upright` makes rows of an image's columns."""
    return image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)


def exif_of(image: Image.Image) -> bytes | None:
    """EXIF as in a JPEG, byte for byte where the file has it so; a TIFF's from those of its tags that describe."""
    exif = image.info.get("exif")
    if exif:
        return exif if exif.startswith(EXIF_HEADER) else EXIF_HEADER + exif
    found = image.getexif()
    kept = without_layout(found)
    return kept.tobytes() if len(kept) else None


def without_layout(exif: Image.Exif) -> Image.Exif:
    """EXIF without the tags of a file's layout."""
    kept = Image.Exif()
    kept.update({tag: value for tag, value in exif.items() if tag not in LAYOUT_TAGS and tag not in EXIF_DIRECTORIES})
    for pointer in EXIF_DIRECTORIES:
        if directory := exif.get_ifd(pointer):
            kept.get_ifd(pointer).update(directory)
            kept[int(pointer)] = 0  # its offset; Pillow writes a directory only where there is one
    inner = kept.get_ifd(ExifTags.IFD.Exif)
    if inner.pop(INTEROPERABILITY, None) and (directory := exif.get_ifd(INTEROPERABILITY)):
        inner[INTEROPERABILITY] = directory  # itself instead of its offset in what is left behind
    return kept


def upright_exif(exif: bytes, turned: bool) -> bytes | None:
    """The same bytes with orientation 1 and without the thumbnail, which shows the picture as it was.

    Written in place, so that nothing moves: MakerNotes hold absolute offsets and do not survive a new layout. None for
    what is not EXIF, or damaged.

    `turned`: the pixels were turned by a quarter, so width and height change places.
    """
    data, start = bytearray(exif), len(EXIF_HEADER)
    try:
        order = {b"II*\0": "<", b"MM\0*": ">"}[exif[start : start + 4]]
        entries, end = _directory(data, order, start + struct.unpack_from(order + "I", data, start + 4)[0])
        for tag, entry in entries:
            if tag == ORIENTATION:
                struct.pack_into(order + "HIHH", data, entry + 2, 3, 1, 1, 0)  # one SHORT: 1
        struct.pack_into(order + "I", data, end, 0)  # no second directory: that is the thumbnail's
    except (KeyError, struct.error):
        return None
    if turned:
        _exchange_sides(data, entries)
        for tag, entry in entries:
            if tag == ExifTags.IFD.Exif:
                with suppress(struct.error):  # damaged: as it was
                    inner = start + struct.unpack_from(order + "I", data, entry + 8)[0]
                    _exchange_sides(data, _directory(data, order, inner)[0])
    return bytes(data)


def _directory(data: bytearray, order: str, offset: int) -> tuple[list[tuple[int, int]], int]:
    """The entries of a TIFF directory at `offset` as (tag, offset), and the offset of its end; all in bytes of `data`.

    Raises struct.error where it is cut off.
    """
    (count,) = struct.unpack_from(order + "H", data, offset)
    end = offset + 2 + 12 * count
    if end > len(data):
        raise struct.error("a directory that is cut off")
    return [(struct.unpack_from(order + "H", data, at)[0], at) for at in range(offset + 2, end, 12)], end


def _exchange_sides(data: bytearray, entries: list[tuple[int, int]]) -> None:
    """Give each entry of a width the type, count and value of its height's, and the other way round."""
    found = dict(entries)
    for width, height in SIDES:
        if width in found and height in found:
            wide, high = (slice(found[tag] + 2, found[tag] + 12) for tag in (width, height))
            data[wide], data[high] = data[high], data[wide]


def upright_xmp(xmp: bytes) -> bytes:
    """XMP of pixels that are upright, without what it says of a depth map, a video or a gain map kept beside them."""
    written = rb"""(tiff:Orientation(?:\s*=\s*["']|(?:\s[^>]*)?>)\s*)\d"""  # an attribute, or an element
    xmp = re.sub(written, rb"\g<1>1", xmp)
    beside = rb"(?:GDepth|GImage|DepthMap|hdrgm|xmpNote|GCamera):\w+"
    xmp = re.sub(rb"\s" + beside + rb"""=("[^"]*"|'[^']*')""", b"", xmp)
    return re.sub(rb"<(Container:Directory|" + beside + rb")\b(?:[^>]*/>|.*?</\1>)", b"", xmp, flags=re.DOTALL)


def tiff_tags(exif: bytes | None, xmp: bytes | None) -> Image.Exif | None:
    """Both as tags of a TIFF file; None: there is nothing to say."""
    tags = Image.Exif()
    if exif:
        tags.load(exif)
        tags = without_layout(tags)
    if xmp:
        tags[700] = xmp
    return tags if len(tags) else None
