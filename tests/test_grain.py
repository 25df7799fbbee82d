"""Noise is measured as it is, given back as it was, and 8-bit values are dithered: no bands."""

import numpy as np
import pytest
import torch

import argan
from argan import grain as module
from argan.errors import UsageError
from argan.grain import FINE, LEVELS, TILE, Finish, Grain, measure_grain, no_grain
from argan.light import FULL_SCALE


def ramp(height: int = 240, width: int = 320, low: float = 0.25, high: float = 0.75) -> torch.Tensor:
    """(3, H, W) in [0, 1]: smooth, other in each channel."""
    y, x = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)
    return torch.stack(
        [low + (high - low) * t for t in (x.expand(height, width), y.expand(height, width), (x + y) / 2)]
    )


def noisy(sigma: float, dtype: torch.dtype = torch.uint8, lag: float = 0.0) -> torch.Tensor:
    picture = ramp()
    noise = torch.randn(picture.shape)
    if lag:
        noise = (noise + lag * (noise.roll(1, -1) + noise.roll(-1, -1))) / (1 + 2 * lag * lag) ** 0.5
        noise = (noise + lag * (noise.roll(1, -2) + noise.roll(-1, -2))) / (1 + 2 * lag * lag) ** 0.5
    steps = FULL_SCALE[dtype]
    return ((picture + sigma * noise) * steps).round().clamp(0, steps).to(dtype)


