"""Exported files in argan.runtime: the same depth and pictures as in PyTorch, and tiles without seams."""

import numpy as np
import pytest
import torch

import argan
from argan import runtime
from argan.export import TARGETS
from argan.images import Photo
from argan.runtime import exported as at_work
from argan.runtime import tiles
from argan.runtime.files import SIGNATURES


@pytest.fixture(scope="module")
def photo():
    """203 x 151 px: smooth shading, a hard edge, fine detail; uint8."""
    y, x = np.mgrid[:151, :203] / 151
    shading = np.stack([0.3 + 0.4 * x, 0.8 - 0.6 * y, 0.2 + 0.3 * x * y], axis=2)
    shading[(x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.05] = (0.9, 0.7, 0.1)
    shading += 0.1 * (np.sin(60 * x) * np.sin(75 * y))[:, :, None]
    return Photo((255 * np.clip(shading, 0, 1) + 0.5).astype(np.uint8))


def test_signatures_are_those_of_the_targets():
    for name, (inputs, outputs) in SIGNATURES.items():
        assert list(TARGETS[name].inputs) == inputs
        assert len(TARGETS[name].outputs) == outputs


def test_depth(model, exported, photo):
    file = runtime.load(exported("depth", "onnx").path, device="cpu")
    expected = argan.estimate_depth(photo.pixels, model=model, device="cpu")
    np.testing.assert_allclose(file.disparity(photo), expected, atol=1e-4)
    assert file.focus == pytest.approx(model.depth.focus)
    assert file.focus_range == pytest.approx(model.depth.focus_range)
    assert file.name == "tiny"


def test_tiles_of_the_renderer_leave_no_seams(exported, photo, monkeypatch):
    file = runtime.load(exported("render", "onnx").path, device="cpu")
    depth = np.kron(np.random.default_rng(0).random((8, 11)), np.ones((20, 20)))[:151, :203].astype(np.float32)
    for blur in (2.0, 15.0):
        whole = file.render(photo, blur=blur, focus=0.2, depth=depth).photo.pixels.astype(int)
        monkeypatch.setattr(at_work, "tiles", lambda *picture: tiles.tiles(*picture, whole=128))
        tiled = file.render(photo, blur=blur, focus=0.2, depth=depth).photo.pixels
        monkeypatch.undo()
        assert np.abs(tiled - whole).max() <= 1
        assert (tiled == whole).mean() > 0.99
        assert np.abs(whole - photo.pixels).max() > 20


def test_pipeline_is_depth_and_rendering(exported, photo):
    pipeline, render, depth = (
        runtime.load(exported(name, "onnx").path, device="cpu") for name in ("pipeline", "render", "depth")
    )
    whole = pipeline.render(photo, blur=5)
    parts = at_work.RenderFile(render.session, lambda: depth).render(photo, blur=5)
    assert whole.focus == pytest.approx(depth.focus)
    np.testing.assert_allclose(whole.disparity, parts.disparity, atol=1e-4)
    assert np.abs(whole.photo.pixels.astype(int) - parts.photo.pixels).max() <= 1
    assert np.abs(whole.photo.pixels.astype(int) - photo.pixels).max() > 20


def test_depth_estimator_from_a_file_serves_argan(model, exported, photo):
    """argan.render with depth.onnx is argan.render with the model that it came from."""
    settings = {"blur": 6, "device": "cpu"}
    expected = argan.render(photo.pixels, model=model, **settings).astype(int)
    found = argan.render(photo.pixels, model=exported("depth", "onnx").path, **settings)
    assert np.abs(found - expected).max() <= 2
    assert isinstance(argan.load(exported("depth", "onnx").path).depth, torch.nn.Module)
