"""Photographs in and out: orientation, metadata, bit depth, quality; one line for every kind of broken file."""

import errno
import os
import shutil
import struct
import sys
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin, TiffImagePlugin

from argan import files, images
from argan.deep_colour import png_16_bit_colour
from argan.depth_maps import read_depth
from argan.errors import ArganError, MissingError, UsageError
from argan.exif import ORIENTATION, UPRIGHT, upright_exif, upright_xmp, without_layout
from argan.images import Photo, encode, from_pil, read_photo, to_pil, write_photo

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_ICC = ICC[:16] + b"GRAY" + ICC[20:]
XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description'
    b' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" tiff:Artist="Ada"/></rdf:RDF></x:xmpmeta>'
    b'<?xpacket end="w"?>'
)
UPRIGHT_XMP = XMP.replace(b'Orientation="6"', b'Orientation="1"')


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 28), seed: int = 0) -> Image.Image:
    """Smooth enough for JPEG, without symmetry, every channel different."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    planes = [
        127 + 60 * np.sin(x * (0.05 + 0.03 * c) + c) + 60 * np.cos(y * 0.09 + c) + rng.normal(0, 2, x.shape)
        for c in range(channels)
    ]
    pixels = np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8)
    return (
        Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels, mode=None)
        if mode != "CMYK"
        else (Image.merge("CMYK", [Image.fromarray(pixels[:, :, c]) for c in range(4)]))
    )


def deep(channels: int, size: tuple[int, int] = (23, 17)) -> np.ndarray:
    return np.random.default_rng(channels).integers(0, 65536, (size[1], size[0], channels), dtype=np.uint16)


def exif_with(orientation: int, thumbnail: bool = False) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Argan"
    exif[ExifTags.Base.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FNumber] = 2.8
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: "R98"}  # every camera writes one
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    data = exif.tobytes()
    if thumbnail:  # a second directory, pointed to by the first one, as cameras write it
        order = "<" if data[6:8] == b"II" else ">"
        (first,) = struct.unpack_from(order + "I", data, 10)
        (count,) = struct.unpack_from(order + "H", data, 6 + first)
        patched = bytearray(data)
        struct.pack_into(order + "I", patched, 6 + first + 2 + 12 * count, len(data) - 6)
        data = bytes(patched) + struct.pack(order + "HHHII", 1, 0x0103, 3, 1, 6) + bytes(4)
    return data


def assert_all_exif(image: Image.Image) -> None:
    """What `exif_with` says, in all of its directories."""
    exif = image.getexif()
    assert exif[ExifTags.Base.Make] == "Argan"
    assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FNumber] == pytest.approx(2.8)
    assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
    assert exif.get_ifd(ExifTags.IFD.Interop)[1] == "R98"


def reopened(photo: Photo, suffix: str) -> Image.Image:
    image = Image.open(BytesIO(encode(photo, suffix)))
    image.load()
    return image


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_orientation_is_applied_and_reset(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"photo{suffix}"
    options = {"exif": exif_with(orientation)}
    picture().save(path, **options, **({"lossless": True} if suffix == ".webp" else {}))
    with Image.open(path) as image:
        assert image.getexif()[ExifTags.Base.Orientation] == orientation
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    photo = read_photo(path)
    assert np.array_equal(photo.pixels, upright)
    written = reopened(photo, suffix)
    assert written.getexif().get(ExifTags.Base.Orientation, 1) == 1
    assert written.getexif()[ExifTags.Base.Make] == "Argan"
    assert written.size == (upright.shape[1], upright.shape[0])


def test_orientation_in_xmp_is_reset(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    picture().save(path, xmp=XMP)
    photo = read_photo(path)
    assert photo.size == (28, 40)  # Pillow, like other readers, heeds XMP when EXIF says nothing
    assert b'tiff:Orientation="1"' in photo.xmp
    assert b"Ada" in photo.xmp


@pytest.mark.parametrize(
    "written",
    [
        *(
            b'tiff:Orientation="%d"',
            b"tiff:Orientation='%d'",
            b'tiff:Orientation = "%d"',
            b"tiff:Orientation\n=\n' %d'",
        ),
        b"<tiff:Orientation>%d</tiff:Orientation>",
        b'<tiff:Orientation rdf:datatype="http://www.w3.org/2001/XMLSchema#integer">\n %d</tiff:Orientation>',
    ],
)
def test_orientation_in_xmp_is_reset_however_it_is_written(written: bytes) -> None:
    others = b"<tiff:Make>6</tiff:Make><exif:PixelXDimension>6000</exif:PixelXDimension>"
    assert upright_xmp(written % 6 + others) == written % 1 + others


def test_xmp_forgets_what_was_beside_the_pixels_as_attributes_and_as_elements(tmp_path: Path) -> None:
    gone = (
        b"<GDepth:Format>RangeInverse</GDepth:Format><GDepth:Data/>"
        b"<hdrgm:GainMapMax><rdf:Seq><rdf:li>1</rdf:li></rdf:Seq></hdrgm:GainMapMax>"
    )
    kept = b"<tiff:Artist>Ada</tiff:Artist>"
    opened = XMP.replace(b' tiff:Artist="Ada"/>', b" GDepth:Far='5'>" + gone + kept + gone + b"</rdf:Description>")
    picture().save(tmp_path / "photo.jpg", xmp=opened)
    expected = UPRIGHT_XMP.replace(b' tiff:Artist="Ada"/>', b">" + kept + b"</rdf:Description>")
    assert read_photo(tmp_path / "photo.jpg").xmp == expected


@pytest.mark.parametrize("prefix", ["GDepth", "GImage", "DepthMap", "hdrgm", "xmpNote", "GCamera"])
def test_xmp_forgets_each_that_speaks_of_what_was_beside_the_pixels(prefix: str) -> None:
    xmp = "<rdf:Description tiff:Make='A'%s>%s<tiff:Artist>Ada</tiff:Artist></rdf:Description>"
    attributes, elements = f" {prefix}:Data=\"1\" {prefix}:Mime='2'", f"<{prefix}:Far>3</{prefix}:Far><{prefix}:Near/>"
    assert upright_xmp((xmp % (attributes, elements)).encode()) == (xmp % ("", "")).encode()


def test_orientation_of_16_bit_colour(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(png_16_bit_colour(deep(3), [(b"eXIf", exif_with(6)[6:])]))
    assert np.array_equal(read_photo(path).pixels, np.rot90(deep(3), -1))


# Metadata


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_metadata_is_carried_over(tmp_path: Path, suffix: str) -> None:
    source, target = tmp_path / "photo.jpg", tmp_path / f"result{suffix}"
    picture().save(source, exif=exif_with(3), icc_profile=ICC, xmp=XMP, dpi=(300, 300))
    write_photo(target, read_photo(source))
    photo = read_photo(target)
    assert photo.icc == ICC
    assert b"Ada" in photo.xmp
    with Image.open(target) as image:
        assert_all_exif(image)
    if suffix != ".webp":  # which has no field for it
        assert photo.dpi == pytest.approx((300, 300), rel=1e-3)


@pytest.mark.parametrize("source", [".jpg", ".png", ".tif", ".webp"])
def test_metadata_is_found_in_every_format(tmp_path: Path, source: str) -> None:
    path = tmp_path / f"photo{source}"
    exif, options = Image.Exif(), {}
    exif.load(exif_with(1))
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = exif.get_ifd(ExifTags.IFD.Interop)
    if source == ".png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    elif source == ".tif":
        exif[700] = XMP
    else:
        options["xmp"] = XMP
    picture().save(path, exif=exif, icc_profile=ICC, **options)
    image = reopened(read_photo(path), ".jpg")
    assert image.info["icc_profile"] == ICC
    assert b"Ada" in image.info["xmp"]
    assert_all_exif(image)


def test_exif_is_kept_byte_for_byte_but_for_orientation_and_thumbnail(tmp_path: Path) -> None:
    """MakerNotes hold absolute offsets: nothing in EXIF may move."""
    before = exif_with(8, thumbnail=True)
    picture().save(tmp_path / "photo.jpg", exif=before)
    after = read_photo(tmp_path / "photo.jpg").exif
    assert len(after) == len(before)
    changed = [index for index, (a, b) in enumerate(zip(after, before, strict=True)) if a != b]
    assert 0 < len(changed) <= 6
    kept = Image.Exif()
    kept.load(after)
    assert kept.get_ifd(ExifTags.IFD.IFD1) == {}
    assert kept[ExifTags.Base.Orientation] == 1


LAYOUT = """
    NewSubfileType SubfileType ImageWidth ImageLength BitsPerSample Compression PhotometricInterpretation Thresholding
    CellWidth CellLength FillOrder DocumentName StripOffsets Orientation SamplesPerPixel RowsPerStrip StripByteCounts
    MinSampleValue MaxSampleValue PlanarConfiguration T4Options T6Options PageNumber TransferFunction Predictor
    WhitePoint PrimaryChromaticities ColorMap HalftoneHints TileWidth TileLength TileOffsets TileByteCounts SubIFDs
    InkSet InkNames NumberOfInks DotRange TargetPrinter ExtraSamples SampleFormat SMinSampleValue SMaxSampleValue
    TransferRange ClipPath XClipPathUnits YClipPathUnits Indexed JPEGTables JPEGProc JpegIFOffset JpegIFByteCount
    JpegRestartInterval JpegLosslessPredictors JpegPointTransforms JpegQTables JpegDCTables JpegACTables
    YCbCrCoefficients YCbCrSubSampling YCbCrPositioning ReferenceBlackWhite XMLPacket IPTCNAA ImageResources
    InterColorProfile
