"""Photographs: read upright with what belongs to them, written again in the format and quality they had.

Kept: the ICC profile, EXIF and XMP (with the orientation set to upright, since the pixels are), resolution, PNG text,
JPEG quantisation tables and chroma subsampling, lossless WebP, alpha, grey, 8 or 16 bits. Changed: palettes and 1-bit
pictures become RGB(A) or grey, since blur makes new colours; CMYK becomes sRGB, by its profile or a guess. Dropped: the
thumbnail inside EXIF (it shows the picture before; MakerNotes stay), and EXIF or XMP that a JPEG's one segment cannot
hold. Refused, in one line: Lab, 32-bit, TIFF's grey of 16 bits with alpha, a PPM's 16-bit colours, animations.
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from io import SEEK_CUR, BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageCms, JpegImagePlugin, PngImagePlugin, UnidentifiedImageError

from argan.deep_colour import (
    has_16_bit_colour,
    is_negative,
    png_16_bit_colour,
    raw_mode_of,
    read_16_bit_colour,
    tiff_16_bit_colour,
)
from argan.errors import ArganError, MissingReaderError, UsageError, lower_first
from argan.exif import (
    EXIF_DIRECTORIES,
    EXIF_HEADER,
    XMP_HEADER,
    exif_of,
    is_turned,
    tiff_tags,
    upright,
    upright_exif,
    upright_xmp,
)
from argan.files import atomic_file

WRITES = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".avif": "AVIF",
}
HEIF = {".heic", ".heif", ".hif"}
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
READS = {*WRITES, *HEIF, ".bmp", ".jp2", ".ppm", ".pgm", ".gif"}  # what folders and archives are searched for
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # by number of channels
PNG_TEXT = {"Title", "Author", "Description", "Copyright", "Creation Time", "Software", "Source", "Comment"}
SIDES = {"JPEG": 65_500, "WEBP": 16_383, "AVIF": 32_768}  # px at most: what libjpeg, WebP and readers of AVIF take
SRGB_GAMMA = 1 / 2.2  # what a PNG that is sRGB says of itself
SEGMENT = 65_533  # bytes that fit into one segment of a JPEG
SEGMENTS = {"exif": SEGMENT, "xmp": SEGMENT - len(XMP_HEADER)}


@dataclass
class Photo:
    """An upright photograph as it is stored: `pixels` (H, W, C), C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA."""

    pixels: np.ndarray  # uint8, uint16, or float in [0, 1]
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: dict[str, str] = field(default_factory=dict)  # of a PNG
    jpeg: dict[str, Any] = field(default_factory=dict)  # Pillow's options that reproduce a JPEG's quality
    lossless: bool = False  # of a WebP

    @property
    def has_alpha(self) -> bool:
        return self.pixels.shape[2] in (2, 4)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def is_opaque(self) -> bool:
        """Whether it has no alpha, or one that says nothing."""
        full = 65535 if self.pixels.dtype == np.uint16 else 255
        return not self.has_alpha or bool((self.pixels[..., -1] == full).all())

    def with_pixels(self, pixels: np.ndarray) -> "Photo":
        return replace(self, pixels=pixels)


def read_photo(path: Path) -> Photo:
    """Read a photograph. ArganError, one line, for whatever is wrong with the file."""
    with reading(path) as image:
        deep = has_16_bit_colour(image)
        photo = from_pil(image)
        if deep:
            photo.pixels = upright(_with_transparency(read_16_bit_colour(path), image), image)
        guess = _guess(image)
    if guess:
        warnings.warn(f"{path}: {guess}: colours may be off", stacklevel=2)
    return photo


def from_pil(image: Image.Image) -> Photo:
    """A Pillow image, turned upright by its EXIF orientation."""
    # These hold several pictures: the photo, and others behind it.
    if getattr(image, "is_animated", False) and image.format not in ("MPO", "TIFF", "HEIF"):
        raise ArganError("an animation is not a photograph", hint="save one of its frames as a picture")
    _scale_transparency(image)
    photo = _describe(image)
    if image.mode == "CMYK":
        plain, photo.icc = _cmyk_to_srgb(image), None
    else:
        plain = _plain(image)
    pixels = np.array(plain)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2:
        pixels = pixels.astype(np.uint16)  # in this machine's byte order
        pixels = _with_transparency(65535 - pixels if is_negative(image) else pixels, image)
    photo.pixels = upright(pixels, image)
    return photo


def to_pil(photo: Photo) -> Image.Image:
    """A Pillow image that carries the photo's profile and metadata in `info`."""
    channels, pixels = photo.pixels.shape[2], np.ascontiguousarray(photo.pixels)
    if pixels.dtype == np.uint16 and channels > 1:
        raise ArganError("Pillow has no 16-bit colour images", hint="work with numpy arrays instead")
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    assert image.mode == ("I;16" if pixels.dtype == np.uint16 else MODES[channels])
    info = {"icc_profile": photo.icc, "exif": photo.exif, "xmp": photo.xmp, "dpi": photo.dpi}
    image.info.update({name: value for name, value in info.items() if value is not None})
    return image


