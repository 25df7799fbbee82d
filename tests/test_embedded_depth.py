"""Depth inside phones' photos, in files made here: HEIC with an auxiliary image, GDepth, Dynamic Depth."""

import base64
import hashlib
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import ExifTags, Image

from argan import embedded_depth
from argan.embedded_depth import read_embedded_depth
from argan.errors import ArganError
from argan.images import read_photo, write_photo

SIZE = (48, 32)
DISTANCE = np.linspace(1, 5, SIZE[0])[None].repeat(SIZE[1], 0)  # metres, left is nearest
DISPARITY = (1 / DISTANCE - 1 / 5) / (1 - 1 / 5)


def photo(size: tuple[int, int] = SIZE) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1] // 4, size[0] // 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size)


def as_file(share: np.ndarray, kind: str) -> bytes:
    buffer = BytesIO()
    if kind == "PNG of 16 bits":
        Image.fromarray((share * 65535).round().astype(np.uint16)).save(buffer, "PNG")
        return buffer.getvalue()
    Image.fromarray((share * 255).round().astype(np.uint8)).save(
        buffer, kind, **({"quality": 98} if kind == "JPEG" else {})
    )
    return buffer.getvalue()


def shares(kind: str) -> np.ndarray:
    """What Google's formats store: 0 nearest."""
    return 1 - DISPARITY if kind == "RangeInverse" else (DISTANCE - 1) / 4


def xmp_segment(body: str) -> bytes:
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f"{body}</rdf:RDF></x:xmpmeta>"
    )
    return b"http://ns.adobe.com/xap/1.0/\0" + packet.encode()


def with_segments(jpeg: bytes, segments: list[bytes]) -> bytes:
    """A JPEG with APP1 segments before all others."""
    return jpeg[:2] + b"".join(b"\xff\xe1" + struct.pack(">H", len(s) + 2) + s for s in segments) + jpeg[2:]