"""
DESCRIBES = "ImageDescription Make Model XResolution YResolution ResolutionUnit Software DateTime Artist Copyright"


def test_a_files_layout_is_left_out_of_its_exif_and_nothing_else() -> None:
    exif = Image.Exif()
    for name in (LAYOUT + DESCRIBES).split():
        exif[ExifTags.Base[name]] = 1
    assert set(without_layout(exif)) == {ExifTags.Base[name] for name in DESCRIBES.split()}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("written", [(4, 1, 6, 0), (3, 2, 6, 6), (1, 1, 0x0606, 0x0606)])
def test_the_entry_of_the_orientation_is_one_short_of_1(order: str, written: tuple[int, int, int, int]) -> None:
    def exif(*entry: int) -> bytes:
        start = {"<": b"Exif\0\0II*\0", ">": b"Exif\0\0MM\0*"}[order]
        return start + struct.pack(order + "IHHHIHHI", 8, 1, ORIENTATION, *entry, 0)

    assert upright_exif(exif(*written), turned=False) == exif(3, 1, 1, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_sides_in_exif_are_those_of_the_upright_pixels(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif, first, inner = Image.Exif(), (0x0100, 0x0101), (0xA002, 0xA003)
    exif.load(exif_with(orientation))
    exif.get_ifd(ExifTags.IFD.Exif).update({0xA002: 40, 0xA003: 70_000})  # a SHORT and a LONG
    if suffix == ".jpg":
        exif.update({0x0100: 40, 0x0101: 70_000})
    picture().save(tmp_path / f"photo{suffix}", exif=exif)
    kept = Image.Exif()
    kept.load(read_photo(tmp_path / f"photo{suffix}").exif)
    expected = (70_000, 40) if orientation > 4 else (40, 70_000)
    assert tuple(kept.get_ifd(ExifTags.IFD.Exif)[tag] for tag in inner) == expected
    assert tuple(kept.get(tag) for tag in first) == (expected if suffix == ".jpg" else (None, None))


def test_sides_stay_where_one_is_missing_and_where_their_directory_is_cut_off() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 1
    exif.get_ifd(ExifTags.IFD.Exif)[0xA002] = 40
    alone = exif.tobytes()
    assert upright_exif(alone, turned=True) == alone
    exif.get_ifd(ExifTags.IFD.Exif)[0xA003] = 30
    short = exif.tobytes()[: len(alone)]
    assert upright_exif(short, turned=True) == short


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_no_metadata_stays_none(tmp_path: Path, suffix: str) -> None:
    picture().save(tmp_path / f"photo{suffix}")
    photo = read_photo(tmp_path / f"photo{suffix}")
    assert (photo.icc, photo.exif, photo.xmp, photo.dpi, photo.text) == (None, None, None, None, {})


@pytest.mark.parametrize("header", [b"MM\0*\0\0\xff\xff", b"MM\0\xd2\0\0\0\x08"])
@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_broken_exif_does_not_matter(tmp_path: Path, header: bytes, suffix: str) -> None:
    picture().save(tmp_path / "photo.jpg", exif=b"Exif\0\0" + header + b" broken")
    photo = read_photo(tmp_path / "photo.jpg")
    assert photo.exif is None
    assert reopened(photo, suffix).size == (40, 28)


def test_png_text_is_carried_over(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "Ada")
    info.add_text("Raw profile type APP1", "what an editor has kept of the picture before")
    picture().save(tmp_path / "photo.png", pnginfo=info)
    assert reopened(read_photo(tmp_path / "photo.png"), ".png").text == {"Author": "Ada"}


def test_metadata_too_long_for_a_jpeg_is_left_out() -> None:
    exif, xmp = exif_with(1).ljust(65_533, b"\0"), XMP.ljust(65_504)
    kept = reopened(Photo(np.asarray(picture()), xmp=xmp, exif=exif), ".jpg").info
    assert kept["xmp"] == xmp
    assert kept["exif"] == exif
    photo = Photo(np.asarray(picture()), xmp=xmp + b" ", exif=exif + b"\0")
    with pytest.warns(UserWarning, match="do not fit into a JPEG") as warned:
        assert not {"xmp", "exif"} & reopened(photo, ".jpg").info.keys()
    assert len(warned) == 2


def test_what_is_left_out_is_said_while_another_photo_is_read(tmp_path: Path) -> None:
    """Threads share what is ignored of warnings, and a batch writes one photo while it reads the next."""
    picture().save(tmp_path / "photo.png")
    photo = Photo(np.asarray(picture()), exif=exif_with(1).ljust(65_534, b"\0"))
    with pytest.warns(UserWarning, match="do not fit into a JPEG"), images.reading(tmp_path / "photo.png"):
        encode(photo, ".jpg")


# Quality and bit depth


@pytest.mark.parametrize("quality", [35, 75, 92, 100])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpeg_quality_is_kept(tmp_path: Path, quality: int, subsampling: int) -> None:
    picture().save(tmp_path / "photo.jpg", quality=quality, subsampling=subsampling, progressive=True, comment=b"hello")
    with Image.open(tmp_path / "photo.jpg") as before:
        written = reopened(read_photo(tmp_path / "photo.jpg"), ".jpg")
        assert written.quantization == before.quantization
        assert written.layer == before.layer  # the sampling factors of each component
    assert written.info["progressive"]
    assert written.info["comment"] == b"hello"


@pytest.mark.parametrize(("mode", "numbers"), [("L", {0: 3}), ("RGB", {0: 1, 1: 0}), ("RGB", {0: 2, 1: 3})])
def test_a_jpeg_may_number_its_tables_as_it_likes(tmp_path: Path, mode: str, numbers: dict[int, int]) -> None:
    buffer = BytesIO()
    picture(mode).save(buffer, format="JPEG", quality=80)
    with Image.open(buffer) as before:
        tables = dict(before.quantization)
    data, at = bytearray(buffer.getvalue()), 2
    while data[at + 1] != 0xDA:
        if data[at + 1] == 0xDB:
            for place in range(at + 4, at + 2 + struct.unpack_from(">H", data, at + 2)[0], 65):
                data[place] = numbers[data[place]]
        elif data[at + 1] == 0xC0:
            for channel in range(data[at + 9]):
                data[at + 12 + 3 * channel] = numbers[data[at + 12 + 3 * channel]]
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    (tmp_path / "photo.jpg").write_bytes(data)
    assert reopened(read_photo(tmp_path / "photo.jpg"), ".jpg").quantization == tables


def test_other_formats_become_good_jpegs() -> None:
    written = reopened(from_pil(picture()), ".jpg")
    reference = BytesIO()
    picture().save(reference, format="JPEG", quality=95, subsampling=0)
    assert written.quantization == Image.open(reference).quantization
    assert written.layer[0][1:3] == (1, 1)


@pytest.mark.parametrize(("suffix", "kind"), [(".webp", "WEBP"), (".avif", "AVIF")])
def test_other_formats_become_good_webps_and_avifs(suffix: str, kind: str) -> None:
    written, reference = reopened(from_pil(picture()), suffix), BytesIO()
    picture().save(reference, format=kind, quality=95)
    assert np.array_equal(np.asarray(written), np.asarray(Image.open(reference)))


def test_a_phones_multi_picture_jpeg_is_a_jpeg(tmp_path: Path) -> None:
    picture().save(tmp_path / "photo.jpg", format="MPO", save_all=True, append_images=[picture(seed=1)])
    photo = read_photo(tmp_path / "photo.jpg")
    assert reopened(photo, ".jpg").format == "JPEG"


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
def test_8_bit_modes_are_kept_exactly(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"photo{suffix}"
    picture(mode).save(path)
    photo = read_photo(path)
    assert photo.pixels.dtype == np.uint8
    assert photo.pixels.shape == (28, 40, len(mode))
    written = reopened(photo, suffix)
    assert written.mode == mode
    assert np.array_equal(np.asarray(written), np.asarray(picture(mode)))


@pytest.mark.parametrize(
    "icc", [None, ICC, ICC[:-1], ICC + b"\0"], ids=["none", "whole", "shorter", "longer"]
)  # chunks of odd length are padded
def test_lossless_webp_stays_lossless(tmp_path: Path, icc: bytes | None) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    options = {"icc_profile": icc, "exif": exif_with(1)} if icc else {}
    Image.fromarray(noise).save(tmp_path / "photo.webp", lossless=True, **options)
    photo = read_photo(tmp_path / "photo.webp")
    assert np.array_equal(np.asarray(reopened(photo, ".webp").convert("RGB")), noise)
    Image.fromarray(noise).save(tmp_path / "lossy.webp", quality=80)
    assert not read_photo(tmp_path / "lossy.webp").lossless


def test_lossless_webp_keeps_colours_that_are_transparent() -> None:
    pixels = np.asarray(picture("RGBA")).copy()
    pixels[:14, :, 3] = 0
    assert np.array_equal(np.asarray(reopened(Photo(pixels, lossless=True), ".webp")), pixels)


@pytest.mark.parametrize("mode", ["L", "LA"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif"])
def test_a_profile_of_grey_goes_where_grey_stays_grey(mode: str, suffix: str) -> None:
    """Readers would refuse it for RGB, or look colours up in it."""
    grey = Photo(np.asarray(picture(mode)).reshape(28, 40, -1)[..., : 1 if suffix == ".jpg" else 2], icc=GREY_ICC)
    written = reopened(grey, suffix)
    assert written.info.get("icc_profile") == (GREY_ICC if written.mode in ("L", "LA") else None)


def test_webp_keeps_alpha() -> None:
    assert reopened(from_pil(picture("RGBA")), ".webp").mode == "RGBA"


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_kept_exactly(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(deep(1)[:, :, 0]).save(tmp_path / f"photo{suffix}")
    photo = read_photo(tmp_path / f"photo{suffix}")
    assert np.array_equal(photo.pixels, deep(1))
    write_photo(tmp_path / f"result{suffix}", photo)
    assert np.array_equal(read_photo(tmp_path / f"result{suffix}").pixels, deep(1))


def test_16_bit_grey_whose_white_is_0_is_no_negative(tmp_path: Path) -> None:
    stored = TiffImagePlugin.ImageFileDirectory_v2()
    stored[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 0
    Image.fromarray(65535 - deep(1)[:, :, 0]).save(tmp_path / "photo.tif", tiffinfo=stored)
    assert np.array_equal(read_photo(tmp_path / "photo.tif").pixels, deep(1))
    np.testing.assert_allclose(read_depth(tmp_path / "photo.tif").disparity, deep(1)[:, :, 0] / 65535, atol=1e-6)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_colour_png_is_kept_exactly(tmp_path: Path, channels: int) -> None:
    chunks = [(b"iCCP", b"ICC Profile\0\0" + zlib.compress(ICC)), (b"eXIf", exif_with(1)[6:])]
    (tmp_path / "photo.png").write_bytes(png_16_bit_colour(deep(channels), chunks))
    photo = read_photo(tmp_path / "photo.png")
    assert photo.pixels.dtype == np.uint16
    assert np.array_equal(photo.pixels, deep(channels))
    photo.dpi, photo.xmp, photo.text = (300, 300), XMP.replace(b'"6"', b'"1"'), {"Author": "Ada"}
    write_photo(tmp_path / "result.png", photo)
    again = read_photo(tmp_path / "result.png")
    assert np.array_equal(again.pixels, deep(channels))
    assert again.icc == ICC
    assert (again.exif, again.xmp, again.text["Author"]) == (photo.exif, photo.xmp, "Ada")
    assert again.dpi == pytest.approx((300, 300), rel=1e-3)


def tiff_16(
    pixels: np.ndarray, order: str, compressed: bool, planar: bool = False, premultiplied: bool = False
) -> bytes:
    """A minimal TIFF: one strip, or one for each channel."""
    height, width, channels = pixels.shape
    planes = np.moveaxis(pixels, 2, 0) if planar else pixels[None]
    strips = [plane.astype(order + "u2").tobytes() for plane in planes]
    strips = [zlib.compress(strip) for strip in strips] if compressed else strips
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    data, count, lengths = b"".join(strips), len(strips), [len(strip) for strip in strips]
    starts = [8 + len(bits) + sum(lengths[:index]) for index in range(count)]
    places = 8 + len(bits) + len(data)  # of the starts, then of the lengths, where there are several
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, 8), (259, 3, 1, 8 if compressed else 1)]
    tags += [(262, 3, 1, 2), (273, 4, count, places if planar else starts[0]), (277, 3, 1, channels)]
    tags += [(278, 4, 1, height), (279, 4, count, places + 4 * count if planar else lengths[0])]
    tags += ([(284, 3, 1, 2)] if planar else []) + ([(338, 3, 1, 2 - premultiplied)] if channels == 4 else [])
    data += struct.pack(f"{order}{2 * count}I", *starts, *lengths) if planar else b""
    directory = struct.pack(order + "H", len(tags))
    for tag, kind, count, value in tags:
        form = "HHIHH" if (kind, count) == (3, 1) else "HHII"
        directory += struct.pack(order + form, tag, kind, count, value, *([0] if form == "HHIHH" else []))
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(bits) + len(data))
    return header + bits + data + directory + bytes(4)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
def test_16_bit_colour_tiff_is_read_exactly(tmp_path: Path, channels: int, order: str, compressed: bool) -> None:
    (tmp_path / "photo.tif").write_bytes(tiff_16(deep(channels), order, compressed))
    assert np.array_equal(read_photo(tmp_path / "photo.tif").pixels, deep(channels))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
def test_16_bit_colours_stored_times_alpha_keep_their_16_bits(tmp_path: Path, order: str, compressed: bool) -> None:
    pixels = deep(4)
    pixels[..., 3] |= 1 << 15  # at least half: a colour is within 1 of what was stored of it
    pixels[0, 0] = 0
    stored = pixels.copy()
    stored[..., :3] = np.round(pixels[..., :3] * (pixels[..., 3:] / 65535))
    (tmp_path / "photo.tif").write_bytes(tiff_16(stored, order, compressed, premultiplied=True))
    read = read_photo(tmp_path / "photo.tif").pixels
    assert np.array_equal(read[..., 3], pixels[..., 3])
    assert np.abs(read.astype(int) - pixels).max() <= 1


def test_a_16_bit_colour_beyond_its_alpha_is_white(tmp_path: Path) -> None:
    """Rounding or damage stored more light than there is of the pixel; it does not turn dark."""
    stored = np.full((17, 23, 4), 20001, np.uint16)
    stored[..., 3] = 20000
    (tmp_path / "photo.tif").write_bytes(tiff_16(stored, "<", False, premultiplied=True))
    assert (read_photo(tmp_path / "photo.tif").pixels[..., :3] == 65535).all()


@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour_tiff_is_written_exactly(tmp_path: Path, channels: int) -> None:
    """By our own reader, and the upper halves by Pillow's."""
    source = Photo(deep(channels), exif=exif_with(1), icc=ICC, xmp=UPRIGHT_XMP, dpi=(300, 300))
    write_photo(tmp_path / "photo.tif", source)
    photo = read_photo(tmp_path / "photo.tif")
    assert np.array_equal(photo.pixels, source.pixels)
    assert photo.icc == ICC
    assert photo.dpi == pytest.approx((300, 300))
    assert b"Ada" in photo.xmp
    with Image.open(tmp_path / "photo.tif") as image:
        assert image.mode == ("RGBA" if channels == 4 else "RGB")
        assert_all_exif(image)
        assert np.array_equal(np.asarray(image), source.pixels >> 8)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_transparent_colour_of_a_16_bit_png_becomes_alpha(tmp_path: Path, channels: int) -> None:
    pixels = deep(channels)
    pixels[4, 5, 0] = pixels[3, 5, 0]  # of a colour one part alone is the same
    pixels[4, 5, 1:] = ~pixels[3, 5, 1:]
    transparent = struct.pack(f">{channels}H", *pixels[3, 5])
    (tmp_path / "photo.png").write_bytes(png_16_bit_colour(pixels, [(b"tRNS", transparent)]))
    found = read_photo(tmp_path / "photo.png").pixels
    assert np.array_equal(found[..., :channels], pixels)
    assert found[3, 5, channels] == 0
    assert (found[..., channels] == 65535).sum() == pixels[..., 0].size - (2 if channels == 1 else 1)