def write_photo(path: Path, photo: Photo) -> None:
    """Write a photograph in the format of `path`'s suffix, whole or not at all.

    Raises UsageError for a suffix that is none of WRITES, ArganError for what the format cannot hold, or the disk.
    """
    check_suffix(path)
    data = encode(photo, path.suffix)
    with writing(path) as temporary:
        temporary.write_bytes(data)


def output_suffix(path: Path) -> str:
    """The suffix for a photo made from the one at `path`: its own where that can be written, else PNG's."""
    return path.suffix if path.suffix.lower() in WRITES else ".png"


def check_suffix(path: Path) -> None:
    """UsageError for a path that photos cannot be written to."""
    if path.suffix.lower() not in WRITES:
        wanted = f"as {path.suffix}" if path.suffix else "without a suffix"
        raise UsageError(f"{path}: photos cannot be written {wanted}", hint=f"it may end in {', '.join(WRITES)}")


def check_holds(photo: Photo, suffix: str) -> None:
    """ArganError for a photo that the format of this suffix, one of WRITES, cannot hold."""
    kind = WRITES[suffix.lower()]
    if kind == "JPEG" and not photo.is_opaque:
        raise ArganError("JPEG holds no transparency", hint="give an output that ends in .png, .tif or .webp")
    if kind in SIDES and max(photo.size) > SIDES[kind]:
        raise ArganError(f"{suffix} holds {SIDES[kind]} pixels each way", hint="give an output that ends in .png")