def inner(levels: torch.Tensor) -> torch.Tensor:
    """What was measured where the ramp has values."""
    return levels[:, LEVELS * 3 // 8 : LEVELS * 5 // 8 + 1]


# Measuring


@pytest.mark.parametrize("sigma", [0.003, 0.006, 0.01])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_noise_is_measured(sigma: float, dtype: torch.dtype) -> None:
    grain = measure_grain(noisy(sigma, dtype))
    torch.testing.assert_close(inner(grain.sigma), torch.full_like(inner(grain.sigma), sigma), rtol=0.12, atol=0)
    torch.testing.assert_close(grain.mixing, torch.eye(3), rtol=0, atol=0.06)


def test_noise_of_each_channel_and_brightness() -> None:
    picture = ramp()
    sigma = torch.stack([0.004 + 0 * picture[0], 0.010 + 0 * picture[1], 0.004 + 0.008 * picture[2]])
    pixels = ((picture + sigma * torch.randn(picture.shape)) * 65535).clamp(0, 65535).to(torch.uint16)
    red, green, blue = inner(measure_grain(pixels).sigma)
    assert red.mean() == pytest.approx(0.004, rel=0.15)
    assert green.mean() == pytest.approx(0.010, rel=0.15)
    assert blue[-1] > 1.15 * blue[0]


def test_coarse_grain_is_seen_to_be_coarse() -> None:
    fine, coarse = (measure_grain(noisy(0.01, torch.uint16, lag)).lag for lag in (0, 0.5))
    assert abs(fine) < 0.08
    assert coarse == pytest.approx(0.667, abs=0.2)  # 2 a / (1 + 2 a^2); what is wider than a block is not seen


def test_details_are_no_noise() -> None:
    """Half of the picture is fine texture: the noise of the other half is what counts."""
    pixels = noisy(0.006)
    pixels[:, :, ::2] += 40
    pixels[:, :, 100:] = noisy(0.006)[:, :, 100:]
    assert inner(measure_grain(pixels).sigma).max() < 0.009


def test_burnt_out_sky_does_not_hide_the_noise_of_what_is_bright() -> None:
    picture = ramp(low=0.9, high=0.96)
    pixels = ((picture + 0.006 * torch.randn(picture.shape)) * 65535).to(torch.uint16)
    pixels[:, :80] = 65200
    assert measure_grain(pixels).sigma[:, 15].numpy() == pytest.approx([0.006] * 3, rel=0.15)


def test_clipped_light_and_flat_pictures_have_none() -> None:
    assert measure_grain(torch.full((3, 128, 128), 255, dtype=torch.uint8)).sigma.eq(0).all()
    assert measure_grain(torch.full((1, 128, 128), 90, dtype=torch.uint8)).sigma.eq(0).all()
    assert measure_grain(torch.zeros(3, 5, 3, dtype=torch.uint8)).sigma.eq(0).all()  # smaller than a block


# Giving it back


def finished(pixels: torch.Tensor, coc: float, strength: float = 1.0) -> torch.Tensor:
    """What is added to a smooth picture, in fractions of full scale."""
    finish = Finish(measure_grain(pixels), strength, torch.float32).at(torch.full(pixels.shape[1:], float(coc)))
    return torch.stack([finish(plane, channel) for channel, plane in enumerate(ramp())]) - ramp()


@pytest.mark.parametrize("lag", [0.0, 0.4])
def test_what_is_added_is_like_what_was_there(lag: float) -> None:
    pixels = noisy(0.01, torch.uint16, lag)
    added = finished(pixels, coc=50.0)[:, 40:200, 100:220]
    assert added.std() == pytest.approx(0.01, rel=0.25 if lag else 0.12)
    assert abs(float(added.mean())) < 0.0005
    neighbours = float((added[..., 1:] * added[..., :-1]).mean() / added.var())
    assert neighbours == pytest.approx(2 * lag / (1 + 2 * lag**2), abs=0.25 if lag else 0.08)


def test_channels_are_as_alike_as_the_photos() -> None:
    shared = torch.randn(240, 320)
    pixels = ((ramp() + 0.01 * shared) * 65535).round().to(torch.uint16)
    added = finished(pixels, coc=50.0)[:, 40:200, 100:220].flatten(1)
    assert added.std(1).numpy() == pytest.approx([0.01] * 3, rel=0.12)
    assert torch.corrcoef(added).min() > 0.85


def test_large_pictures_get_the_same_noise_again_and_again() -> None:
    pixels = noisy(0.01, torch.uint16)
    level = torch.full((TILE + 40, TILE + 60), 0.5)
    added = Finish(measure_grain(pixels), 1.0, torch.uint16).at(torch.full_like(level, 9.0))(level, 1) - level
    assert torch.equal(added[:40, :60], added[TILE:, TILE:])
    assert added[TILE:, TILE:].std(0).min() > 0.004


def test_little_blur_needs_little_grain() -> None:
    pixels = noisy(0.01, torch.uint16)
    sizes = [float(finished(pixels, coc=coc).std()) for coc in (0.5, 0.8, 3.0, 30.0)]
    assert sizes[0] == 0
    assert sizes == sorted(sizes)
    assert sizes[1] / sizes[3] == pytest.approx(np.sqrt(1 - 1 / (np.pi * 0.64)), rel=0.05)


def test_between_measured_levels_noise_changes_evenly() -> None:
    grain = Grain(torch.rand(3, LEVELS + 1), torch.eye(3), 0.0)
    sigma, step = Finish(grain, 1.0, torch.uint16).sigma, FINE // LEVELS
    torch.testing.assert_close(sigma[:, ::step], grain.sigma)  # black and white included
    torch.testing.assert_close(sigma[:, step // 2 :: step], (grain.sigma[:, 1:] + grain.sigma[:, :-1]) / 2)


def test_strength() -> None:
    pixels = noisy(0.01, torch.uint16)
    assert finished(pixels, 30, strength=2).std() == pytest.approx(2 * float(finished(pixels, 30).std()), rel=1e-3)
    assert finished(pixels, 30, strength=0).abs().max() == 0


# In the renderer


def far_and_sharp() -> np.ndarray:
    """Left half far, right half in focus."""
    return np.where(np.arange(320) < 160, 0.1, 0.9).astype(np.float32)[None].repeat(240, axis=0)


def picture(sigma: float, dtype: torch.dtype = torch.uint8) -> np.ndarray:
    return noisy(sigma, dtype).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_blurred_parts_get_the_noise_back_and_sharp_ones_stay(dtype: torch.dtype) -> None:
    image = picture(0.008, dtype)
    options = {"blur": 8, "depth": far_and_sharp(), "focus": 0.9}
    smooth, grained = argan.render(image, grain=0, **options), argan.render(image, **options)
    far, sharp = (slice(40, 200), slice(40, 120)), (slice(None), slice(200, None))
    assert np.array_equal(grained[sharp], image[sharp])

    def noise(pixels: np.ndarray) -> float:
        values = pixels[far].astype(float) / FULL_SCALE[dtype]
        return float(np.std(values[:, 1:] - values[:, :-1]) / np.sqrt(2))

    assert noise(smooth) < 0.003
    assert noise(grained) == pytest.approx(noise(image), rel=0.15)


def test_what_is_half_transparent_gets_the_noise_back_too() -> None:
    image = picture(0.008)
    image = np.concatenate([image, np.full_like(image[..., :1], 128)], axis=2)
    options = {"blur": 8, "depth": far_and_sharp(), "focus": 0.9}
    smooth, grained = (argan.render(image, **options, grain=grain)[40:200, 40:120, :3] for grain in (0, "auto"))
    added = grained.astype(float) - smooth
    assert added.std() / 255 == pytest.approx(0.008, rel=0.15)


def test_dither_keeps_the_mean_and_moves_by_one_level_at_most() -> None:
    """A smooth ramp, blurred: without dither it would have bands of one level; with it, each band's mean is right."""
    image = np.round(np.linspace(100, 108, 320))[None, :, None].repeat(240, 0).repeat(3, 2).astype(np.uint8)
    depth, exact = np.zeros((240, 320), np.float32), image.astype(np.float64) / 255
    dithered = argan.render(image, blur=20, depth=depth, focus=1.0, grain=0).astype(float)
    exact = argan.render(exact, blur=20, depth=depth, focus=1.0) * 255
    assert np.abs(dithered - exact).max() < 1.02
    columns = np.abs(dithered.mean(0) - exact.mean(0))
    assert columns.max() < 0.15  # rounding alone is off by up to 0.5
    assert np.abs(np.round(exact).mean(0) - exact.mean(0)).max() > 0.4


def test_is_the_same_every_time() -> None:
    image = picture(0.008)
    first = argan.render(image, blur=8, depth=far_and_sharp())
    for drawn in (module._random, module._dither):  # once a process: now as in another one
        drawn.cache_clear()
    assert np.array_equal(first, argan.render(image, blur=8, depth=far_and_sharp()))


def test_no_blur_no_change() -> None:
    image = picture(0.008)
    assert np.array_equal(argan.render(image, blur=0, depth=far_and_sharp(), grain=3), image)


def test_floats_get_none_unless_asked() -> None:
    image = (picture(0.008) / 255).astype(np.float32)
    options = {"blur": 8, "depth": far_and_sharp(), "focus": 0.9}
    auto, none, full = (argan.render(image, **options, grain=grain) for grain in ("auto", 0, 1))
    assert np.array_equal(auto, none)
    assert (full - none)[40:200, 40:120].std() == pytest.approx(0.008, rel=0.15)


def test_grain_leaves_gradients_alone() -> None:
    image = torch.rand(3, 20, 24, requires_grad=True)
    depth = torch.rand(20, 24)
    (without,) = torch.autograd.grad(argan.render(image, depth=depth, blur=9).sum(), image)
    (with_grain,) = torch.autograd.grad(argan.render(image, depth=depth, blur=9, grain=1).sum(), image)
    torch.testing.assert_close(with_grain, without)


@pytest.mark.parametrize("grain", [-1, 11, "much", float("nan")])
def test_what_is_no_grain(grain: object) -> None:
    with pytest.raises(UsageError, match="grain is auto"):
        argan.render(picture(0.01), depth=far_and_sharp(), grain=grain)


def test_parts_of_a_picture_get_the_whole_picture_s_grain() -> None:
    pixels = 0.4 + 0.02 * torch.randn(3, 200, 200, generator=torch.Generator().manual_seed(4))
    coc = torch.rand(600, 700, generator=torch.Generator().manual_seed(5)) * 9
    finish, level = Finish(measure_grain(pixels), 1.0, torch.uint8), torch.full((600, 700), 0.4)
    whole, part = finish.at(coc)(level, 1), (slice(480, 590), slice(500, 620))
    torch.testing.assert_close(finish.at(coc[part], 480, 500)(level[part], 1), whole[part], rtol=0, atol=0)
    assert whole.std() > 0.001


@pytest.mark.parametrize("value", [10, 200, 255])
def test_flat_colours_stay_as_they_are(value: int) -> None:
    """What rounding puts beside a level is not dithered to its neighbour."""
    image = np.full((240, 240, 3), value, np.uint8)
    depth = np.random.default_rng(0).random((12, 12)).repeat(20, 0).repeat(20, 1).astype(np.float32)
    assert (argan.render(image, blur=10, depth=depth, focus=0.5, grain=0) == value).all()


def test_dither_never_reaches_beyond_the_next_level() -> None:
    finish = Finish(no_grain(3), 0, torch.uint8).at(torch.full((600, 700), 9.0))
    level = torch.full((600, 700), 100 / 255)
    assert all(((finish(level, c) * 255 + 0.5).floor() == 100).all() for c in range(3))