@pytest.mark.parametrize(("suffix", "side"), [(".webp", 16383), (".jpg", 65500), (".avif", 32768)])
def test_a_photo_too_large_for_its_format(suffix: str, side: int) -> None:
    with pytest.raises(ArganError, match=str(side)):
        encode(Photo(np.zeros((1, side + 1, 3), np.uint8)), suffix)
    assert reopened(Photo(np.zeros((1, side, 3), np.uint8)), suffix).size == (side, 1)


@pytest.mark.parametrize("compressed", [False, True])
def test_16_bit_colours_stored_one_after_the_other_are_refused(tmp_path: Path, compressed: bool) -> None:
    """Pillow would give noise."""
    (tmp_path / "photo.tif").write_bytes(tiff_16(deep(3), "<", compressed, planar=True))
    with pytest.raises(ArganError, match="16-bit samples in this layout"):
        read_photo(tmp_path / "photo.tif")


@pytest.mark.parametrize("most", [65535, 4095])
@pytest.mark.parametrize("plain", [False, True])
def test_16_bit_pgm_is_read_and_ppm_refused(tmp_path: Path, most: int, plain: bool) -> None:
    """Of colours Pillow would keep 8 bits. `most` is white."""

    def write(path: Path, kind: int, values: np.ndarray) -> None:
        stored = " ".join(map(str, values.flat)).encode() if plain else values.astype(">u2").tobytes()
        path.write_bytes(b"P%d %d %d %d\n" % (kind - 3 * plain, values.shape[1], values.shape[0], most) + stored)

    values = deep(3) // (65536 // (most + 1))
    write(tmp_path / "photo.pgm", 5, values[..., :1])
    pixels = read_photo(tmp_path / "photo.pgm").pixels
    assert pixels.dtype == np.uint16
    assert np.array_equal(pixels, np.round(values[..., :1] / most * 65535))
    write(tmp_path / "photo.ppm", 6, values)
    with pytest.raises(ArganError, match=r"photo\.ppm: 16-bit samples in this layout"):
        read_photo(tmp_path / "photo.ppm")


