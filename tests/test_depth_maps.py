"""Depth maps in and out."""

import errno
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import SAMPLEFORMAT

from argan.deep_colour import png_16_bit_colour
from argan.depth_maps import check_shape, read_depth, write_depth, write_depth_view
from argan.errors import ArganError, UsageError
from argan.views import depth_colours

RAMP = np.linspace(0, 1, 24 * 31, dtype=np.float32).reshape(24, 31)


@pytest.mark.parametrize(("suffix", "tolerance"), [(".png", 0.5 / 65535), (".tif", 0.5 / 65535), (".npy", 0)])
def test_round_trip(tmp_path: Path, suffix: str, tolerance: float) -> None:
    path = tmp_path / f"map{suffix}"
    write_depth(path, RAMP)
    disparity, note, _ = read_depth(path)
    assert note is None
    assert disparity.dtype == np.float32
    np.testing.assert_allclose(disparity, RAMP, rtol=0, atol=tolerance + 1e-7)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(("name", "kind"), [("map.png", "PNG"), ("map.PNG", "PNG"), ("map.tif", "TIFF")])
def test_written_with_16_bits(tmp_path: Path, name: str, kind: str) -> None:
    write_depth(tmp_path / name, RAMP)
    with Image.open(tmp_path / name) as image:
        assert (image.format, image.mode) == (kind, "I;16")
        assert (np.asarray(image)[0, 0], np.asarray(image)[-1, -1]) == (0, 65535)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA"])
