"""argan.render and argan.estimate_depth: kinds, exactness, focus, depth, alpha, scale, gradients, devices."""

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torch._subclasses.fake_tensor import FakeTensorMode

import argan
from argan import grain, light, photo, views
from argan.curves import SRGB
from argan.errors import ArganError, MissingError, UsageError
from argan.images import Photo
from argan.kernels.bokeh import op
from argan.kernels.bokeh.aperture import _outline, fitted_kernel
from argan.models.hub import Config, DepthInfo, Model

HEIGHT, WIDTH = 36, 48


def texture(channels: int = 3, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """(H, W, C) floats in [0, 1]."""
    return np.random.default_rng(seed).random((height, width, channels), dtype=np.float32)


def halves(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Left half far (0.2), right half near (0.8)."""
    return np.where(np.arange(width) < width // 2, 0.2, 0.8).astype(np.float32)[None].repeat(height, axis=0)


def as_kind(pixels: np.ndarray, kind: str):
    if kind == "pil":
        return Image.fromarray((pixels * 255).astype(np.uint8))
    if kind == "tensor":
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
    if kind == "batch":
        return torch.from_numpy(np.stack([pixels, 1 - pixels])).permute(0, 3, 1, 2).contiguous()
    scale = {"uint8": 255, "uint16": 65535}.get(kind)
    return (pixels * scale).astype(kind) if scale else pixels.astype(kind)


def values(image) -> np.ndarray:
    """Any kind of picture as an array in its own layout and units."""
    return image.numpy() if isinstance(image, torch.Tensor) else np.asarray(image)


KINDS = ["pil", "uint8", "uint16", "float16", "float32", "float64", "tensor", "batch"]


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(1)
    return Model(Config(name="tiny", depth=DepthInfo(width=8, resolution=16, levels=2))).eval().requires_grad_(False)


# Kinds


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_kind_comes_back(kind: str) -> None:
    image = as_kind(texture(), kind)
    result = argan.render(image, blur=8, depth=halves())
    assert type(result) is type(image)
    assert values(result).shape == values(image).shape
    assert values(result).dtype == values(image).dtype
    assert np.isfinite(values(result).astype(np.float64)).all()
    assert not np.array_equal(values(result), values(image))


@pytest.mark.parametrize("kind", KINDS)
def test_without_blur_the_pixels_come_back_exactly(kind: str) -> None:
    image = as_kind(texture(), kind)
    assert np.array_equal(values(argan.render(image, blur=0, depth=halves())), values(image))


@pytest.mark.parametrize("kind", KINDS)
def test_in_focus_the_pixels_come_back_exactly(kind: str) -> None:
    image = as_kind(texture(), kind)
    result = argan.render(image, blur=8, depth=np.full((HEIGHT, WIDTH), 0.5, np.float32), focus=0.5)
    tolerance = {"float16": 1e-3, "float32": 1e-6, "tensor": 1e-6, "batch": 1e-6, "float64": 1e-6}.get(kind, 0)
    np.testing.assert_allclose(values(result), values(image), rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_input_is_not_changed(kind: str) -> None:
    image, depth = as_kind(texture(), kind), halves()
    before = image.copy(), depth.copy()
    argan.render(image, blur=8, depth=depth)
    assert np.array_equal(image, before[0])
    assert np.array_equal(depth, before[1])


def test_kinds_agree() -> None:
    pixels = (texture() * 255).astype(np.uint8)
    from_pil = np.asarray(argan.render(Image.fromarray(pixels), blur=8, depth=halves()))
    from_array = argan.render(pixels, blur=8, depth=halves())
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    from_tensor = argan.render(tensor, blur=8, depth=torch.from_numpy(halves())).permute(1, 2, 0).numpy()
    floats = argan.render(pixels.astype(np.float32) / 255, blur=8, depth=halves())
    assert np.array_equal(from_pil, from_array)
    assert np.array_equal(from_tensor, from_array)
    np.testing.assert_allclose(from_array / 255, floats, rtol=0, atol=1.01 / 255)  # 8 bits are dithered


def test_layouts_of_memory_do_not_matter() -> None:
    image, depth = (texture() * 255).astype(np.uint8), halves()
    expected = argan.render(image, blur=8, depth=depth)
    read_only = image.copy()
    read_only.flags.writeable = False
    for same in (np.asfortranarray(image), image[::-1][::-1], read_only):
        assert np.array_equal(argan.render(same, blur=8, depth=np.asfortranarray(depth)), expected)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    assert not tensor.is_contiguous()
    assert np.array_equal(argan.render(tensor, blur=8, depth=depth).permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_floats_to_255_are_refused(kind: Any) -> None:
    picture = (texture() * 255).astype(np.float32)
    image = kind(picture if kind is np.asarray else np.ascontiguousarray(picture.transpose(2, 0, 1)))
    for use in (argan.render, argan.estimate_depth):
        with pytest.raises(UsageError, match="most of this picture is far beyond") as raised:
            use(image)
        assert raised.value.hint == "divide it by 255"


def test_highlights_of_less_than_half_a_picture_may_be_of_any_brightness() -> None:
    picture = texture()
    picture[: HEIGHT // 3] = 40.0
    assert argan.render(picture, depth=np.zeros((HEIGHT, WIDTH)), blur=0).max() == 40


def test_axes_in_the_other_order_are_hinted_at() -> None:
    for image, hint in ((np.zeros((3, 40, 50), np.float32), "(H, W, C)"), (torch.zeros(40, 50, 3), "(C, H, W)")):
        with pytest.raises(UsageError, match="1 to 4 channels") as raised:
            argan.render(image)
        assert hint in str(raised.value.hint)


def test_a_depth_map_and_a_model_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        argan.render(texture(), depth=np.zeros((HEIGHT, WIDTH)), model="birds")


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_modes_of_pil(channels: int, mode: str) -> None:
    pixels = (texture(channels) * 255).astype(np.uint8)
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    result = argan.render(image, blur=8, depth=halves())
    assert (result.mode, result.size) == (mode, image.size)


def test_pil_16_bit_grey() -> None:
    image = Image.fromarray((texture(1)[:, :, 0] * 65535).astype(np.uint16))
    assert argan.render(image, blur=8, depth=halves()).mode == "I;16"


def test_pil_is_turned_upright_and_keeps_its_profile() -> None:
    image = Image.fromarray((texture() * 255).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.info.update(exif=exif.tobytes(), icc_profile=profile)
    result = argan.render(image, blur=0, depth=halves(WIDTH, HEIGHT))
    assert result.size == (HEIGHT, WIDTH)
    assert np.array_equal(np.asarray(result), np.rot90(np.asarray(image), -1))
    assert result.info["icc_profile"] == profile
    assert result.getexif()[0x0112] == 1


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (HEIGHT, WIDTH, 1)])
def test_grey_arrays(shape: tuple[int, ...]) -> None:
    grey = texture(1).reshape(shape)
    result = argan.render(grey, blur=8, depth=halves())
    assert result.shape == shape
    colour = argan.render(grey.reshape(HEIGHT, WIDTH, 1).repeat(3, axis=2), blur=8, depth=halves())
    np.testing.assert_allclose(result.reshape(HEIGHT, WIDTH), colour[:, :, 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (16, 17)])
def test_small_pictures(size: tuple[int, int]) -> None:
    result = argan.render(texture(3, *size), blur=50, depth=np.full(size, 0.9, np.float32), focus=0.1)
    assert result.shape == (*size, 3)
    assert np.isfinite(result).all()


# Light


def test_light_is_mixed_and_not_stored_values() -> None:
    """Fine black and white stripes, far out of focus, become half the light: 188 in sRGB, and not 128."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    result = argan.render(stripes, blur=30, depth=np.zeros((64, 64), np.float32), focus=1.0)
    half = float(SRGB.encode(torch.tensor(0.5, dtype=torch.float64))) * 255
    assert np.abs(result[24:40, 24:40].astype(float) - half).max() < 2


def linear_profile() -> bytes:
    curve = b"curv" + bytes(8)
    tags = b"".join(struct.pack(">4sII", name, 168, len(curve)) for name in (b"rTRC", b"gTRC", b"bTRC"))
    return bytes(128) + struct.pack(">I", 3) + tags + curve


def test_the_photos_own_curve_is_used() -> None:
    """The same stripes with a linear profile become 128."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    image = Image.fromarray(stripes)
    image.info["icc_profile"] = linear_profile()
    # A disc of this size leaves 0.3 levels of such stripes, one of blur 30 alone 1.6: it is the curve that is measured.
    result = argan.render(image, blur=32, depth=np.zeros((64, 64), np.float32), focus=1.0)
    assert np.abs(np.asarray(result)[24:40, 24:40].astype(float) - 127.5).max() < 2
    look = photo.Look(32, photo.as_aperture("disk"))  # as the command does, with a photo from a file
    from_file = photo.render_photo(Photo(stripes, icc=linear_profile()), torch.zeros(1, 1, 64, 64), look, (1.0, 1.0))
    assert np.array_equal(from_file.pixels, np.asarray(result))


@pytest.mark.parametrize("channels", [3, 4])
def test_the_photos_own_curve_says_how_bright_its_greys_are(channels: int) -> None:
    """Also where it is transparent."""
    stripes = np.full((64, 64, channels), 64, np.uint8)
    stripes[:, ::2] = 192
    stripes[..., 3:] = 128
    image = Image.fromarray(stripes)
    image.info["icc_profile"] = linear_profile()
    result = argan.render(image, blur=32, depth=np.zeros((64, 64), np.float32), focus=1.0, grain=0)
    assert np.abs(np.asarray(result)[24:40, 24:40].astype(float) - 128).max() < 2


def test_energy_is_kept() -> None:
    """A light in the dark: the same light, spread over the disc that the definition gives."""
    lit = np.zeros((65, 65, 3), np.float64)
    lit[32, 32] = 1.0
    result = argan.render(lit, blur=20, depth=np.full((65, 65), 0.2, np.float32), focus=0.7)
    linear = SRGB.decode(torch.from_numpy(result)).numpy()[:, :, 0]
    assert linear.sum() == pytest.approx(1, abs=0.02)
    y, x = np.mgrid[-32:33, -32:33]
    radius = 20 / 200 * 65 * 0.5  # B / 200 x long side x |d - f|
    rms = np.sqrt((linear * (x**2 + y**2)).sum() / linear.sum())
    assert rms == pytest.approx(radius / np.sqrt(2), rel=0.1)


def test_twice_the_size_is_the_same_picture() -> None:
    small = torch.nn.functional.interpolate(torch.rand(1, 3, 9, 12), size=(48, 64), mode="bicubic").clamp(0, 1)
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    depth = torch.full((48, 64), 0.2)
    a = argan.render(small, blur=12, depth=depth, focus=0.9)
    b = argan.render(large, blur=12, depth=depth.repeat_interleave(2, 0).repeat_interleave(2, 1), focus=0.9)
    assert (torch.nn.functional.avg_pool2d(b, 2) - a).abs().mean() < 0.01


def test_a_portrait_is_blurred_as_the_landscape_is() -> None:
    """By the long side, whichever that is."""
    landscape = argan.render(texture(), blur=12, focus=0.2, depth=halves())
    portrait = argan.render(texture().swapaxes(0, 1).copy(), blur=12, focus=0.2, depth=halves().T.copy())
    np.testing.assert_allclose(portrait.swapaxes(0, 1), landscape, rtol=0, atol=1e-4)
    assert np.abs(landscape - texture()).max() > 0.2


def test_tiles_leave_no_seams_and_grain_does_not_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    image = (0.5 + 0.1 * np.random.default_rng(0).standard_normal((80, 120, 3))).clip(0, 1)
    image = (image * 255).astype(np.uint8)
    depth = np.zeros((80, 120), np.float32)
    whole = argan.render(image, blur=6, focus=1.0, depth=depth)
    monkeypatch.setattr(op, "_steps", lambda *which, steps=op._steps: replace(steps(*which), tile=32))
    assert np.array_equal(argan.render(image, blur=6, focus=1.0, depth=depth), whole)


def test_only_what_is_out_of_focus_is_blurred() -> None:
    image = texture()
    result = argan.render(image, blur=10, depth=halves(), focus=0.8)
    right, left = np.abs(result - image)[:, WIDTH // 2 + 3 :], np.abs(result - image)[:, : WIDTH // 2 - 3]
    assert right.max() < 1e-3
    assert left.mean() > 0.05


def test_what_is_near_spreads_over_what_is_far_and_not_the_other_way_round() -> None:
    """Black before white, then white before black: out of focus, the near half lies over the sharp far one."""
    for near in (0, 1):
        image = np.full((HEIGHT, WIDTH, 3), 1 - near, np.float32)
        image[:, WIDTH // 2 :] = near
        far, before = np.s_[:, WIDTH // 2 - 2], np.s_[:, WIDTH // 2 + 1 :]
        sharp_far, sharp_near = (argan.render(image, blur=40, depth=halves(), focus=focus) for focus in (0.2, 0.8))
        assert np.abs(sharp_far - image)[far].min() > 0.1
        assert np.abs(sharp_near - image)[before].max() < 1e-3


# Alpha


def test_opaque_alpha_changes_nothing() -> None:
    colour = texture()
    opaque = np.concatenate([colour, np.ones((HEIGHT, WIDTH, 1), np.float32)], axis=2)
    result = argan.render(opaque, blur=8, depth=halves())
    np.testing.assert_allclose(result[:, :, :3], argan.render(colour, blur=8, depth=halves()), rtol=0, atol=1e-6)
    assert (result[:, :, 3] == 1).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_opaque_alpha_of_integers_stays_opaque(dtype: type) -> None:
    full = np.iinfo(dtype).max
    opaque = np.concatenate([texture(), np.ones((HEIGHT, WIDTH, 1), np.float32)], axis=2)
    result = argan.render((opaque * full).astype(dtype), blur=8, depth=halves())
    assert (result[:, :, 3] == full).all()


def test_hidden_colours_do_not_show() -> None:
    """A red cut-out on transparent green: wherever something is seen, it is red."""
    image = np.zeros((64, 64, 4), np.float32)
    image[..., 1] = 1
    image[16:48, 16:48] = [1, 0, 0, 1]
    result = argan.render(image, blur=15, depth=np.full((64, 64), 0.9, np.float32), focus=0.2)
    seen = result[..., 3] > 0.02
    assert 32 * 32 < seen.sum() < 64 * 64
    np.testing.assert_allclose(result[seen][:, 0], 1, atol=0.02)
    np.testing.assert_allclose(result[seen][:, 1], 0, atol=0.02)
    assert 0.4 < result[16, 32, 3] < 0.6  # the edge of the cut-out has become half transparent


def test_alpha_is_blurred_by_the_same_aperture() -> None:
    """A level slit softens a cut-out's sides and neither its top nor its bottom."""
    image = np.zeros((64, 64, 4), np.float32)
    image[16:48, 16:48] = 1
    slit = np.zeros((15, 15))
    slit[7] = 1
    result = argan.render(image, blur=30, depth=np.full((64, 64), 0.9, np.float32), focus=0.2, aperture=slit)
    assert 0.2 < result[32, 13, 3] < 0.6
    assert result[13, 32, 3] < 0.05


@pytest.mark.parametrize("focus", [0.1, 0.5, 0.9])
def test_rough_alpha_makes_no_new_colours(focus: float) -> None:
    """A disc before a wall, with a ring of holes along its edge, black where they are transparent."""
    y, x = np.mgrid[:96, :96] - 48
    distance = np.hypot(y, x)
    disc, ring = distance < 27, abs(distance - 27) < 3
    image = np.ones((96, 96, 4), np.float32)
    image[..., :3] = np.where(disc[..., None], (0.3, 0.5, 0.4), (0.6, 0.3, 0.2))
    image[ring & (np.random.default_rng(0).random((96, 96)) < 0.5)] = 0
    seen = image[image[..., 3] > 0]
    result = argan.render(image, blur=6, depth=np.where(disc, 0.9, 0.1).astype(np.float32), focus=focus)
    assert result[..., :3].min((0, 1)) == pytest.approx(seen[:, :3].min(0), abs=1e-5)
    assert result[..., :3].max((0, 1)) == pytest.approx(seen[:, :3].max(0), abs=1e-5)


def test_what_is_wholly_transparent_stays_so() -> None:
    image = np.zeros((32, 32, 4), np.float32)
    image[..., 0] = 0.5
    result = argan.render(image, blur=6, depth=halves(32, 32))
    assert np.isfinite(result).all() and (result[..., 3] == 0).all()


# Depth


def test_depth_of_every_kind() -> None:
    image, depth = texture(), (halves() * 65535).round().astype(np.uint16)
    expected = argan.render(image, blur=8, depth=depth / np.float32(65535))
    for same in (
        depth,
        Image.fromarray(depth),
        torch.from_numpy(depth),
        torch.from_numpy(depth)[None],
        depth[..., None],
    ):
        np.testing.assert_allclose(argan.render(image, blur=8, depth=same), expected, rtol=0, atol=1e-5)
    bytes_ = (halves() * 255).round().astype(np.uint8)
    np.testing.assert_allclose(argan.render(image, blur=8, depth=bytes_), expected, rtol=0, atol=0.02)


def test_depth_as_a_picture_is_what_its_file_would_be() -> None:
    image, grey = texture(), Image.fromarray((halves() * 255).astype(np.uint8))
    expected = argan.render(image, blur=8, depth=grey)
    for mode in ("RGB", "LA"):
        assert np.array_equal(argan.render(image, blur=8, depth=grey.convert(mode)), expected)
    with pytest.raises(ArganError, match="not a depth map"):
        argan.render(image, depth=grey.quantize(16))


def test_each_picture_of_a_batch_has_its_own_depth_and_focus() -> None:
    pictures = as_kind(texture(), "batch")
    depths = torch.from_numpy(np.stack([halves(), halves()[:, ::-1].copy()]))
    together = argan.render(pictures, blur=8, depth=depths, focus=(0.9, 0.5))
    assert torch.equal(argan.render(pictures, blur=8, depth=depths[:, None], focus=(0.9, 0.5)), together)
    for picture, depth, result in zip(pictures, depths, together, strict=True):
        assert torch.equal(argan.render(picture, blur=8, depth=depth, focus=(0.9, 0.5)), result)


@pytest.mark.parametrize("scale", [0.1, 0.5, 2])
def test_depth_of_another_size(scale: float) -> None:
    y, x = np.mgrid[0:120, 0:160]
    image = np.stack([0.5 + 0.3 * np.sin(x / 9), 0.5 + 0.3 * np.cos(y / 7), x / 160], axis=2).astype(np.float32)
    plane = (x / 160).astype(np.float32)
    size = round(160 * scale), round(120 * scale)
    resized = np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BOX))
    result = argan.render(image, blur=5, depth=resized, focus=0.5)
    expected = argan.render(image, blur=5, depth=plane, focus=0.5)
    assert np.abs(result - expected).mean() < 0.01