def test_8_bit_ppm_is_read(tmp_path: Path) -> None:
    picture().save(tmp_path / "photo.ppm")
    assert np.array_equal(read_photo(tmp_path / "photo.ppm").pixels, np.asarray(picture()))
    picture("L").convert("1").save(tmp_path / "photo.pgm")
    assert read_photo(tmp_path / "photo.pgm").pixels.dtype == np.uint8


def test_16_bits_become_8_where_the_format_has_8() -> None:
    grey = np.full((16, 16, 1), 257 * 77 + 100, np.uint16)
    assert abs(int(np.asarray(reopened(Photo(grey), ".jpg"))[8, 8]) - 77) <= 1
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    written = reopened(Photo(values.repeat(3, 2), lossless=True), ".webp").convert("RGB")
    assert np.array_equal(np.asarray(written)[:, :, :1], np.round(values / 257))  # to the nearest


def test_palette_becomes_colour_and_keeps_transparency(tmp_path: Path) -> None:
    palette = picture().quantize(16)
    palette.save(tmp_path / "photo.png")
    assert np.array_equal(read_photo(tmp_path / "photo.png").pixels, np.asarray(palette.convert("RGB")))
    palette.save(tmp_path / "photo.png", transparency=3)
    pixels = read_photo(tmp_path / "photo.png").pixels
    assert np.array_equal(pixels[:, :, 3] == 0, np.asarray(palette) == 3)


