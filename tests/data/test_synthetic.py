"""The built-in photographs: reproducible, varied, and photographed by the physics that they claim."""

import numpy as np
import pytest
import torch

from argan.data import synthetic
from argan.data.synthetic import SyntheticPhotos, draw_photo, draw_scene, photograph, true_disparity


def test_photograph_depends_on_seed_and_index_alone():
    some, more = SyntheticPhotos(16, count=3), SyntheticPhotos(16, count=5)
    assert torch.equal(some.images, more.images[:3])
    assert not torch.equal(some.images, SyntheticPhotos(16, count=3, seed=1).images)
    assert len({image.numpy().tobytes() for image in more.images}) == 5


def test_sample_is_the_training_photograph_with_its_disparity():
    photos = SyntheticPhotos(16, count=2)
    photo, disparity = photos.sample(1)
    assert photo.shape == (3, 16, 16)
    assert disparity.shape == (1, 16, 16)
    assert torch.equal((photo * 255).round().to(torch.uint8), photos.images[1])
    assert disparity.min() >= 0
    assert disparity.max() <= 1


def test_batch_mirrors_where_asked():
    photos = SyntheticPhotos(16, count=2)
    plain = photos.batch(torch.tensor([0, 1]), torch.tensor([False, False]))
    mirrored = photos.batch(torch.tensor([0, 1]), torch.tensor([False, True]))
    assert torch.equal(mirrored[0], plain[0])
    assert torch.equal(mirrored[1], plain[1].flip(2))


def test_subjects_vary_in_place_and_size_and_are_in_focus():
    scenes = [draw_scene(np.random.default_rng(seed)) for seed in range(60)]
    subjects = [np.flatnonzero(np.abs(scene.disparity) <= 0.05)[0] for scene in scenes]
    centers = np.stack([scene.center[k] for scene, k in zip(scenes, subjects, strict=True)])
    radii = np.array([scene.radius[k] for scene, k in zip(scenes, subjects, strict=True)])
    assert centers.std(axis=0).min() > 0.05
    assert radii.max() > 1.5 * radii.min()
    assert all(np.all(np.diff(scene.disparity[1:]) >= 0) for scene in scenes), "planes must be sorted far to near"


def test_nothing_lies_behind_the_ground():
    for seed in range(60):
        scene = draw_scene(np.random.default_rng(seed))
        ground = scene.disparity[0] + scene.tilt[0] * np.clip(scene.center[1:, 1], -0.5, 0.5)
        assert np.all(scene.disparity[1:] > np.minimum(ground, -0.11))


def one_plane(disparity: float, light: bool = False, tilt: float = 0.0) -> synthetic.Planes:
    """A scene of the ground alone."""
    scene = draw_scene(np.random.default_rng(3))
    first = {name: getattr(scene, name)[:1] for name in scene.__dataclass_fields__ if name != "lights"}
    first["disparity"], first["tilt"] = (np.array([value], dtype=np.float32) for value in (disparity, tilt))
    if light:
        first["color"], first["second"] = np.zeros((2, 1, 3), dtype=np.float32)
    lights = np.array([[0.0, 0.0, 0.01, 1.0]] if light else np.zeros((0, 4)), dtype=np.float32)
    return synthetic.Planes(**first, lights=lights)


def sharpness(photo) -> float:
    return float(np.abs(np.diff(photo, axis=-1)).mean())


def test_a_plane_in_focus_is_sharp_at_any_aperture():
    scene = one_plane(0.0)
    pinhole, wide = (photograph(scene, 32, aperture, np.random.default_rng(0)) for aperture in (0.0, 1.0))
    np.testing.assert_allclose(pinhole, wide, atol=1e-6)


def test_a_plane_out_of_focus_is_blurred_by_the_aperture():
    scene = one_plane(-1.0)
    photos = [photograph(scene, 32, aperture, np.random.default_rng(0)) for aperture in (0.0, 0.5, 1.0)]
    assert sharpness(photos[0]) > sharpness(photos[1]) > sharpness(photos[2])


def test_a_tilted_plane_is_sharp_where_it_crosses_the_focal_plane():
    scene = one_plane(0.0, tilt=1.0)
    pinhole, wide = (photograph(scene, 64, aperture, np.random.default_rng(0)) for aperture in (0.0, 1.0))
    lost = [sharpness(pinhole[:, rows]) - sharpness(wide[:, rows]) for rows in (slice(0, 12), slice(28, 36))]
    assert lost[0] > 10 * abs(lost[1])


def test_what_a_lens_point_sees_of_a_tilted_plane_solves_the_lens_equation():
    side, margin, u, disparity, tilt = 200, 40, np.array([0.08, -0.1]), -0.6, 0.7
    rows, columns = synthetic.seen_through(u, disparity, tilt, side, margin)
    p = (np.arange(side) + 0.5) / side - 0.5
    q = (rows[:, 0] - margin + 0.5) / side - 0.5
    np.testing.assert_allclose(q - u[1] * (disparity + tilt * q), p, atol=0.6 / side)
    shift = (columns[:, 0] - margin) / side
    np.testing.assert_allclose(shift, u[0] * (disparity + tilt * q), atol=0.6 / side)