def test_grey_pictures_of_any_mode(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray((RAMP * 255).astype(np.uint8))
    grey.convert(mode).save(tmp_path / "map.png")
    np.testing.assert_allclose(read_depth(tmp_path / "map.png")[0], np.asarray(grey) / 255, atol=1e-6)


def test_32_bits_without_a_sign_have_none(tmp_path: Path) -> None:
    """Pillow reads a TIFF's into a mode that has one: the nearest half would come out farthest."""
    steps = (RAMP.astype(np.float64) * (2**32 - 1)).astype(np.uint32)
    Image.fromarray(steps.view(np.int32)).save(tmp_path / "map.tif")
    signed, unsigned = (struct.pack("<HHIHH", SAMPLEFORMAT, 3, 1, sign, 0) for sign in (2, 1))
    stored = (tmp_path / "map.tif").read_bytes()
    assert stored.count(signed) == 1
    (tmp_path / "map.tif").write_bytes(stored.replace(signed, unsigned))
    np.testing.assert_allclose(read_depth(tmp_path / "map.tif").disparity, RAMP, atol=1e-6)
    distance = read_depth(tmp_path / "map.tif", "distance", unit=1e-9)
    np.testing.assert_allclose(distance.dioptres[0], 1e9 / steps.max(), rtol=1e-6)


@pytest.mark.parametrize("channels", [3, 4])
def test_grey_pictures_of_16_bit_colour_lose_nothing(tmp_path: Path, channels: int) -> None:
    steps = np.arange(20000, 20000 + 24 * 31, dtype=np.uint16).reshape(24, 31, 1).repeat(channels, 2)
    (tmp_path / "map.png").write_bytes(png_16_bit_colour(steps, []))
    np.testing.assert_allclose(read_depth(tmp_path / "map.png")[0], steps[..., 0] / 65535, rtol=0, atol=1e-7)


def test_float_tiff(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "map.tif")
    np.testing.assert_array_equal(read_depth(tmp_path / "map.tif")[0], RAMP)


@pytest.mark.parametrize("shape", [(24, 31), (1, 24, 31), (24, 31, 1)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays(tmp_path: Path, shape: tuple[int, ...], dtype: type) -> None:
    np.save(tmp_path / "map.npy", RAMP.astype(dtype).reshape(shape))
    disparity, note, _ = read_depth(tmp_path / "map.npy")
    assert note is None
    np.testing.assert_allclose(disparity, RAMP, atol=1e-3)


def test_archives(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", anything=RAMP)
    np.savez(tmp_path / "named.npz", disparity=RAMP, intrinsics=np.eye(3))
    np.savez(tmp_path / "depth.npz", depth=RAMP, intrinsics=np.eye(3))
    for name in ("one.npz", "named.npz", "depth.npz"):
        np.testing.assert_array_equal(read_depth(tmp_path / name)[0], RAMP)
    np.savez(tmp_path / "unnamed.npz", a=RAMP, b=RAMP)
    with pytest.raises(ArganError, match="holds a, b"):
        read_depth(tmp_path / "unnamed.npz")


def test_archives_of_both(tmp_path: Path) -> None:
    np.savez(tmp_path / "map.npz", disparity=RAMP, distance=1 + RAMP)
    assert np.array_equal(read_depth(tmp_path / "map.npz")[0], RAMP)
    distance = read_depth(tmp_path / "map.npz", "distance")[0]
    assert distance[0, 0] > distance[-1, -1] == 0


@pytest.mark.parametrize("orientation", [3, 6])
def test_maps_are_turned_upright_as_photos_are(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray((RAMP * 255).astype(np.uint8))
    stored.save(tmp_path / "map.png", exif=exif)
    turned = np.rot90(np.asarray(stored), {3: 2, 6: -1}[orientation])
    np.testing.assert_allclose(read_depth(tmp_path / "map.png")[0], turned / 255, atol=1e-6)


def test_maps_of_16_bit_colour_are_turned_upright_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    steps = np.arange(20000, 20000 + 24 * 31, dtype=np.uint16).reshape(24, 31)
    stored = png_16_bit_colour(np.dstack([steps] * 3), [(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))])
    (tmp_path / "map.png").write_bytes(stored)
    np.testing.assert_allclose(read_depth(tmp_path / "map.png")[0], np.rot90(steps, -1) / 65535, rtol=0, atol=1e-7)


def test_values_below_0_are_stretched(tmp_path: Path) -> None:
    np.save(tmp_path / "map.npy", 0.5 * RAMP - 0.25)
    np.testing.assert_allclose(read_depth(tmp_path / "map.npy")[0], RAMP, atol=1e-5)


def test_values_beyond_1_are_stretched_and_said(tmp_path: Path) -> None:
    np.save(tmp_path / "map.npy", 10 + 30 * RAMP)
    disparity, note, _ = read_depth(tmp_path / "map.npy")
    np.testing.assert_allclose(disparity, RAMP, atol=1e-5)
    assert "disparity from 10 to 40 was stretched" in note


def test_distance_is_inverted(tmp_path: Path) -> None:
    """1, 2 and 4 metres are disparities 1, 1/3 and 0: halfway in 1 / z between 1 and 1/4 lies 1.6 m."""
    np.save(tmp_path / "map.npy", np.array([[1, 1.6, 2, 4]]))
    disparity, note, _ = read_depth(tmp_path / "map.npy", "distance")
    np.testing.assert_allclose(disparity, [[1, 0.5, 1 / 3, 0]], atol=3e-3)
    assert "became disparity 1 to 0" in note


def test_distance_that_is_not_known_is_farthest(tmp_path: Path) -> None:
    np.save(tmp_path / "map.npy", np.array([[1.0, 3.0, 0.0, np.inf]]))
    disparity, note, _ = read_depth(tmp_path / "map.npy", "distance")
    np.testing.assert_allclose(disparity, [[1, 0, 0, 0]], atol=1e-2)
    assert "2 pixels without a distance" in note


def test_constant_distance(tmp_path: Path) -> None:
    np.save(tmp_path / "map.npy", np.full((4, 4), 3.0))
    assert np.isfinite(read_depth(tmp_path / "map.npy", "distance")[0]).all()


def test_16_bit_distance(tmp_path: Path) -> None:
    Image.fromarray(np.array([[1000, 2000, 4000]], np.uint16)).save(tmp_path / "map.png")
    np.testing.assert_allclose(read_depth(tmp_path / "map.png", "distance")[0], [[1, 1 / 3, 0]], atol=3e-3)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5, 3)), "2-D array"),
        (np.zeros(7), "2-D array"),
        (np.zeros((0, 5)), "2-D array"),
        (np.array([["a"]]), "2-D array"),
        (np.array([[1j]]), "2-D array"),
        (np.array([[0.5, np.nan]]), "1 values are not numbers"),
        (np.array([[0.5, np.inf]]), "infinite disparity"),
    ],
)
def test_what_is_no_map(tmp_path: Path, array: np.ndarray, message: str) -> None:
    path = tmp_path / "map.npy"
    np.save(path, array)
    with pytest.raises(ArganError, match=message) as caught:
        read_depth(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "map.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ArganError, match="not a numpy array file"):
        read_depth(tmp_path / "map.npy")


def test_distance_without_any(tmp_path: Path) -> None:
    np.save(tmp_path / "map.npy", np.zeros((3, 3)))
    with pytest.raises(ArganError, match="no distance"):
        read_depth(tmp_path / "map.npy", "distance")


@pytest.mark.parametrize("name", ["map.png", "map.npy", "map.npz"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x93NUMPY", b"PK\x03\x04"])
def test_broken_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArganError) as caught:
        read_depth(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("save", [np.save, np.savez_compressed])
@pytest.mark.parametrize("damage", [0, 0xFF, ord("(")])  # of headers, numpy tells apart what Python can parse
def test_damage_anywhere_in_an_array_is_one_line_or_a_map(tmp_path: Path, save: Callable, damage: int) -> None:
    path = tmp_path / ("map.npy" if save is np.save else "map.npz")
    save(path, RAMP[:4, :5])
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([damage]) + whole[at + 1 :])
        with suppress(ArganError):
            assert read_depth(path).disparity.ndim == 2


@pytest.mark.parametrize("name", ["map.png", "map.npy"])
def test_missing_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArganError, match="no such file"):
        read_depth(tmp_path / name)


def test_colour_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (10, 20, 30)).save(tmp_path / "photo.png")
    Image.new("P", (8, 8)).save(tmp_path / "palette.png")
    for name in ("photo.png", "palette.png"):
        with pytest.raises(ArganError, match="not a depth map"):
            read_depth(tmp_path / name)


