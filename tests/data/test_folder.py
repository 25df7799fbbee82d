"""Photographs from folders and archives: what is read, how it is decoded, what is skipped, what is kept on disk."""

import errno
import io
import logging
import os
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin

from argan.data import folder as module
from argan.data.folder import PhotoFolder, load_square
from argan.data.sources import FolderSource
from argan.errors import ArganError, UsageError


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory, monkeypatch):
    path = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ARGAN_CACHE", str(path))
    return path


def quadrants(width=40, height=40):
    """Red, green / blue, white: tells every orientation from every other."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2, 0] = 255
    picture[: height // 2, width // 2 :, 1] = 255
    picture[height // 2 :, : width // 2, 2] = 255
    picture[height // 2 :, width // 2 :] = 255
    return Image.fromarray(picture)


def encode(image, kind="png", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decode(content, resolution):
    return torch.tensor(load_square(io.BytesIO(content), resolution)).int()


def write(root, name, content):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    for name, level in [("b/deep/2.png", 20), ("b/1.jpg", 40), ("a.webp", 60), ("c.PNG", 80)]:
        image = Image.new("RGB", (20, 12), (level, level + 1, level + 2))
        kind = {"jpg": "jpeg"}.get(name[-3:].lower(), name.split(".")[-1].lower())
        write(root, name, encode(image, kind, **({"lossless": True} if kind == "webp" else {})))
    return root


# --- decoding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(kind, orientation):
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # stored so that a quarter turn to the right shows it upright
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = quadrants() if orientation == 1 else quadrants().transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encode(stored, kind, exif=exif), 4)
    expected = decode(encode(quadrants()), 4)
    assert (found - expected).abs().max() < 60  # JPEG and WebP bleed a little; a wrong turn is off by 255


@pytest.mark.parametrize(
    ("size", "box"), [((60, 40), (10, 0, 50, 40)), ((40, 61), (0, 10, 40, 50)), ((7, 7), (0, 0, 7, 7))]
)
def test_the_centre_square_is_cropped(size, box):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8))
    side = min(size)
    found = decode(encode(picture), side)
    expected = torch.tensor(np.asarray(picture.crop(box))).int()
    # An odd margin is shared out evenly, which moves the crop by half a pixel.
    if (max(size) - side) % 2 == 0:
        assert torch.equal(found, expected)
    else:
        shifted = torch.tensor(np.asarray(picture.crop((box[0], box[1] + 1, box[2], box[3] + 1)))).int()
        assert (found - (expected + shifted) / 2).abs().mean() < 20


def test_shrinking_is_antialiased():
    checkers = (np.indices((96, 96)).sum(0) % 2 * 255).astype(np.uint8)
    for kind in ("png", "jpeg"):
        found = decode(encode(Image.fromarray(checkers), kind), 12)
        assert (found - 127).abs().max() <= 3  # picking single pixels would give black or white


def test_a_large_jpeg_decoded_at_a_fraction_looks_the_same():
    waves = np.sin(np.arange(640) / 40)
    picture = Image.fromarray(((waves[None, :, None] * waves[:, None, None] * [100, 60, 30]) + 128).astype(np.uint8))
    jpeg, png = (
        decode(encode(picture, kind, **options), 20) for kind, options in [("jpeg", {"quality": 95}), ("png", {})]
    )
    assert (jpeg - png).abs().max() <= 4


def test_every_mode_becomes_rgb():
    level = 100

    def expect(image, color, kind="png", **options):
        assert (decode(encode(image, kind, **options), 2) - torch.tensor(color)).abs().max() <= 2

    expect(Image.new("L", (8, 8), level), [level] * 3)
    expect(Image.new("RGB", (8, 8), (10, 20, 30)).quantize(), [10, 20, 30])
    expect(Image.fromarray(np.full((8, 8), level * 257, np.uint16)), [level] * 3)
    expect(Image.fromarray(np.full((8, 8), 65534, np.uint16)), [255] * 3)
    expect(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), [0, 255, 255], "tiff")
    expect(Image.new("1", (8, 8), 1), [255] * 3)
    expect(Image.new("RGBA", (8, 8), (0, 200, 0, 0)), [255] * 3)  # transparent: white, whatever colour lies below
    expect(Image.new("RGBA", (8, 8), (0, 200, 0, 255)), [0, 200, 0])
    white_is_0 = {TiffImagePlugin.PHOTOMETRIC_INTERPRETATION: 0}
    expect(Image.fromarray(np.full((8, 8), (255 - level) * 257, np.uint16)), [level] * 3, "tiff", tiffinfo=white_is_0)
    transparent = Image.fromarray(np.full((8, 8), level * 257, np.uint16))
    expect(transparent, [255] * 3, transparency=level * 257)
    with pytest.raises(ValueError, match="floating-point"):
        decode(encode(Image.new("F", (8, 8), 0.5), "tiff"), 2)


# --- folders and archives ---------------------------------------------------------------------------------------------


def test_a_folder_is_read_with_its_subfolders_in_order(photos):
    found = PhotoFolder(photos, 6, cache=False)
    assert found.names == ["a.webp", "b/1.jpg", "b/deep/2.png", "c.PNG"]
    assert len(found) == 4
    assert found.skipped == []
    assert found.images.dtype == torch.uint8
    assert found.images.shape == (4, 3, 6, 6)
    assert found.images[[0, 2, 3], :, 3, 3].tolist() == [[60, 61, 62], [20, 21, 22], [80, 81, 82]]


def test_folders_that_are_links_are_followed_once(photos, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Image.new("RGB", (20, 20)).save(elsewhere / "far.png")
    (elsewhere / "ring").symlink_to(photos)
    (elsewhere / ".hidden").symlink_to(photos.parent)
    before = PhotoFolder(photos, 16).names
    (photos / "z").symlink_to(elsewhere)
    assert PhotoFolder(photos, 16).names == sorted([*before, "z/far.png"])


def test_an_archive_equals_the_folder_that_it_holds(photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in sorted(photos.rglob("*"), reverse=True):  # stored in another order, with entries for folders
            archive.write(path, path.relative_to(photos).as_posix())
    a, b = (PhotoFolder(path, 8, cache=False) for path in (photos, tmp_path / "photos.zip"))
    assert a.names == b.names
    assert torch.equal(a.images, b.images)


def test_what_could_not_be_read_is_read_when_it_can_be(photos, monkeypatch, tmp_path):
    """HEIC, once pillow-heif is installed."""
    write(photos, "d.heic", encode(Image.new("RGB", (5, 5))))
    monkeypatch.setattr(module, "register_heif", lambda: False)
    monkeypatch.setattr(module, "load_square", refusing_heic(module.load_square))
    assert len(PhotoFolder(photos, 4, cache=tmp_path / "cache")) == 4
    monkeypatch.undo()
    assert len(PhotoFolder(photos, 4, cache=tmp_path / "cache")) == 5


def test_heic_without_its_extra_says_what_to_install(photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    write(photos, "d.heic", b"\0\0\0\x18ftypheic" + bytes(200))
    assert dict(PhotoFolder(photos, 4, cache=False).skipped)["d.heic"] == (
        'HEIC photos need pillow-heif: pip install "argan[heic]"'
    )


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "disk"), MemoryError()])
def test_what_could_not_be_read_once_is_tried_again(photos, monkeypatch, tmp_path, error):
    read = FolderSource.read

    def failing(source, name):
        if name == "a.webp":
            raise error
        return read(source, name)

    monkeypatch.setattr(FolderSource, "read", failing)
    assert len(PhotoFolder(photos, 4, cache=tmp_path / "cache")) == 3
    monkeypatch.undo()
    assert len(PhotoFolder(photos, 4, cache=tmp_path / "cache")) == 4


def refusing_heic(load):
    def decode(file, *options):
        if file.getvalue() == encode(Image.new("RGB", (5, 5))):
            raise OSError("not a picture")
        return load(file, *options)

    return decode


def refuse(monkeypatch, name):
    """Let the system refuse to list folders of that name, also to root."""
    scan = os.scandir

    def scandir(path):
        if os.path.basename(path) == name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_a_folder_that_cannot_be_listed_is_an_error(photos, monkeypatch):
    refuse(monkeypatch, "deep")
    with pytest.raises(ArganError, match=r"b.deep: permission denied$"):
        FolderSource(photos).names()


def test_what_a_drive_has_for_itself_is_not_looked_into(photos, monkeypatch):
    write(photos, "lost+found/1.png", b"")
    refuse(monkeypatch, "lost+found")
    assert len(FolderSource(photos).names()) == 4


def test_a_name_that_is_half_a_character(tmp_path):
    """As Windows' names, which are UTF-16, may be."""
    halves = [module.CacheEntry(tmp_path, name, 16, tmp_path).bytes for name in ("\ud83d.png", "\ud83e.png")]
    assert halves[0] != halves[1]