def test_coarse_depth_gets_its_edges_from_the_photo() -> None:
    pixels = np.full((256, 320, 3), 0.3, np.float32) + 0.02 * texture(3, 256, 320)
    pixels[:, 150:] += 0.4
    truth = np.where(np.arange(320) < 150, 0.1, 0.9).astype(np.float32)[None].repeat(256, axis=0)
    coarse = np.array(Image.fromarray(truth).resize((20, 16), Image.Resampling.BOX))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    fitted = photo.fit_depth(torch.from_numpy(coarse)[None, None], tensor)[0, 0].numpy()
    assert (np.abs(fitted - truth) > 0.1).mean() < 0.005


@pytest.mark.parametrize("shape", [(WIDTH, HEIGHT), (HEIGHT, 2 * WIDTH)])
def test_depth_of_another_shape_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="they differ in shape"):
        argan.render(texture(), depth=np.zeros(shape, np.float32))


@pytest.mark.parametrize("bad", [2.0, -0.1, np.nan])
def test_depth_that_is_no_disparity_is_refused(bad: float) -> None:
    with pytest.raises(UsageError, match=r"disparity in \[0, 1\]"):
        argan.render(texture(), depth=np.full((HEIGHT, WIDTH), bad, np.float32))


def test_wrong_dimensions_of_depth() -> None:
    with pytest.raises(UsageError, match="one disparity map"):
        argan.render(texture(), depth=texture())