def test_1_bit_becomes_grey(tmp_path: Path) -> None:
    picture("L").convert("1").save(tmp_path / "photo.png")
    pixels = read_photo(tmp_path / "photo.png").pixels
    assert pixels.shape == (28, 40, 1)
    assert set(np.unique(pixels)) == {0, 255}


def test_transparent_colour_becomes_alpha(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 3), (10, 20, 30))
    image.putpixel((1, 1), (200, 100, 50))
    image.save(tmp_path / "photo.png", transparency=(10, 20, 30))
    assert read_photo(tmp_path / "photo.png").pixels[:, :, 3].tolist() == [[0] * 4, [0, 255, 0, 0], [0] * 4]


@pytest.mark.parametrize(
    ("bits", "stored", "transparent", "alpha"),
    [(1, 0b10101010, 1, [0, 255] * 4), (2, 0b00011011, 2, [255, 255, 0, 255]), (4, 0x35, 5, [255, 0])],
)
def test_the_transparent_grey_of_a_few_bits_becomes_alpha(
    tmp_path: Path, bits: int, stored: int, transparent: int, alpha: list[int]
) -> None:
    """A PNG names it as it stores it, up to 3 or 15, and Pillow spreads the pixels alone over 0 to 255."""
    header = struct.pack(">IIBBBBB", 8 // bits, 1, bits, 0, 0, 0, 0)
    data = [b"IHDR" + header, b"tRNS" + struct.pack(">H", transparent), b"IDAT" + zlib.compress(bytes([0, stored]))]
    chunks = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in [*data, b"IEND"])
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    assert read_photo(tmp_path / "photo.png").pixels[0, :, 1].tolist() == alpha