def test_formats_that_lose(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="are written as"):
        write_depth(tmp_path / "map.jpg", RAMP)


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    monkeypatch.setattr(np, "save", full)
    for name in ("map.png", "map.npy"):
        with pytest.raises(ArganError, match="cannot be written: no space left"):
            write_depth(tmp_path / name, RAMP)
    assert list(tmp_path.iterdir()) == []


def test_colours_are_a_ramp_of_lightness() -> None:
    colours = depth_colours().astype(np.float64) / 255
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > -1e-3).all()
    lightness = 116 * np.cbrt(luminance) - 16
    np.testing.assert_allclose(lightness[16:], np.linspace(lightness[16], lightness[-1], 240), atol=8)
    assert len(np.unique(depth_colours(), axis=0)) > 250


def test_view(tmp_path: Path) -> None:
    write_depth_view(tmp_path / "view.png", 0.3 + 0.2 * RAMP)
    pixels = np.asarray(Image.open(tmp_path / "view.png"))
    assert pixels.shape == (24, 31, 3)
    assert np.array_equal(pixels[0, 0], depth_colours()[0])
    assert np.array_equal(pixels[-1, -1], depth_colours()[255])
    write_depth_view(tmp_path / "flat.png", np.full((5, 5), 0.5))


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_the_order_of_bytes_does_not_matter(tmp_path: Path, suffix: str) -> None:
    path, steps = tmp_path / f"map{suffix}", 0.3 + 0.3 * RAMP
    stored = (steps * 65535).round().astype(">u2")
    if suffix == ".npy":
        np.save(path, stored)
    else:
        Image.frombytes("I;16B", stored.shape[::-1], stored.tobytes()).save(path)
    np.testing.assert_allclose(read_depth(path).disparity, steps, atol=1e-5)


@pytest.mark.parametrize("unit", [0.0, -1.0, float("nan"), float("inf")])
def test_units_that_are_none(tmp_path: Path, unit: float) -> None:
    np.save(tmp_path / "z.npy", 1 + RAMP)
    with pytest.raises(UsageError, match="above 0"):
        read_depth(tmp_path / "z.npy", "distance", unit)


def test_a_small_map_may_be_rounded_to_whole_pixels() -> None:
    check_shape((6, 8), (450, 650))
    check_shape((480, 640), (3000, 4000))
    check_shape((2, 20), (450, 3700))
    with pytest.raises(UsageError, match="differ in shape"):
        check_shape((480, 640), (3000, 4400))


def test_a_unit_is_metres(tmp_path: Path) -> None:
    np.save(tmp_path / "map.npy", np.array([[1.0, 2.0, 4.0]]))
    assert read_depth(tmp_path / "map.npy", "distance", 2.0).dioptres == pytest.approx((1 / 8, 1 / 2), rel=0.05)