def jpeg_of(image: Image.Image, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def gdepth(
    path: Path, kind: str, *, units: str = "m", extended: bool = True, mime: str = "PNG", **options: object
) -> None:
    """As Google's Lens Blur wrote it: the picture in extended XMP, cut into segments of at most 1000 bytes here."""
    data = base64.b64encode(as_file(shares(kind), mime)).decode()
    name = 'xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/"'
    values = f'GDepth:Format="{kind}" GDepth:Near="1" GDepth:Far="5" GDepth:Units="{units}"'
    where = f'<rdf:Description rdf:about="" {name} {values}'
    if not extended:
        segments = [xmp_segment(f'{where} GDepth:Data="{data}"/>')]
    else:
        more = xmp_segment(f'<rdf:Description rdf:about="" {name} GDepth:Data="{data}"/>').split(b"\0", 1)[1]
        guid = hashlib.md5(more).hexdigest().upper().encode()
        parts = [(at, more[at : at + 1000]) for at in range(0, len(more), 1000)]
        header = b"http://ns.adobe.com/xmp/extension/\0" + guid
        note = f'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="{guid.decode()}"'
        segments = [xmp_segment(f"{where} {note}/>")]
        segments += [header + struct.pack(">II", len(more), at) + part for at, part in reversed(parts)]  # any order
    path.write_bytes(with_segments(jpeg_of(photo(), **options), segments))


def dynamic_depth(path: Path, kind: str, length: str | None = None, padding: int = 0) -> None:
    """A photo, followed by its undistorted original and its depth, listed in a directory."""
    others = [("Original", jpeg_of(photo())), ("Depth", as_file(shares(kind), "JPEG"))]
    items = "".join(
        f'<rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="image/jpeg" Item:Semantic="{name}" '
        f'Item:Length="{length if length and name == "Depth" else len(data)}" '
        f'Item:Padding="{padding}"/></rdf:li>'
        for name, data in [("Primary", b""), *others]
    )
    body = (
        '<rdf:Description rdf:about="" xmlns:Container="http://ns.google.com/photos/1.0/container/" '
        'xmlns:Item="http://ns.google.com/photos/1.0/container/item/" '
        'xmlns:DepthMap="http://ns.google.com/photos/dd/1.0/depthmap/" '
        f'DepthMap:Format="{kind}" DepthMap:Near="1.0" DepthMap:Far="5.0" DepthMap:Units="Meters">'
        f"<Container:Directory><rdf:Seq>{items}</rdf:Seq></Container:Directory></rdf:Description>"
    )
    primary = with_segments(jpeg_of(photo()), [xmp_segment(body)])
    path.write_bytes(primary + b"".join(data + bytes(padding) for _, data in others))


@pytest.mark.parametrize("kind", ["RangeInverse", "RangeLinear"])
@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("mime", ["PNG", "PNG of 16 bits", "JPEG"])
def test_gdepth(tmp_path: Path, kind: str, extended: bool, mime: str) -> None:
    gdepth(tmp_path / "photo.jpg", kind, extended=extended, mime=mime)
    found = read_embedded_depth(tmp_path / "photo.jpg")
    assert np.abs(found.disparity - DISPARITY).max() < 0.03
    assert found.dioptres == pytest.approx((1 / 5, 1), rel=0.05)
    assert found.note == f"{tmp_path / 'photo.jpg'}: GDepth 48 x 32, {kind}"


@pytest.mark.parametrize("kind", ["RangeInverse", "RangeLinear"])
def test_dynamic_depth(tmp_path: Path, kind: str) -> None:
    dynamic_depth(tmp_path / "photo.jpg", kind)
    found = read_embedded_depth(tmp_path / "photo.jpg")
    assert np.abs(found.disparity - DISPARITY).max() < 0.03
    assert found.dioptres == pytest.approx((1 / 5, 1), rel=0.05)
    assert "Dynamic Depth" in found.note


def test_dynamic_depth_with_padding_behind_each_picture(tmp_path: Path) -> None:
    dynamic_depth(tmp_path / "photo.jpg", "RangeInverse", padding=100)
    assert np.abs(read_embedded_depth(tmp_path / "photo.jpg").disparity - DISPARITY).max() < 0.03


def test_depth_that_does_not_say_its_format_is_of_inverse_distance(tmp_path: Path) -> None:
    gdepth(tmp_path / "photo.jpg", "RangeInverse", extended=False)
    damaged(tmp_path / "photo.jpg", b"GDepth:Format=", b"GDepth:Formax=")
    assert np.abs(read_embedded_depth(tmp_path / "photo.jpg").disparity - DISPARITY).max() < 0.03


def test_near_and_far_are_distances(tmp_path: Path) -> None:
    gdepth(tmp_path / "photo.jpg", "RangeInverse", extended=False)
    damaged(tmp_path / "photo.jpg", b'GDepth:Near="1"', b'GDepth:Near="2"')
    assert read_embedded_depth(tmp_path / "photo.jpg").dioptres == pytest.approx((1 / 5, 1 / 2))


@pytest.mark.parametrize("units", ["m", "M", "Meters", "metres"])
def test_metres_by_any_of_their_names(tmp_path: Path, units: str) -> None:
    gdepth(tmp_path / "photo.jpg", "RangeInverse", units=units)
    assert read_embedded_depth(tmp_path / "photo.jpg").dioptres == pytest.approx((1 / 5, 1))


def test_depth_without_a_unit_is_not_metric(tmp_path: Path) -> None:
    gdepth(tmp_path / "photo.jpg", "RangeInverse", units="Diopters")
    found = read_embedded_depth(tmp_path / "photo.jpg")
    assert found.dioptres is None
    assert np.abs(found.disparity - DISPARITY).max() < 0.01


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_depth_is_turned_with_its_photo(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    gdepth(tmp_path / "photo.jpg", "RangeInverse", exif=exif.tobytes())
    turns = {1: 0, 3: 2, 6: -1}[orientation]
    assert np.abs(read_embedded_depth(tmp_path / "photo.jpg").disparity - np.rot90(DISPARITY, turns)).max() < 0.01


@pytest.mark.parametrize(
    "write",
    [
        lambda path: gdepth(path, "RangeInverse", extended=False),
        lambda path: gdepth(path, "RangeInverse", extended=True),
        lambda path: dynamic_depth(path, "RangeLinear"),
    ],
    ids=["gdepth", "extended gdepth", "dynamic depth"],
)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_rendered_photo_promises_no_depth(tmp_path: Path, write: Callable[[Path], None], suffix: str) -> None:
    """Its pixels are not those that the depth map was of, and the map is not in the file."""
    write(tmp_path / "photo.jpg")
    write_photo(tmp_path / f"rendered{suffix}", read_photo(tmp_path / "photo.jpg"))
    rendered = read_photo(tmp_path / f"rendered{suffix}")
    ElementTree.fromstring(rendered.xmp)  # still well formed
    assert b"rdf:Description" in rendered.xmp
    for promise in (b"Data=", b"HasExtendedXMP", b"Format=", b"Near=", b"Item:"):
        assert promise not in rendered.xmp
    with pytest.raises(ArganError, match="no depth inside"):
        read_embedded_depth(tmp_path / f"rendered{suffix}")


# HEIC


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def children(data: bytes) -> list[tuple[bytes, bytes]]:
    """(kind, whole box) of the boxes in a row."""
    found, at = [], 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        found.append((kind, data[at : at + size]))
        at += size
    return found


def heic_with_depth(path: Path, depth: np.ndarray, kind: bytes = b"urn:mpeg:hevc:2015:auxid:2") -> None:
    """Two pictures as pillow-heif writes them; then the second is made an auxiliary image of the first, of type depth.

    ISO/IEC 23008-12: an item reference `auxl` from it to the photo, and a property `auxC` with its type.
    """
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heic")
    pictures = pillow_heif.from_pillow(photo((96, 64)))
    pictures.add_from_pillow(Image.fromarray((depth * 255).round().astype(np.uint8)))
    buffer = BytesIO()
    pictures.save(buffer, quality=100)
    top = dict(children(buffer.getvalue()))
    parts = dict(children(top[b"meta"][12:]))
    properties = dict(children(parts[b"iprp"][8:]))
    count = len(children(properties[b"ipco"][8:]))
    ipco = box(b"ipco", properties[b"ipco"][8:], box(b"auxC", bytes(4), kind + b"\0"))
    table, at = properties[b"ipma"], 16
    entries = []
    for _ in range(struct.unpack_from(">I", table, 12)[0]):
        item, associations = struct.unpack_from(">HB", table, at)
        own = table[at + 3 : at + 3 + associations] + (bytes([count + 1]) if item == 2 else b"")
        entries.append(struct.pack(">HB", item, len(own)) + own)
        at += 3 + associations
    parts[b"iprp"] = box(b"iprp", ipco, box(b"ipma", table[8:16], *entries))
    parts[b"iref"] = box(b"iref", bytes(4), box(b"auxl", struct.pack(">HHH", 2, 1, 1)))
    grown = len(box(b"meta", bytes(4), *parts.values())) - len(top[b"meta"])
    locations = bytearray(parts[b"iloc"])
    assert locations[12:14] == b"\x44\x40"  # sizes of its fields: offsets, lengths and base offsets of 4 bytes
    at = 16
    for _ in range(struct.unpack_from(">H", locations, 14)[0]):
        (base, extents) = struct.unpack_from(">IH", locations, at + 4)
        struct.pack_into(">I", locations, at + 4, base + grown)
        at += 10 + 8 * extents
    parts[b"iloc"] = bytes(locations)
    path.write_bytes(top[b"ftyp"] + box(b"meta", bytes(4), *parts.values()) + top[b"mdat"])


def test_heic(tmp_path: Path) -> None:
    heic_with_depth(tmp_path / "photo.heic", DISPARITY)
    found = read_embedded_depth(tmp_path / "photo.heic")
    assert found.disparity.shape == DISPARITY.shape
    assert np.abs(found.disparity - DISPARITY).max() < 0.03
    assert found.dioptres is None
    assert "auxiliary depth 48 x 32" in found.note


@pytest.mark.parametrize(("kind", "dioptres"), [(0, (0.2, 1.0)), (1, None), (3, None)])
def test_heic_says_what_its_depth_means(kind: int, dioptres: tuple[float, float] | None) -> None:
    """As pillow-heif gives it: only uniform inverse distance is metric, and distance is refused."""
    auxiliary = SimpleNamespace(to_pillow=lambda: Image.fromarray((DISPARITY * 255).round().astype(np.uint8)))
    auxiliary.info = {"metadata": {"representation_type": kind, "z_near": 1.0, "z_far": 5.0}}
    image = photo()
    image.info["depth_images"] = [auxiliary]
    assert embedded_depth._from_heif(image).dioptres == dioptres
    auxiliary.info["metadata"]["representation_type"] = embedded_depth.UNIFORM_DISTANCE
    with pytest.raises(ArganError, match="uniform distance"):
        embedded_depth._from_heif(image)


def test_heic_depth_of_16_bits_keeps_them() -> None:
    steps = (DISPARITY * 65535).round().astype(np.uint16)
    image = photo()
    image.info["depth_images"] = [SimpleNamespace(to_pillow=lambda: Image.fromarray(steps), info={})]
    np.testing.assert_allclose(embedded_depth._from_heif(image).disparity, DISPARITY, rtol=0, atol=1e-5)


def test_heic_with_another_auxiliary_image(tmp_path: Path) -> None:
    """An alpha plane is no depth."""
    heic_with_depth(tmp_path / "photo.heic", DISPARITY, kind=b"urn:com:apple:photo:2020:aux:hdrgainmap")
    with pytest.raises(ArganError, match="no depth inside"):
        read_embedded_depth(tmp_path / "photo.heic")


# Photos without depth, or with damaged depth


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_none(tmp_path: Path, suffix: str) -> None:
    photo().save(tmp_path / f"photo{suffix}")
    with pytest.raises(ArganError, match="no depth inside") as caught:
        read_embedded_depth(tmp_path / f"photo{suffix}")
    assert "--depth FILE" in caught.value.hint


def damaged(path: Path, before: bytes, after: bytes) -> None:
    assert before in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(before, after))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'Near="1"', b'Near="x"'),
        (b'Near="1"', b'Near="6"'),
        (b'GDepth:Far="5"', b'GDepth:Fax="5"'),
        (b'GDepth:Data="iVBO', b'GDepth:Data="AAAA'),
    ],
)
def test_damaged_gdepth(tmp_path: Path, before: bytes, after: bytes) -> None:
    gdepth(tmp_path / "photo.jpg", "RangeInverse", extended=False)
    damaged(tmp_path / "photo.jpg", before, after)
    with pytest.raises(ArganError, match=r"photo\.jpg: its embedded depth"):
        read_embedded_depth(tmp_path / "photo.jpg")


def test_xmp_that_is_no_xml(tmp_path: Path) -> None:
    gdepth(tmp_path / "photo.jpg", "RangeInverse", extended=False)
    damaged(tmp_path / "photo.jpg", b"</rdf:RDF>", b"</rdf:RDX>")
    with pytest.raises(ArganError, match="no depth inside"):
        read_embedded_depth(tmp_path / "photo.jpg")


@pytest.mark.parametrize("length", ["many", "99999999", "-4", "700"])
def test_directory_with_wrong_lengths(tmp_path: Path, length: str) -> None:
    dynamic_depth(tmp_path / "photo.jpg", "RangeInverse", length)
    with pytest.raises(ArganError, match="its embedded depth is damaged"):
        read_embedded_depth(tmp_path / "photo.jpg")