# Lab D50 of sRGB's corners, by the inks (cyan, magenta, yellow) that make them.
INKS = {
    (0, 0, 0): (100, 0, 0),
    (1, 0, 0): (91, -51, -15),
    (0, 1, 0): (60, 94, -61),
    (0, 0, 1): (98, -16, 93),
    (1, 1, 0): (30, 68, -112),
    (1, 0, 1): (88, -79, 81),
    (0, 1, 1): (54, 81, 70),
    (1, 1, 1): (0, 0, 0),
}


def cmyk_profile() -> bytes:
    """A printer of ideal inks: an ICC version 2 profile whose one table (lut8Type) has two grid points a channel."""
    identity = bytes(range(256))
    corners = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    lab = [(0, 0, 0) if k else INKS[c, m, y] for c, m, y, k in corners]
    grid = b"".join(bytes([round(light * 2.55), a + 128, b + 128]) for light, a, b in lab)
    unit_matrix = struct.pack(">9i", *(65536 * (index % 4 == 0) for index in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + unit_matrix + identity * 4 + grid + identity * 3
    header = struct.pack(">I4sI4s4s4s12s4s", 144 + len(table), b"", 0x02400000, b"prtr", b"CMYK", b"Lab ", b"", b"acsp")
    header += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)  # the D50 white point
    return header.ljust(128, b"\0") + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


def test_cmyk_becomes_srgb_through_its_profile(tmp_path: Path) -> None:
    Image.new("CMYK", (20, 20), (0, 255, 255, 0)).save(tmp_path / "photo.jpg", icc_profile=cmyk_profile(), quality=95)
    photo = read_photo(tmp_path / "photo.jpg")
    red, green, blue = photo.pixels[10, 10].astype(int)
    assert photo.icc is None
    assert red > 240
    assert max(green, blue) < 20


def test_a_photos_cmyk_profile_is_worked_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("CMYK", (20, 20)).save(tmp_path / "photo.jpg", icc_profile=cmyk_profile() + b"another")
    build, built = ImageCms.buildTransform, []
    monkeypatch.setattr(ImageCms, "buildTransform", lambda *args: built.append(args) or build(*args))
    read_photo(tmp_path / "photo.jpg")
    assert len(built) == 1


@pytest.mark.parametrize("options", [{}, {"icc_profile": ICC}, {"icc_profile": b"x" * 200}])
def test_cmyk_without_a_good_profile_is_taken_to_be_of_ideal_inks(tmp_path: Path, options: dict) -> None:
    Image.new("CMYK", (20, 20), (0, 255, 255, 0)).save(tmp_path / "photo.tif", **options)
    with pytest.warns(UserWarning, match=r"photo.tif: CMYK without a good colour profile"):
        photo = read_photo(tmp_path / "photo.tif")
    assert photo.icc is None
    assert photo.pixels[10, 10].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("gamma", "others", "warned"),
    [
        (1.0, [], True),
        (1 / 1.8, [], True),
        (0.4545, [], False),
        (0.0, [], False),
        (1.0, [(b"sRGB", b"\0")], False),
        (1.0, [(b"iCCP", b"ICC Profile\0\0" + zlib.compress(ICC))], False),
    ],
)
def test_a_png_of_another_gamma_is_said_to_be_taken_for_srgb(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, gamma: float, others: list, warned: bool
) -> None:
    chunks = [*others, (b"gAMA", struct.pack(">I", round(gamma * 100_000)))]
    (tmp_path / "photo.png").write_bytes(png_16_bit_colour(deep(3), chunks))
    read_photo(tmp_path / "photo.png")
    said = "".join(str(warning.message) for warning in recwarn)
    assert said.endswith("taken for sRGB: colours may be off") if warned else not said


def test_formats_that_are_only_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"photos cannot be written as \.bmp"):
        write_photo(tmp_path / "photo.bmp", Photo(np.asarray(picture())))


def test_other_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "photo.tif")
    with pytest.raises(ArganError, match="F pixels are not supported"):
        read_photo(tmp_path / "photo.tif")


def test_animations_are_refused(tmp_path: Path) -> None:
    for suffix in (".gif", ".png", ".webp"):
        path = tmp_path / f"photo{suffix}"
        picture().save(path, save_all=True, append_images=[picture(seed=1)])
        with pytest.raises(ArganError, match="animation"):
            read_photo(path)


def test_of_a_tiff_with_several_pages_the_first_is_read(tmp_path: Path) -> None:
    picture().save(tmp_path / "photo.tif", save_all=True, append_images=[picture(seed=1)])
    assert np.array_equal(read_photo(tmp_path / "photo.tif").pixels, np.asarray(picture()))