def test_other_files_are_passed_over(photos):
    own = ("a.depth.png", "a.depth-view.png", "a.bokeh.jpg", "a.sweep/a.001.jpg", "a.sweep.webp")  # argan wrote these
    for name in (
        "readme.txt",
        "$RECYCLE.BIN/S-1-5/$R1.png",
        "$Recycle.Bin/$R2.png",
        "labels.mat",
        ".hidden.png",
        "__MACOSX/._a.webp",
        ".git/x.png",
        *own,
    ):
        write(photos, name, b"not a picture")
    found = PhotoFolder(photos, 4, cache=False)
    assert len(found) == 4
    assert found.skipped == []


@pytest.mark.parametrize("cache", [True, False])
def test_unreadable_files_are_skipped_counted_and_named(photos, caplog, cache):
    whole = encode(quadrants(64, 64), "jpeg")
    write(photos, "b/cut.jpg", whole[: len(whole) // 2])
    write(photos, "empty.png", b"")
    write(photos, "text.webp", b"hello")
    (photos / "link.png").symlink_to(photos / "gone.png")
    expected = ["b/cut.jpg", "empty.png", "link.png", "text.webp"]
    for _ in range(2):  # the second time from the cache, which must not forget them
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = PhotoFolder(photos, 4, cache=cache)
        assert [name for name, _ in found.skipped] == expected
        assert dict(found.skipped)["text.webp"] == "not a picture"
        assert "truncated" in dict(found.skipped)["b/cut.jpg"].lower()
        assert found.images.shape == (4, 3, 4, 4)
        (record,) = caplog.records
        assert "4 of 8 files skipped" in record.message
        assert all(name in record.message for name in expected)


@pytest.mark.parametrize(("count", "more"), [(5, ""), (6, " and 1 more")])
def test_of_many_unreadable_files_five_are_named(photos, caplog, count, more):
    for number in range(count):
        write(photos, f"text{number}.webp", b"hello")
    with caplog.at_level(logging.WARNING):
        PhotoFolder(photos, 4, cache=False)
    (record,) = caplog.records
    assert record.message.endswith(f"text4.webp (not a picture){more}")


def test_of_several_processes_one_names_what_is_skipped(photos, caplog, monkeypatch):
    write(photos, "text.webp", b"hello")
    monkeypatch.setenv("RANK", "1")
    with caplog.at_level(logging.WARNING):
        assert PhotoFolder(photos, 4, cache=False).skipped == [("text.webp", "not a picture")]
    assert not caplog.records


def test_a_damaged_archive_member_is_skipped(tmp_path):
    path = tmp_path / "photos.zip"
    content = encode(quadrants())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bad.png", content)
        archive.writestr("good.png", content)
    data = bytearray(path.read_bytes())
    data[data.index(content) + 60] ^= 255
    path.write_bytes(data)
    found = PhotoFolder(path, 4, cache=False)
    assert found.names == ["good.png"]
    assert "CRC" in found.skipped[0][1]


def test_what_cannot_be_used_at_all_is_an_error(tmp_path, photos):
    with pytest.raises(UsageError, match="no such folder or archive"):
        PhotoFolder(tmp_path / "nowhere", 4)
    with pytest.raises(UsageError, match="neither a folder nor a zip"):
        PhotoFolder(write(tmp_path, "cut.zip", b"PK\x03\x04 and no more"), 4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArganError, match="holds no pictures"):
        PhotoFolder(tmp_path / "empty", 4)
    write(tmp_path, "bad/x.png", b"")
    with pytest.raises(ArganError, match="none of its 1 pictures can be read"):
        PhotoFolder(tmp_path / "bad", 4)


def test_progress_is_told(photos):
    told = []
    PhotoFolder(photos, 4, cache=False, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


# --- the cache --------------------------------------------------------------------------------------------------------


@pytest.fixture
def decoded(monkeypatch):
    """How often the pictures were decoded."""
    calls = []
    original = module.decode_all
    monkeypatch.setattr(module, "decode_all", lambda *arguments: calls.append(1) or original(*arguments))
    return calls


def test_the_second_time_nothing_is_decoded(photos, decoded, private_cache):
    first, second = PhotoFolder(photos, 5), PhotoFolder(photos, 5)
    assert len(decoded) == 1
    assert torch.equal(first.images, second.images)
    assert first.names == second.names
    assert sorted(path.suffix for path in private_cache.iterdir()) == [".json", ".npy"]
    second.images.zero_()  # a memory map of one's own: the file does not change
    assert torch.equal(first.images, PhotoFolder(photos, 5).images)


def test_the_cache_knows_when_it_is_stale(photos, decoded):
    PhotoFolder(photos, 5)
    PhotoFolder(photos, 6)  # another size
    assert len(decoded) == 2
    os.utime(photos / "a.webp", ns=(0, 0))  # a file was touched
    PhotoFolder(photos, 5)
    assert len(decoded) == 3
    write(photos, "new.png", encode(quadrants()))
    assert len(PhotoFolder(photos, 5)) == 5
    assert len(decoded) == 4


def test_the_cache_can_be_switched_off_or_moved(photos, decoded, private_cache, tmp_path):
    PhotoFolder(photos, 5, cache=False)
    PhotoFolder(photos, 5, cache=tmp_path / "elsewhere")
    PhotoFolder(photos, 5, cache=tmp_path / "elsewhere")
    assert len(decoded) == 2
    assert list(private_cache.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY and no more"])
def test_a_damaged_cache_is_made_again(photos, decoded, private_cache, damage):
    whole = PhotoFolder(photos, 5).images.clone()
    for path in private_cache.glob("*.npy"):
        path.write_bytes(damage)
    assert torch.equal(PhotoFolder(photos, 5).images, whole)
    PhotoFolder(photos, 5)
    assert len(decoded) == 2


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(photos, decoded, tmp_path):
    blocked = write(tmp_path, "a-file", b"")  # no folder can be made below it, not even by root
    assert len(PhotoFolder(photos, 5, cache=blocked / "cache")) == 4
    assert len(PhotoFolder(photos, 5, cache=blocked / "cache")) == 4
    assert len(decoded) == 2


def test_an_interrupted_write_leaves_no_cache_and_no_litter(photos, decoded, private_cache, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module.np, "save", full_disk)
        assert len(PhotoFolder(photos, 5)) == 4
    assert list(private_cache.iterdir()) == []


# --- batches ----------------------------------------------------------------------------------------------------------


def test_batch_gathers_flips_and_scales(photos):
    write(photos, "d.png", encode(quadrants()))
    found = PhotoFolder(photos, 8, cache=False)
    batch = found.batch(torch.tensor([4, 4, 0]), torch.tensor([False, True, False]))
    assert batch.dtype == torch.float32
    assert batch.shape == (3, 3, 8, 8)
    assert torch.equal(batch[0], found.images[4] / 255)
    assert torch.equal(batch[1], batch[0].flip(-1))
    assert not torch.equal(batch[1], batch[0])
    assert 0 <= batch.min() < batch.max() <= 1