def test_true_disparity_of_a_tilted_plane_is_a_ramp():
    ramp = true_disparity(one_plane(-0.5, tilt=0.8), 16)[0]
    rows = (np.arange(16) + 0.5) / 16 - 0.5
    np.testing.assert_allclose(ramp, np.broadcast_to((0.5 + 0.5 * (-0.5 + 0.8 * rows))[:, None], (16, 16)), atol=1e-6)


def test_a_point_of_light_becomes_a_disc_of_the_stated_radius():
    photo = photograph(one_plane(-1.0, light=True), 128, 1.0, np.random.default_rng(0))
    light = synthetic.decode(photo).sum(axis=0)
    rows, columns = np.mgrid[:128, :128] - 63.5
    spread = np.sqrt((light * (rows**2 + columns**2)).sum() / light.sum())
    own = 2 * (0.01 * 128) ** 2  # the light's own variance, a Gaussian's in the plane
    assert spread == pytest.approx(np.sqrt((synthetic.BLUR_RADIUS * 128) ** 2 / 2 + own), rel=0.05)


def test_nearer_planes_hide_farther_ones():
    photo, scene = draw_photo(32, np.random.default_rng(5))
    disparity = true_disparity(scene, 32)
    assert photo.shape == (3, 32, 32)
    middle = disparity[0, 12:20, 12:20]
    assert np.median(middle) == pytest.approx(0.5, abs=0.05), "the subject near the centre is in the focal plane"
    assert disparity.min() < 0.35


def test_a_near_plane_hides_the_ground():
    scene = draw_scene(np.random.default_rng(3))
    parts = {name: getattr(scene, name)[[0, -1]] for name in scene.__dataclass_fields__ if name != "lights"}
    parts["color"] = parts["second"] = np.array([[1, 1, 1], [0, 0, 0]], np.float32)  # black on white
    parts["center"], parts["radius"] = np.zeros((2, 2), np.float32), np.array([9, 0.3], np.float32)
    two = synthetic.Planes(**parts, lights=np.zeros((0, 4), np.float32))
    photo = photograph(two, 16, 0.0, np.random.default_rng(0))
    np.testing.assert_allclose(photo[:, [8, 0], [8, 0]], [[0, 1]] * 3, atol=1e-3)


def test_what_hides_is_as_blurred_as_what_it_shows():
    """A black disc before a white wall in focus, wide open: at its edge half of the lens sees past it."""
    scene = draw_scene(np.random.default_rng(3))
    parts = {name: getattr(scene, name)[[0, -1]] for name in scene.__dataclass_fields__ if name != "lights"}
    parts["color"] = parts["second"] = np.array([[1, 1, 1], [0, 0, 0]], np.float32)
    parts["center"], parts["radius"] = np.zeros((2, 2), np.float32), np.array([9, 0.25], np.float32)
    parts["disparity"], parts["tilt"] = np.array([0, 1], np.float32), np.zeros(2, np.float32)
    parts["stretch"], parts["lobe_depth"] = np.ones(2, np.float32), np.zeros(2, np.float32)
    two = synthetic.Planes(**parts, lights=np.zeros((0, 4), np.float32))
    light = synthetic.decode(photograph(two, 64, 1.0, np.random.default_rng(0)))[0]
    rows, columns = np.mgrid[:64, :64] - 31.5
    distance = np.hypot(rows, columns) / 64
    blurred = np.abs(distance - 0.25) < 0.5 * synthetic.BLUR_RADIUS
    assert 0.4 < light[np.abs(distance - 0.25) < 0.01].mean() < 0.65
    assert light[blurred].min() > 0.02
    assert light[blurred].max() < 0.98
    np.testing.assert_allclose(light[distance < 0.25 - 1.1 * synthetic.BLUR_RADIUS], 0, atol=1e-3)
    np.testing.assert_allclose(light[distance > 0.25 + 1.1 * synthetic.BLUR_RADIUS], 1, atol=1e-3)


def test_a_plane_moves_as_one_that_is_hardly_tilted():
    side, margin = 50, 12
    wide = np.random.default_rng(0).random((side + 2 * margin, side + 2 * margin))
    for disparity in (-0.85, 0.65):
        seen = [
            wide[synthetic.seen_through(np.array([0.08, -0.1]), disparity, tilt, side, margin)] for tilt in (0, 1e-6)
        ]
        np.testing.assert_array_equal(*seen)


def test_shares_of_pinholes_and_open_lenses(monkeypatch):
    apertures = []
    monkeypatch.setattr(synthetic, "photograph", lambda scene, resolution, aperture, rng: apertures.append(aperture))
    for index in range(300):
        draw_photo(16, np.random.default_rng([0, index]))
    opened = [aperture for aperture in apertures if aperture]
    assert 0.4 < len(opened) / 300 < 0.6
    assert 0.6 <= min(opened) < 0.65
    assert 0.95 < max(opened) <= 1