def test_transparency_is_not_lost_in_jpeg() -> None:
    with pytest.raises(ArganError, match="JPEG holds no transparency"):
        encode(from_pil(picture("RGBA")), ".jpg")


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_alpha_that_says_nothing_is_left_out_of_a_jpeg(channels: int, dtype: type) -> None:
    pixels = np.full((8, 8, channels), np.iinfo(dtype).max, dtype)
    assert reopened(Photo(pixels), ".jpg").mode == ("L" if channels == 2 else "RGB")
    pixels[3, 4, -1] -= 1
    with pytest.raises(ArganError, match="JPEG holds no transparency"):
        encode(Photo(pixels), ".jpg")


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_pil_round_trip(mode: str) -> None:
    image = picture(mode)
    image.info.update(icc_profile=ICC, dpi=(72.0, 72.0))
    result = to_pil(from_pil(image))
    assert result.mode == mode
    assert np.array_equal(np.asarray(result), np.asarray(image))
    assert result.info == {"icc_profile": ICC, "dpi": (72.0, 72.0)}


def test_pil_16_bit_grey_round_trip() -> None:
    assert np.array_equal(np.asarray(to_pil(from_pil(Image.fromarray(deep(1)[:, :, 0])))), deep(1)[:, :, 0])


# Files that are wrong


def damaged(kind: str, tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    picture(size=(400, 300)).save(path, quality=90)
    data = path.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not a picture\n")
    elif kind == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "header only":
        path.write_bytes(data[:30])
    elif kind == "missing":
        path.unlink()
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "truncated png":
        picture(size=(400, 300)).save(path, format="PNG")
        path.write_bytes(path.read_bytes()[:9000])
    elif kind == "damaged png":
        picture(size=(400, 300)).save(path, format="PNG")
        data = bytearray(path.read_bytes())
        data[5000:5200] = bytes(200)
        path.write_bytes(bytes(data))
    elif kind == "truncated tiff":
        picture(size=(400, 300)).save(path, format="TIFF")
        path.write_bytes(path.read_bytes()[:20000])
    elif kind == "gigantic":  # a PNG of a few bytes that says it has 2.5 gigapixels
        chunks = [b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b"")]
        written = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(written))
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "an empty file"),
        ("text", "not an image"),
        ("header only", "not an image|cut short"),
        ("truncated", "cut short"),
        ("truncated png", "cut short"),
        ("damaged png", "damaged"),
        ("truncated tiff", "cut short"),
        ("gigantic", "too large"),
        ("missing", "no such file"),
        ("folder", "is a directory|permission denied"),
    ],
)
def test_broken_files_are_one_line(tmp_path: Path, kind: str, message: str) -> None:
    path = damaged(kind, tmp_path)
    with pytest.raises(ArganError, match=message) as caught:
        read_photo(path)
    assert caught.value.exit_code == (2 if kind == "missing" else 1)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([".jpg", ".png", ".tif", ".webp", ".gif"]),
    st.integers(0, 10_000),
    st.binary(min_size=1, max_size=8),
)
def test_damage_anywhere_is_an_argan_error_or_a_photo(tmp_path: Path, suffix: str, at: int, data: bytes) -> None:
    path = tmp_path / f"photo{suffix}"
    picture().save(path)
    content = bytearray(path.read_bytes())
    at %= len(content)
    content[at : at + len(data)] = data
    path.write_bytes(bytes(content))
    with suppress(ArganError):
        assert read_photo(path).pixels.ndim == 3


# Writing


def test_written_whole_with_usual_permissions(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    write_photo(path, from_pil(picture()))
    (tmp_path / "touched").touch()
    assert path.stat().st_mode == (tmp_path / "touched").stat().st_mode
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photo.png", "touched"]


def fails_with(code: int):
    def fail(*_args, **_kwargs):
        raise OSError(code, os.strerror(code))

    return fail


def test_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photo(tmp_path / "photo.png", from_pil(picture()))
    before = (tmp_path / "photo.png").read_bytes()
    monkeypatch.setattr(Path, "write_bytes", fails_with(errno.ENOSPC))
    for name in ("photo.png", "new.png"):
        with pytest.raises(ArganError, match="no space left on device") as caught:
            write_photo(tmp_path / name, from_pil(picture(seed=1)))
        assert str(caught.value).startswith(f"{tmp_path / name}: cannot be written")
    assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]
    assert (tmp_path / "photo.png").read_bytes() == before


def test_a_full_disk_that_shows_in_the_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.os, "fsync", fails_with(errno.ENOSPC))
    with pytest.raises(ArganError, match="no space left"):
        write_photo(tmp_path / "photo.png", from_pil(picture()))
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_path: Path, _data: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_photo(tmp_path / "photo.png", from_pil(picture()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ArganError, match="cannot be written: permission denied"):
            write_photo(tmp_path / "photo.png", from_pil(picture()))
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="/proc takes no files, not even from root")
def test_folder_that_takes_no_files() -> None:
    with pytest.raises(ArganError, match="cannot be written") as caught:
        write_photo(Path("/proc/self/photo.png"), from_pil(picture()))
    assert str(caught.value).startswith("/proc/self/photo.png: ")


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArganError, match="its folder does not exist"):
        write_photo(tmp_path / "none" / "photo.png", from_pil(picture()))


def test_suffixes() -> None:
    assert images.output_suffix(Path("a.JPG")) == ".JPG"
    assert images.output_suffix(Path("a.heic")) == ".png"
    assert images.output_suffix(Path("a.jfif")) == ".jfif"
    images.check_suffix(Path("a.TIFF"))
    for name in ("a.heic", "a"):
        with pytest.raises(UsageError, match="cannot be written"):
            images.check_suffix(Path(name))