# Focus


def test_focus_on_a_point() -> None:
    disparity = torch.from_numpy(halves())[None, None]
    assert photo.plane_in_focus((0.1, 0.5), disparity) == pytest.approx(0.2)
    assert photo.plane_in_focus((0.9, 0.5), disparity) == pytest.approx(0.8)
    for corner in ((0, 0), (1, 1), (0, 1), (1, 0)):
        assert photo.plane_in_focus(corner, disparity) in (pytest.approx(0.2), pytest.approx(0.8))


def test_auto_focus_of_a_given_map_is_what_stands_in_the_centre() -> None:
    disparity = torch.full((1, 1, 300, 400), 0.1)
    disparity[:, :, 90:210, 120:280] = 0.7  # 16 % of the area
    assert photo.plane_in_focus("auto", disparity) == pytest.approx(0.7)
    assert photo.plane_in_focus("auto", 1 - disparity) == pytest.approx(0.3)
    disparity = torch.full((1, 1, 300, 400), 0.1)
    disparity[:, :, :120, :160] = 0.7  # as large, in a corner
    assert photo.plane_in_focus("auto", disparity) == pytest.approx(0.1)


def test_auto_focus_of_a_model_is_the_learned_plane(model: Model) -> None:
    disparity = torch.rand(1, 1, 32, 32)
    assert photo.plane_in_focus("auto", disparity, model) == model.depth.focus


