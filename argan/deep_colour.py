"""16-bit colour, which Pillow reads and writes with 8 bits only: read by decoding each half, written as PNG or TIFF."""

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, TiffTags
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COMPRESSION,
    EXTRASAMPLES,
    ICCPROFILE,
    IMAGELENGTH,
    IMAGEWIDTH,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    RESOLUTION_UNIT,
    ROWSPERSTRIP,
    SAMPLEFORMAT,
    SAMPLESPERPIXEL,
    STRIPBYTECOUNTS,
    STRIPOFFSETS,
    X_RESOLUTION,
    Y_RESOLUTION,
    ImageFileDirectory_v2,
)

from argan.errors import ArganError

OTHER_HALF = {"B": "L", "L": "B", "N": "B" if np.little_endian else "L"}  # big, little and this machine's byte order


def has_16_bit_colour(image: Image.Image) -> bool:
    """Whether an opened, not yet loaded image has 16-bit samples that Pillow would cut to 8 bits."""
    sixteen = any(";16" in _raw_mode(tile) for tile in _tiles(image)) or _is_beyond_pillow(image)
    return sixteen and not image.mode.startswith("I")


def raw_mode_of(image: Image.Image) -> str:
    """Pillow's name for how an opened, not yet loaded image stores its samples; "" where it has none."""
    tiles = _tiles(image)
    return _raw_mode(tiles[0]) if tiles else ""


def _is_beyond_pillow(image: Image.Image) -> bool:
    """Whether not even the halves of its 16-bit colours can be had: in a PPM, and in a TIFF that stores them one after
    the other, whose bytes Pillow takes for 8-bit samples."""
    if image.format == "PPM":
        return any(isinstance(tile[3], tuple) and tile[3][-1] > 255 for tile in _tiles(image))
    tags = getattr(image, "tag_v2", {})
    return tags.get(PLANAR_CONFIGURATION) == 2 and max(tags.get(BITSPERSAMPLE, (8,))) > 8


def read_16_bit_colour(path: Path) -> np.ndarray:
    """(H, W, C) uint16 from a PNG or TIFF file; C: 2 grey and alpha (PNG alone), 3 RGB, 4 RGBA.

    Pillow keeps the more significant byte of every sample, by the byte order that it finds in the file. Told the
    opposite order, it keeps the less significant one: so the file is decoded twice. Grey with alpha
    has no opposite order, but as many bytes as RGBA of 8 bits, as which it is decoded untouched. Colours that are
    stored times alpha are decoded as they are, too: Pillow would divide either half by the half of an alpha.
    """
    with Image.open(path) as high, Image.open(path) as low:
        raw_mode = _raw_mode(_tiles(high)[0])
        if high.mode == "RGBA" and raw_mode == "LA;16B":
            high.tile = [_with_raw_mode(tile, "RGBA") for tile in _tiles(high)]
            return np.asarray(high).view(">u2").astype(np.uint16)
        if high.mode not in ("RGB", "RGBA") or _is_beyond_pillow(high):
            raise ArganError("16-bit samples in this layout are not supported", hint="save it as a PNG of 16 bits")
        stored = raw_mode.replace("RGBa", "RGBA")
        high.tile = [_with_raw_mode(tile, stored) for tile in _tiles(high)]
        other = stored[:-1] + OTHER_HALF[stored[-1]]
        low.tile = [_with_raw_mode(tile, other) for tile in _tiles(low)]
        pixels = (np.asarray(high).astype(np.uint16) << 8) | np.asarray(low)
        return pixels if stored == raw_mode else _divided_by_alpha(pixels)


def _divided_by_alpha(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint16 whose colours are stored times alpha -> those colours; black where there is none."""
    alpha = np.maximum(pixels[..., 3:].astype(np.uint32), 1)
    colours = (pixels[..., :3] * np.uint32(65535) + alpha // 2) // alpha
    return np.concatenate([np.minimum(colours, 65535).astype(np.uint16), pixels[..., 3:]], axis=2)


def is_negative(image: Image.Image) -> bool:
    """Whether it is a TIFF of 16-bit grey that stores white as 0: Pillow turns those of 8 bits round, not these."""
    return image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(PHOTOMETRIC_INTERPRETATION) == 0


def png_16_bit_colour(pixels: np.ndarray, chunks: list[tuple[bytes, bytes]]) -> bytes:
    """(H, W, C) uint16 -> the bytes of a PNG, with `chunks` (type, data) before the image data.

    C: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
    """
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    up = 2  # the PNG filter that stores a row as its difference to the one above, modulo 256
    filtered = np.full((height, rows.shape[1] + 1), up, np.uint8)
    filtered[0, 1:] = rows[0]
    filtered[1:, 1:] = rows[1:] - rows[:-1]
    data = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(filtered.data, 4)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in data)


def tiff_16_bit_colour(
    pixels: np.ndarray, tags: dict[int, Any], icc: bytes | None, dpi: tuple[float, float] | None
) -> bytes:
    """(H, W, C) uint16 -> the bytes of an uncompressed TIFF (TIFF 6.0; one strip) that carries `tags`.

    C: 2 grey and alpha, 3 RGB, 4 RGBA; alpha is not premultiplied.
    """
    height, width, channels = pixels.shape
    alpha = channels in (2, 4)
    directory = ImageFileDirectory_v2()
    for tag, value in tags.items():
        directory[tag] = value
    directory[IMAGEWIDTH], directory[IMAGELENGTH] = width, height
    directory[BITSPERSAMPLE], directory[SAMPLEFORMAT] = (16,) * channels, (1,) * channels
    directory[COMPRESSION], directory[PHOTOMETRIC_INTERPRETATION] = 1, 2 if channels > 2 else 1
    directory[SAMPLESPERPIXEL], directory[PLANAR_CONFIGURATION], directory[ROWSPERSTRIP] = channels, 1, height
    data = pixels.astype("<u2").tobytes()
    directory[STRIPOFFSETS], directory[STRIPBYTECOUNTS] = 0, len(data)  # 0: right behind the directory
    if alpha:
        directory[EXTRASAMPLES] = 2
    if icc:
        directory.tagtype[ICCPROFILE] = TiffTags.UNDEFINED
        directory[ICCPROFILE] = icc
    if dpi:
        directory[X_RESOLUTION], directory[Y_RESOLUTION], directory[RESOLUTION_UNIT] = *dpi, 2
    buffer = BytesIO()
    buffer.seek(directory.save(buffer))
    buffer.write(data)
    return buffer.getvalue()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _tiles(image: Image.Image) -> list:
    return getattr(image, "tile", None) or []


def _raw_mode(tile: tuple) -> str:
    """The name of the sample layout in a Pillow tile (codec, box, offset, arguments)."""
    arguments = tile[3]
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _with_raw_mode(tile: Any, raw_mode: str) -> Any:
    arguments = (raw_mode, *tile[3][1:]) if isinstance(tile[3], tuple) else raw_mode
    return tile._replace(args=arguments)