def test_copies_do_not_share_pixels(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    photo = read_photo(tmp_path / "a.png")
    photo.pixels[:] = 0
    assert read_photo(tmp_path / "b.png").pixels.any()


# HEIC and AVIF


def heic(path: Path, image: Image.Image, **options: object) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heic")
    pillow_heif.from_pillow(image).save(path, quality=95, **options)


def test_heic_is_read(tmp_path: Path) -> None:
    heic(tmp_path / "photo.HEIC", picture(size=(64, 48)), exif=exif_with(1))
    photo = read_photo(tmp_path / "photo.HEIC")
    assert photo.size == (64, 48)
    assert np.abs(photo.pixels.astype(int) - np.asarray(picture(size=(64, 48)))).mean() < 4
    with_metadata = reopened(photo, ".jpg")
    assert with_metadata.getexif()[ExifTags.Base.Make] == "Argan"
    assert with_metadata.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FNumber] == pytest.approx(2.8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_turned_upright_once(tmp_path: Path, orientation: int) -> None:
    stored = picture(size=(64, 48))
    heic(tmp_path / "photo.heic", stored, exif=exif_with(orientation))
    stored.getexif()[ExifTags.Base.Orientation] = orientation
    expected = np.asarray(ImageOps.exif_transpose(stored))
    photo = read_photo(tmp_path / "photo.heic")
    assert photo.pixels.shape == expected.shape
    assert np.abs(photo.pixels.astype(int) - expected).mean() < 4
    assert reopened(photo, ".jpg").getexif().get(ExifTags.Base.Orientation, 1) == 1


def test_heic_of_a_burst_is_its_first_picture(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heic")
    first = picture(size=(64, 48))
    burst = pillow_heif.from_pillow(first)
    burst.add_from_pillow(Image.new("RGB", (64, 48)))
    burst.save(tmp_path / "burst.heic", quality=95)
    assert np.abs(read_photo(tmp_path / "burst.heic").pixels.astype(int) - np.array(first)).mean() < 5


def test_heic_with_a_profile(tmp_path: Path) -> None:
    image = picture(size=(64, 48))
    image.info["icc_profile"] = ICC
    heic(tmp_path / "photo.heic", image)
    assert read_photo(tmp_path / "photo.heic").icc == ICC


def test_heic_under_another_suffix_is_read_whatever_was_read_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heic(tmp_path / "photo.heic", picture(size=(64, 48)))
    shutil.move(tmp_path / "photo.heic", tmp_path / "photo.jpg")
    monkeypatch.setattr(Image, "OPEN", {name: how for name, how in Image.OPEN.items() if name != "HEIF"})
    monkeypatch.setattr(Image, "ID", [*Image.OPEN])  # as Pillow is before it has met any
    with monkeypatch.context() as missing:
        missing.setitem(sys.modules, "pillow_heif", None)
        with pytest.raises(MissingError, match=r"photo\.jpg: HEIC photos need pillow-heif"):
            read_photo(tmp_path / "photo.jpg")
    assert read_photo(tmp_path / "photo.jpg").size == (64, 48)


def test_heic_without_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    (tmp_path / "photo.heic").write_bytes(b"")
    with pytest.raises(MissingError, match="pillow-heif") as caught:
        read_photo(tmp_path / "photo.heic")
    assert "argan[heic]" in caught.value.hint


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_avif_is_written_and_read(tmp_path: Path, mode: str) -> None:
    source = Photo(np.asarray(picture(mode, (64, 48))).reshape(48, 64, -1), exif=exif_with(1), icc=ICC, xmp=UPRIGHT_XMP)
    write_photo(tmp_path / "photo.avif", source)
    photo = read_photo(tmp_path / "photo.avif")
    assert photo.pixels.shape == source.pixels.shape
    assert np.abs(photo.pixels.astype(int) - source.pixels).mean() < 4
    assert photo.icc == ICC
    assert b"Ada" in photo.xmp
    assert reopened(photo, ".jpg" if mode != "RGBA" else ".png").getexif()[ExifTags.Base.Make] == "Argan"


# Display P3


def display_p3() -> bytes:
    """A small ICC v4 profile: Display P3's primaries (chromatically adapted to D50) and sRGB's curve."""

    def s15(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    columns = {
        b"rXYZ": (0.51512, 0.24120, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
        b"wtpt": (0.96420, 1.0, 0.82491),
    }
    curve = b"para" + bytes(4) + struct.pack(">HH", 3, 0) + s15(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    name = "Display P3".encode("utf-16-be")
    text = b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(name), 28) + name
    tags = {name: b"XYZ " + bytes(4) + s15(*value) for name, value in columns.items()}
    tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve, b"desc": text, b"cprt": text}
    directory, data, start = b"", b"", 132 + 12 * len(tags)
    for tag, body in tags.items():
        directory += struct.pack(">4sII", tag, start + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    size = start + len(data)
    header = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x04000000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp"
    header = (header + bytes(28) + s15(0.9642, 1.0, 0.82491)).ljust(128, b"\0")
    return header + struct.pack(">I", len(tags)) + directory + data


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif"])
def test_display_p3_is_kept(tmp_path: Path, suffix: str) -> None:
    """Pixels are not converted, the profile goes along: a colour engine sees the same colours before and after."""
    profile = display_p3()
    picture().save(tmp_path / "photo.png", icc_profile=profile)
    photo = read_photo(tmp_path / "photo.png")
    assert np.array_equal(photo.pixels, np.asarray(picture()))
    write_photo(tmp_path / f"result{suffix}", photo)
    with Image.open(tmp_path / f"result{suffix}") as image:
        assert image.info["icc_profile"] == profile
        srgb, own = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(BytesIO(image.info["icc_profile"]))
        seen = np.asarray(ImageCms.profileToProfile(image.convert("RGB"), own, srgb)).astype(int)
    expected = ImageCms.profileToProfile(picture(), ImageCms.ImageCmsProfile(BytesIO(profile)), srgb)
    assert np.abs(seen - np.asarray(expected)).mean() < 6
    assert np.abs(np.asarray(expected).astype(int) - np.asarray(picture())).max() > 5  # it is not sRGB


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("orientation", [5, 6, 8])
def test_turned_tiffs_without_compression(tmp_path: Path, mode: str, orientation: int) -> None:
    """Pillow maps some of them into memory as if they had been turned already."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, {"L": 1, "I;16": 1, "RGB": 3}.get(mode, 4)), np.uint8)
    pixels = pixels.squeeze(2) if pixels.shape[2] == 1 else pixels
    image = Image.fromarray(pixels.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(pixels, mode)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(tmp_path / "turned.tif", exif=exif)
    image.save(tmp_path / "straight.tif")
    straight = read_photo(tmp_path / "straight.tif").pixels
    assert np.array_equal(read_photo(tmp_path / "turned.tif").pixels, UPRIGHT[orientation](straight))