def test_focus_numbers_and_points_agree() -> None:
    image = texture()
    by_point = argan.render(image, blur=8, depth=halves(), focus=(0.1, 0.1))
    assert np.array_equal(by_point, argan.render(image, blur=8, depth=halves(), focus=float(np.float32(0.2))))


@pytest.mark.parametrize("focus", ["near", (0.5,), (0.5, 1.2), (-0.1, 0.5), (0.1, 0.2, 0.3), 1.5, -0.5, float("nan")])
def test_focus_that_is_none(focus: object) -> None:
    with pytest.raises(UsageError, match="focus") as caught:
        argan.render(texture(), depth=halves(), focus=focus)
    assert isinstance(focus, str) == ('"face"' in str(caught.value.hint))


@pytest.mark.parametrize("blur", [-1, 101, float("nan"), float("inf")])
def test_blur_out_of_range(blur: float) -> None:
    with pytest.raises(UsageError, match="blur"):
        argan.render(texture(), depth=halves(), blur=blur)


@pytest.mark.parametrize(
    "given",
    [
        *({"blur": "2"}, {"blur": None}, {"blur": (2, 3)}, {"highlights": "2"}, {"grain": None}),
        *({"focus": None}, {"focus": {"x": 0.5}}, {"focus": ("0.5", "0.4")}, {"focus": np.array([0.5, 0.4])}),
        {"focus_range": None},
    ],
)
def test_arguments_of_another_type_are_named(given: dict) -> None:
    with pytest.raises(TypeError, match=rf"\b{next(iter(given))}\b.* is .*number.*, not "):
        argan.render(texture(), depth=halves(), **given)