def encode(photo: Photo, suffix: str) -> bytes:
    """The bytes of an image file. Formats with 8 bits only (JPEG, WebP, AVIF) get 16-bit pixels rounded."""
    check_holds(photo, suffix)
    kind = WRITES[suffix.lower()]
    if kind == "JPEG" and photo.has_alpha:
        photo = photo.with_pixels(photo.pixels[..., :-1])
    if photo.pixels.dtype == np.uint16 and kind in ("JPEG", "WEBP", "AVIF"):
        photo = photo.with_pixels(((photo.pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
    if photo.pixels.dtype == np.uint16 and photo.pixels.shape[2] > 1:
        if kind == "TIFF":
            tags = tiff_tags(photo.exif, photo.xmp) or Image.Exif()
            directories = {int(pointer): tags.get_ifd(pointer) for pointer in EXIF_DIRECTORIES if pointer in tags}
            return tiff_16_bit_colour(photo.pixels, dict(tags) | directories, photo.icc, photo.dpi)
        return png_16_bit_colour(photo.pixels, _png_chunks(photo))
    if kind == "WEBP" or (kind == "AVIF" and photo.has_alpha):  # where grey becomes RGB
        photo = replace(photo, icc=rgb_profile(photo.icc))
    image, buffer = to_pil(photo), BytesIO()
    image.save(buffer, format=kind, **_save_options(photo, kind))
    return buffer.getvalue()


def rgb_profile(icc: bytes | None) -> bytes | None:
    """A profile for pixels that are RGB: none that says how grey looks (ICC.1, 7.2.6: data colour space)."""
    return None if icc is None or icc[16:20] == b"GRAY" else icc


def _save_options(photo: Photo, kind: str) -> dict[str, Any]:
    options: dict[str, Any] = {"icc_profile": photo.icc, "exif": photo.exif, "dpi": photo.dpi}
    if kind == "JPEG":
        options |= photo.jpeg or {"quality": 95, "subsampling": 0}
        options |= {name: _fitting(name, getattr(photo, name)) for name in SEGMENTS}
    elif kind in ("WEBP", "AVIF"):
        options |= {"quality": 95, "xmp": photo.xmp}
        options |= {"lossless": True, "exact": True} if kind == "WEBP" and photo.lossless else {}
    elif kind == "PNG":
        options["pnginfo"] = _png_info(photo)
    else:
        # Not compressed: Pillow hands compressed files to libtiff, which takes no EXIF directory.
        options |= {"compression": "raw", "exif": tiff_tags(photo.exif, photo.xmp)}
    return {name: value for name, value in options.items() if value is not None}


def _fitting(name: str, data: bytes | None) -> bytes | None:
    """What a JPEG's segment of that name can hold; else nothing, which is said."""
    if data is None or len(data) <= SEGMENTS[name]:
        return data or None
    warnings.warn(f"{len(data)} bytes of {name.upper()} do not fit into a JPEG and are left out", stacklevel=2)
    return None


@contextmanager
def reading(path: Path) -> Iterator[Image.Image]:
    """An opened image file; what goes wrong while it is read becomes an ArganError of one line that names it.

    A file that is not there is a UsageError, as it is for every option that names one.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns from 89 megapixels on and refuses from 179 on: only the refusal counts here. What is ignored
            # is Pillow's alone, because threads share it: another may be saying what it leaves out of a photo.
            warnings.filterwarnings("ignore", module=r"PIL\.|pillow_heif")
            # By a name, Pillow would map some TIFFs into memory, and those that are turned wrongly.
            with path.open("rb") as file, open_picture(file, path.suffix.lower() in HEIF) as image:
                yield image
    except ArganError as error:
        raise type(error)(f"{path}: {error}", error.hint) from error
    except Image.DecompressionBombError as error:
        raise ArganError(f"{path}: too large a picture ({2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels at most)") from error
    except UnidentifiedImageError as error:
        empty = path.stat().st_size == 0
        raise ArganError(f"{path}: {'an empty file' if empty else 'not an image that argan can read'}") from error
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file or directory") from error
    except OSError as error:
        raise ArganError(f"{path}: {lower_first(error.strerror or f'damaged or cut short ({error})')}") from error
    except (SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, struct.error) as error:
        raise ArganError(f"{path}: damaged or cut short ({lower_first(str(error))})") from error


def open_picture(file: IO[bytes], named_heif: bool = False) -> Image.Image:
    """As Pillow finds it; what it does not know may be HEIC, also under a JPEG's name, which it is taught then.

    Raises MissingReaderError for HEIC without pillow-heif, and whatever Pillow raises on what is no picture.
    """
    try:
        return Image.open(file)
    except UnidentifiedImageError:
        file.seek(0)
        start = file.read(12)  # a box: its size, its type, and here the brand that a file is of (ISO/IEC 23008-12)
        if not named_heif and not (start[4:8] == b"ftyp" and start[8:] in HEIF_BRANDS):
            raise
        if not register_heif():
            raise MissingReaderError("HEIC photos need pillow-heif", hint='pip install "argan[heic]"') from None
        return Image.open(file)


def register_heif() -> bool:
    """Teach Pillow HEIC, what phones save; False: pillow-heif is not installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary file that becomes `path` when the block ends well; a one-line ArganError when the disk refuses."""
    try:
        with atomic_file(path) as temporary:
            yield temporary
    except OSError as error:
        folder_missing = isinstance(error, FileNotFoundError) and not path.parent.exists()
        reason = "its folder does not exist" if folder_missing else error.strerror or str(error)
        raise ArganError(f"{path}: cannot be written: {lower_first(reason)}") from error


def _describe(image: Image.Image) -> Photo:
    """Everything that belongs to an image but its pixels, as it holds once they are upright."""
    if image.format == "PNG":
        image.load()  # its metadata may stand behind the pixels; a TIFF's must be read before them
    info = image.info
    exif, xmp = exif_of(image), info.get("xmp")
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    text = {key: str(value) for key, value in getattr(image, "text", {}).items() if key in PNG_TEXT}
    return Photo(
        pixels=np.empty((0, 0, 0), np.uint8),
        icc=info.get("icc_profile") or None,
        exif=upright_exif(exif, is_turned(image)) if exif else None,
        xmp=upright_xmp(xmp) if xmp else None,
        dpi=_dpi(info.get("dpi")),
        text=text,
        jpeg=_jpeg_options(image),
        lossless=_is_lossless_webp(image),
    )


def _jpeg_options(image: Image.Image) -> dict[str, Any]:
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.mode == "CMYK":
        return {}
    # By the channels that use them: a file may number its tables as it likes, from 0 to 3.
    numbers = dict.fromkeys(channel[3] for channel in image.layer)
    tables = [list(image.quantization[number]) for number in numbers if number in image.quantization]
    if not tables:
        return {}
    sampling = JpegImagePlugin.get_sampling(image)
    options = {
        "qtables": tables,
        "subsampling": sampling if sampling in (0, 1, 2) else 0,  # unknown to Pillow: keep all colour
        "progressive": bool(image.info.get("progressive")),
        "comment": image.info.get("comment"),
    }
    return {name: value for name, value in options.items() if value is not None}


def _is_lossless_webp(image: Image.Image) -> bool:
    """Whether the pixels are in a chunk VP8L, not VP8 (WebP Container Specification)."""
    file = getattr(image, "fp", None)
    if image.format != "WEBP" or file is None:
        return False
    place, kind = file.tell(), b""
    file.seek(len(b"RIFF....WEBP"))
    while kind not in (b"VP8 ", b"VP8L") and len(head := file.read(8)) == 8:
        kind, size = struct.unpack("<4sI", head)
        file.seek(size + size % 2, SEEK_CUR)
    file.seek(place)
    return kind == b"VP8L"


def _dpi(dpi: Any) -> tuple[float, float] | None:
    try:
        x, y = (float(value) for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 1 < x < 1e5 and 1 < y < 1e5 else None  # 1: Pillow's, for a TIFF that does not say


def _guess(image: Image.Image) -> str:
    """Why it is a guess which colours are meant; "" where it is none."""
    info = image.info
    if image.mode == "CMYK" and _ink_transform(info.get("icc_profile")) is None:
        return "CMYK without a good colour profile"
    gamma = info.get("gamma") or SRGB_GAMMA
    if not {"icc_profile", "srgb"} & info.keys() and abs(gamma / SRGB_GAMMA - 1) > 0.05:  # libpng's threshold, too
        return f"a PNG of gamma {1 / gamma:.2g} without a colour profile, taken for sRGB"
    return ""


def _plain(image: Image.Image) -> Image.Image:
    """The image in one of the modes L, LA, RGB, RGBA, I;16."""
    if image.mode == "I" and image.format == "PPM":
        return image.convert("I;16")  # which is all that such a file holds
    if image.mode in ("F", "I", "LAB", "HSV"):
        raise ArganError(f"{image.mode} pixels are not supported", hint="save it as RGB or grey, with 8 or 16 bits")
    if image.mode.startswith("I;16"):
        return image
    transparent = image.has_transparency_data
    grey = image.mode in ("1", "L", "LA", "La")
    return image.convert(("LA" if transparent else "L") if grey else ("RGBA" if transparent else "RGB"))


def _scale_transparency(image: Image.Image) -> None:
    """The grey that a PNG of 2 or 4 bits calls transparent becomes that of 8 bits, as Pillow makes its pixels alone."""
    steps = {"L;2": 3, "L;4": 15}.get(raw_mode_of(image))
    transparent = image.info.get("transparency")
    if image.format == "PNG" and steps is not None and isinstance(transparent, int):
        image.info["transparency"] = transparent * 255 // steps


def _with_transparency(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    """16-bit pixels (H, W, C) with an alpha for the one colour that a PNG calls transparent, if it does."""
    if (transparent := image.info.get("transparency")) is None:
        return pixels
    alpha = np.where((pixels == transparent).all(-1, keepdims=True), 0, 65535).astype(np.uint16)
    return np.concatenate([pixels, alpha], axis=2)


def _cmyk_to_srgb(image: Image.Image) -> Image.Image:
    """Through its profile; inks are taken to be ideal where it has no good one."""
    transform = _ink_transform(image.info.get("icc_profile"))
    converted = image.convert("RGB") if transform is None else ImageCms.applyTransform(image, transform)
    assert converted is not None
    return converted


@lru_cache(1)  # a photo's pixels and its warning both ask for it
def _ink_transform(icc: bytes | None) -> ImageCms.ImageCmsTransform | None:
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc or b""))
        return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "CMYK", "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None


def _png_info(photo: Photo) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for key, value in photo.text.items():
        info.add_itxt(key, value)
    if photo.xmp:
        info.add_itxt("XML:com.adobe.xmp", photo.xmp.decode("utf-8", "replace"))
    return info


def _png_chunks(photo: Photo) -> list[tuple[bytes, bytes]]:
    """Profile, resolution, text, XMP and EXIF as PNG chunks, as Pillow would write them."""
    chunks: list[tuple[bytes, bytes]] = []
    if photo.icc:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(photo.icc)))
    if photo.dpi:
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in photo.dpi), 1)))
    chunks += [(kind, data) for kind, data, *_ in _png_info(photo).chunks]
    if photo.exif:
        chunks.append((b"eXIf", photo.exif.removeprefix(EXIF_HEADER)))
    return chunks