@pytest.mark.parametrize("number", [1, np.float32(1), np.array(1), torch.tensor(1.0)])
def test_numbers_of_any_kind(number: float) -> None:
    expected = argan.render(texture(), depth=halves(), blur=1, focus=1)
    assert np.array_equal(argan.render(texture(), depth=halves(), blur=number, focus=number), expected)


# Apertures


@pytest.mark.parametrize("aperture", ["hexagon", np.ones((5, 5)), torch.ones(5, 5)])
def test_apertures(aperture: object) -> None:
    image = texture()
    other = argan.render(image, blur=12, depth=halves(), aperture=aperture)
    assert not np.array_equal(other, argan.render(image, blur=12, depth=halves()))


def test_unknown_aperture() -> None:
    with pytest.raises(UsageError, match="unknown aperture 'heart'"):
        argan.render(texture(), depth=halves(), aperture="heart")


# Pictures to judge by


def test_every_view_shows_what_it_is_called_by() -> None:
    """The near half on the right is in front of the focus, and what is near is bright."""
    image, disparity = Photo(as_kind(texture(), "uint8")), torch.from_numpy(halves())[None, None]
    look, colour = photo.Look(50, photo.as_aperture("disk")), image.pixels / np.float32(255)
    radii = (halves() - np.float32(0.6)) * (50 / 200 * WIDTH)
    shown = {
        "depth": views.depth_view(halves()),
        "coc": views.coc_view(colour.mean(-1), radii),
        "focus": views.focus_view(colour, radii),
    }
    for what, expected in shown.items():
        found = np.asarray(photo.show(what, image, disparity, look, (0.6, 0.6)))
        assert np.abs(found.astype(int) - np.asarray(expected)).max() <= 1, what
    layers = np.asarray(photo.show("layers", image, disparity, look, (0.6, 0.6)))[:HEIGHT]
    assert (layers[:, : WIDTH // 2] == layers[0, 0]).all() and (layers[:, WIDTH // 2 :] == layers[0, -1]).all()
    assert (layers[0, 0] != layers[0, -1]).any()


# Models


@pytest.mark.parametrize("kind", KINDS)
def test_estimate_depth(kind: str, model: Model) -> None:
    image = as_kind(texture(), kind)
    disparity = argan.estimate_depth(image, model=model)
    assert isinstance(disparity, torch.Tensor if kind in ("tensor", "batch") else np.ndarray)
    assert tuple(disparity.shape) == ((2, HEIGHT, WIDTH) if kind == "batch" else (HEIGHT, WIDTH))
    assert values(disparity).dtype == np.float32
    assert 0 <= values(disparity).min() <= values(disparity).max() <= 1


def test_render_uses_the_estimate(model: Model) -> None:
    image = texture()
    estimate = argan.estimate_depth(image, model=model)
    focus, around = model.depth.focus, model.depth.focus_range
    expected = argan.render(image, blur=8, depth=estimate, focus=focus, focus_range=around)
    np.testing.assert_allclose(argan.render(image, blur=8, model=model), expected, rtol=0, atol=1e-6)
    plane = argan.render(image, blur=8, depth=estimate, focus=focus)
    np.testing.assert_allclose(argan.render(image, blur=8, model=model, focus=focus), plane, rtol=0, atol=1e-6)
    assert 0 < np.abs(plane - image).max() > np.abs(expected - image).max()


def test_autocast_does_not_reach_the_estimate(model: Model) -> None:
    image = torch.from_numpy(texture()).permute(2, 0, 1)
    with torch.autocast("cpu", torch.bfloat16):
        within = argan.estimate_depth(image, model=model)
    assert torch.equal(within, argan.estimate_depth(image, model=model))


def test_autocast_does_not_reach_the_grain() -> None:
    image = as_kind(0.5 + 0.02 * texture(height=128, width=128), "uint8")
    expected = argan.render(image, blur=8, depth=halves(128, 128), focus=0.8, grain=10)
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(argan.render(image, blur=8, depth=halves(128, 128), focus=0.8, grain=10), expected)


def test_a_model_in_half_precision_estimates_in_full(tmp_path: Path, model: Model) -> None:
    model.save(tmp_path / "tiny", half=True)
    expected = argan.estimate_depth(texture(), model=tmp_path / "tiny")
    halved = argan.load(tmp_path / "tiny").half()
    assert np.array_equal(argan.estimate_depth(texture(), model=halved), expected)
    assert {x.dtype for x in halved.state_dict().values()} == {torch.float16}  # the caller's model stays as it is


def test_the_default_type_of_tensors_does_not_matter(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "tiny")
    image = as_kind(texture(), "uint8")
    expected = argan.render(image, blur=8, model=tmp_path / "tiny")
    for cached in (grain._random, grain._dither):
        cached.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        assert np.array_equal(argan.render(image, blur=8, model=tmp_path / "tiny"), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_default_device_of_tensors_does_not_matter(model: Model) -> None:
    lens = argan.Aperture("pentagon", curvature=0.3, rim=0.5, cat_eye=0.5)
    given = {"blur": 8, "model": model, "highlights": 4, "aperture": lens, "device": "cpu"}
    image = as_kind(texture(), "uint8")
    expected = argan.render(image, **given)
    for cached in (grain._random, grain._dither, light._decoded, light._encoded, fitted_kernel, _outline):
        cached.cache_clear()
    with torch.device("meta"):  # which would keep no values
        assert np.array_equal(argan.render(image, **given), expected)


def test_devices_by_their_objects(model: Model) -> None:
    image = texture()
    expected = argan.render(image, blur=8, model=model, device="cpu")
    assert np.array_equal(argan.render(image, blur=8, model=model, device=torch.device("cpu")), expected)


def test_a_model_by_its_path(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "tiny")
    image = texture()
    by_path = argan.render(image, blur=8, model=str(tmp_path / "tiny"))
    np.testing.assert_allclose(by_path, argan.render(image, blur=8, model=model), rtol=0, atol=1e-6)


def test_depth_sees_stored_values_without_alpha(model: Model) -> None:
    """Grey, 16-bit and transparent versions of a picture have the same depth."""
    grey = (texture(1) * 255).astype(np.uint8)
    expected = argan.estimate_depth(grey.repeat(3, axis=2), model=model)
    transparent = np.concatenate([grey, np.full_like(grey, 100)], axis=2)
    for same in (grey, grey[:, :, 0], transparent, grey.astype(np.uint16) * 257):
        np.testing.assert_allclose(argan.estimate_depth(same, model=model), expected, atol=1e-5)


def test_depth_sees_highlights_as_white(model: Model) -> None:
    image = texture()
    image[image > 0.8] *= 5
    expected = argan.estimate_depth(image.clip(0, 1), model=model)
    assert np.array_equal(argan.estimate_depth(image, model=model), expected)


def test_a_missing_model() -> None:
    with pytest.raises(ArganError, match="no model"):
        argan.render(texture(), model="no/such/model")


def test_a_model_without_depth() -> None:
    with pytest.raises(UsageError, match="estimates no depth"):
        argan.render(texture(), model=Model(Config(name="bare")))


def test_pictures_too_narrow_to_estimate_depth(model: Model) -> None:
    with pytest.raises(UsageError, match="long and narrow"):
        argan.estimate_depth(texture(3, 16, 1700), model=model)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pictures_that_are_not_finite(bad: float) -> None:
    image = texture()
    image[3, 4] = bad
    for picture in (image, torch.from_numpy(image).permute(2, 0, 1)):
        with pytest.raises(UsageError, match="finite"):
            argan.render(picture, depth=halves())


def test_pictures_without_pixels() -> None:
    for empty in (np.zeros((0, 4, 3)), torch.zeros(0, 3, 4, 4), torch.zeros(3, 4, 0)):
        with pytest.raises(UsageError, match="picture"):
            argan.render(empty, depth=np.zeros((4, 4)))
    with pytest.raises(UsageError, match="depth"):
        argan.render(texture(), depth=np.zeros((0, 4)))


def test_pictures_too_small_to_estimate_depth(model: Model) -> None:
    with pytest.raises(UsageError, match="16 pixels"):
        argan.estimate_depth(texture(3, 15, 40), model=model)


# Gradients, devices, types


def test_tensors_are_differentiable() -> None:
    image = torch.rand(3, 12, 14, dtype=torch.float64, requires_grad=True)
    depth = torch.from_numpy(halves(12, 14)).double()
    result = argan.render(image, blur=30, depth=depth, focus=0.8)
    (gradient,) = torch.autograd.grad(result.square().sum(), image)
    assert torch.isfinite(gradient).all()
    assert (gradient != 0).any()


def test_arrays_leave_no_graph_behind() -> None:
    assert torch.is_grad_enabled()
    argan.render(texture(), depth=halves())
    assert torch.is_grad_enabled()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_here() -> None:
    for name in ("cuda", "cuda:1"):
        with pytest.raises(MissingError, match="was asked for"):
            argan.render(texture(), depth=halves(), device=name)
        with pytest.raises(MissingError):
            argan.estimate_depth(torch.rand(3, 32, 32), device=name)


def test_unknown_devices() -> None:
    with pytest.raises(UsageError, match="no device 'tpu'"):
        argan.render(texture(), depth=halves(), device="tpu")


def test_depth_is_estimated_in_full_precision(model: Model) -> None:
    """GPUs would convolve in TF32. What else PyTorch was told stays, within and after."""
    cudnn, seen = torch.backends.cudnn, []

    def flags() -> tuple[bool, ...]:
        return cudnn.conv.fp32_precision == "tf32", cudnn.enabled, cudnn.benchmark, cudnn.deterministic

    assert model.depth is not None
    with cudnn.flags(True, True, deterministic=True, allow_tf32=True):
        watch = model.depth.register_forward_pre_hook(lambda *_: seen.append(flags()))
        argan.estimate_depth(texture(), model=model, device="cpu")
        watch.remove()
        assert flags() == (True, True, True, True)
    assert seen == [(False, True, True, True)]


@pytest.mark.parametrize("of", [torch.backends, torch.backends.cudnn, torch.backends.cudnn.conv])
def test_depth_is_estimated_where_a_program_has_set_its_precision_anew(
    model: Model, of: Any, set_precision: Callable[[Any, str], None]
) -> None:
    """PyTorch refuses to read the elder setting then."""
    expected = argan.estimate_depth(texture(), model=model, device="cpu")
    set_precision(of, "ieee")
    before = torch.backends.cudnn.conv.fp32_precision
    np.testing.assert_array_equal(argan.estimate_depth(texture(), model=model, device="cpu"), expected)
    assert argan.render(texture(), model=model, device="cpu").shape == texture().shape
    assert torch.backends.cudnn.conv.fp32_precision == before


@pytest.mark.parametrize("focus", ["auto", 0.25])
def test_a_map_that_nobody_looks_at_stays_where_it_is(model: Model, focus: str | float) -> None:
    assert model.depth is not None
    nowhere = torch.empty(1, 1, 30, 40, device="meta")
    assert photo.plane_in_focus(focus, nowhere, model) == (model.depth.focus if focus == "auto" else focus)


def test_grain_is_brought_to_a_gpu_once() -> None:
    """Not for each tile. Stand-ins for tensors have no values, so that no GPU is needed."""
    kept = grain._random(), grain._dither()  # from now on: none is to be a stand-in
    with FakeTensorMode(allow_non_fake_inputs=True):
        pixels = torch.empty(3, 8, 8, dtype=torch.uint8, device="cuda")
        finish = photo.Look(1.0, photo.as_aperture("disk"), grain=0).finish(pixels)
    assert finish is not None
    assert finish.dither is not None
    assert {x.device.type for x in (finish.sigma, finish.noise, finish.dither)} == {"cuda"}
    assert {x.device.type for x in kept} == {"cpu"}


@pytest.mark.gpu
def test_gpu_agrees_with_cpu(model: Model) -> None:
    image = (texture(3, 200, 260) * 255).astype(np.uint8)
    estimates = [argan.estimate_depth(image, model=model, device=device) for device in ("cpu", "cuda")]
    assert np.abs(estimates[0] - estimates[1]).max() < 1e-4  # convolutions with 10 bits: 1e-3
    for options in ({"depth": halves(200, 260)}, {"model": model}):
        cpu = argan.render(image, blur=5, device="cpu", **options).astype(int)
        gpu = argan.render(image, blur=5, device="cuda", **options).astype(int)
        assert np.abs(cpu - gpu).max() <= 3
    tensor = torch.rand(3, 64, 64, device="cuda")
    assert argan.render(tensor, depth=halves(64, 64)).device == tensor.device


@pytest.mark.parametrize(
    ("image", "error"),
    [
        ("photo.jpg", TypeError),
        ([[1, 2]], TypeError),
        (np.zeros((4, 4, 3), np.int64), UsageError),
        (np.zeros((4, 4, 5), np.float32), UsageError),
        (np.zeros((2, 4, 4, 3), np.float32), UsageError),
        (np.zeros(4, np.float32), UsageError),
        (torch.zeros(4, 4), UsageError),
        (torch.zeros(2, 5, 4, 4), UsageError),
        (torch.zeros(3, 4, 4, dtype=torch.int64), UsageError),
    ],
)
def test_what_is_no_picture(image: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        argan.render(image, depth=np.zeros((4, 4), np.float32))


def test_a_path_is_no_depth_map() -> None:
    with pytest.raises(TypeError, match="not a path"):
        argan.render(texture(), depth="photo.depth.png")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_of_any_kind(dtype: torch.dtype) -> None:
    image = torch.from_numpy(texture()).permute(2, 0, 1)
    depth = torch.linspace(0, 1, image.shape[2]).expand(image.shape[1:])
    expected, rendered = (argan.render(x, depth=depth, blur=4, focus="subject") for x in (image, image.to(dtype)))
    assert rendered.dtype == dtype
    torch.testing.assert_close(rendered.float(), expected, rtol=0, atol=0.02)


def test_photos_and_depth_of_the_other_byte_order() -> None:
    image = texture()
    depth = (np.linspace(0.3, 0.6, image.shape[1])[None].repeat(image.shape[0], 0) * 65535).astype(np.uint16)
    expected, rendered = (argan.render(image, depth=x, blur=4) for x in (depth, depth.astype(">u2")))
    assert np.array_equal(rendered, expected)
    swapped = argan.render(image.astype(">f4"), depth=depth, blur=4)
    assert np.array_equal(swapped, argan.render(image.astype("<f4"), depth=depth, blur=4))


def test_the_shipped_model_sees_what_it_saw() -> None:
    """Means over sixteenths of the example, measured when it shipped: what it is fed and looks like stays."""
    with Image.open(Path(__file__).parents[1] / "examples" / "photo.jpg") as image:
        disparity = argan.estimate_depth(image, device="cpu")
    height, width = (size - size % 4 for size in disparity.shape)
    means = disparity[:height, :width].reshape(4, height // 4, 4, width // 4).mean((1, 3))
    expected = [
        [0.659, 0.843, 0.721, 0.591],
        [0.655, 0.895, 0.762, 0.610],
        [0.483, 0.621, 0.583, 0.526],
        [0.394, 0.410, 0.389, 0.571],
    ]
    np.testing.assert_allclose(means, expected, atol=5e-3)


def test_all_that_the_readme_names_is_there() -> None:
    names = {"render", "estimate_depth", "load", "Aperture", "kernels", "export", "runtime"}
    assert names <= set(dir(argan))
    for name in names:
        getattr(argan, name)
