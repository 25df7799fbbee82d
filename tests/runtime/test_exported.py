"""Exported files at work: photo in, photo out, against the graphs' arithmetic in numpy."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from argan import runtime
from argan.curves import SRGB, Parametric
from argan.errors import ArganError, MissingError, UsageError
from argan.focus import subject
from argan.images import Photo
from argan.runtime import exported, pixels, tiles
from argan.runtime.session import Session
from tests.runtime import graphs

SIZE = (44, 60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """pipeline.onnx, render.onnx and depth.onnx, made by hand."""
    folder = tmp_path_factory.mktemp("exported")
    for write in (graphs.depth_file, graphs.render_file, graphs.pipeline_file):
        write(folder)
    return folder


def noise(channels=3, dtype=np.uint8, size=SIZE, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (*size, channels), dtype, endpoint=True)


def expected(image: np.ndarray, disparity: np.ndarray, blur: float, focus: float | np.ndarray) -> np.ndarray:
    """What graphs.BLUR computes, for (H, W, 3) in [0, 1]; `focus` is what is sharp, for all or for each pixel."""
    reach = graphs.RADIUS
    height, width = image.shape[:2]
    count = np.pad(np.ones((height, width, 1)), ((reach, reach), (reach, reach), (0, 0)))
    padded = np.pad(image.astype(np.float64), ((reach, reach), (reach, reach), (0, 0)))
    windows = range(2 * reach + 1)
    total = sum(padded[y : y + height, x : x + width] for y in windows for x in windows)
    box = total / sum(count[y : y + height, x : x + width] for y in windows for x in windows)
    discs = blur / 200 * max(height, width) * np.abs(disparity - focus)
    return image + np.clip(discs / reach, 0, 1)[:, :, None] * (box - image)


# What they compute


def test_depth(folder):
    photo = Photo(noise())
    model = runtime.load(folder / "depth.onnx", device="cpu")
    np.testing.assert_allclose(model.disparity(photo), photo.pixels.mean(2) / 255, atol=1e-6)
    assert (model.name, model.focus, model.device) == ("tiny", 0.25, "cpu")
    assert (model.disparity_of(np.full((1, 3, 20, 30), 1.2, np.float32)) == 1).all()  # half precision may overshoot


@pytest.mark.parametrize("file", ["render.onnx", "pipeline.onnx"])
def test_render(folder, file):
    photo = Photo(noise())
    image = photo.pixels / 255
    disparity = image.mean(2)
    model = runtime.load(str(folder / file), device="cpu")
    planes = {"auto": 0.25, "subject": subject(disparity), 0.7: 0.7, (0.2, 0.9): disparity[39, 12]}
    for focus, plane in planes.items():
        result = model.render(photo, blur=7, focus=focus)
        np.testing.assert_allclose(result.disparity, disparity, atol=1e-6)
        assert result.focus == pytest.approx(plane, abs=1e-6)
        exact = expected(image, disparity, 7, plane) * 255
        assert np.abs(result.photo.pixels - exact).max() < 0.501  # rounded to the nearest


def test_what_the_model_has_learned_to_see_sharp_is_sharp(tmp_path):
    graphs.render_file(tmp_path)
    graphs.depth_file(tmp_path, **{"argan.focus_range": "0.2"})
    photo, model = Photo(noise()), runtime.load(tmp_path / "render.onnx", device="cpu")
    image = photo.pixels / 255
    disparity = image.mean(2)
    for focus, sharp in {"auto": disparity.clip(0.15, 0.35), 0.7: 0.7}.items():
        result = model.render(photo, blur=7, focus=focus)
        np.testing.assert_allclose(result.disparity, disparity, atol=1e-6)
        assert np.abs(result.photo.pixels - expected(image, disparity, 7, sharp) * 255).max() < 0.501
    given = model.render(photo, blur=7, focus="auto", depth=disparity.astype(np.float32))
    plane = expected(image, disparity, 7, given.focus) * 255
    assert np.abs(given.photo.pixels - plane).max() < 0.501  # a map is taken at its word


def test_a_renderer_called_as_depth_is_one(tmp_path):
    graphs.render_file(tmp_path, "depth.onnx")
    model = runtime.load(tmp_path / "depth.onnx", device="cpu")
    assert isinstance(model, exported.RenderFile)
    assert model.depth is None


def test_a_damaged_depth_file_beside_does_not_matter_where_depth_is_given(folder, tmp_path):
    shutil.copy(folder / "render.onnx", tmp_path)
    (tmp_path / "depth.onnx").write_bytes(b"damaged")
    renderer = runtime.load(tmp_path / "render.onnx", device="cpu")
    photo = Photo(noise())
    assert renderer.render(photo, blur=5, depth=noise()[..., 0]).photo.pixels.shape == (*SIZE, 3)
    with pytest.raises(ArganError, match=r"depth\.onnx"):
        renderer.render(photo, blur=5)


def test_photos_too_narrow_to_estimate_depth(folder):
    photo = Photo(noise(size=(16, 900)))
    for file in ("depth.onnx", "pipeline.onnx"):
        assert "long and narrow" in message(
            UsageError, lambda file=file: runtime.load(folder / file, device="cpu").disparity(photo)
        )


@pytest.mark.parametrize("write", [graphs.render_file, graphs.pipeline_file])
def test_discs_are_measured_from_what_is_sharp(tmp_path, write):
    """What is not blurred as much as that is drawn."""
    entries = {"argan.focus_range": "0.5", "argan.largest_radius": "1.2"}
    graphs.depth_file(tmp_path, **entries)
    model = runtime.load(write(tmp_path, **entries), device="cpu")
    photo = Photo(np.full((*SIZE, 3), 200, np.uint8))  # 0.78: 0.53 from the plane, 0.28 from what is sharp
    model.render(photo, blur=14)
    with pytest.raises(UsageError, match="draws discs up to"):
        model.render(photo, blur=15)


@pytest.mark.parametrize("curve", [Parametric("gamma 1.8", g=1.8), Parametric("linear", g=1.0)])
def test_pipeline_files_give_the_map_that_they_render_with(folder, monkeypatch, curve):
    monkeypatch.setattr(pixels, "curve_of", lambda icc: curve)
    model = runtime.load(folder / "pipeline.onnx", device="cpu")
    rendered = model.render(Photo(noise()), blur=7, focus=0.5)
    np.testing.assert_allclose(model.disparity(Photo(noise())), rendered.disparity, atol=1e-6)


def test_given_depth_is_looked_at(folder):
    model, photo = runtime.load(folder / "render.onnx", device="cpu"), Photo(noise())
    ramp = np.linspace(0.2, 0.8, SIZE[1])[None].repeat(SIZE[0], axis=0)
    expected = model.render(photo, blur=7, depth=ramp.astype(np.float32)).photo.pixels
    assert np.array_equal(model.render(photo, blur=7, depth=ramp).photo.pixels, expected)  # float64
    steps = model.render(photo, blur=7, depth=(ramp * 65535).round().astype(np.uint16)).photo.pixels
    assert np.abs(steps.astype(int) - expected).max() <= 1
    cut_out = ramp > 0.5
    of_it = (model.render(photo, blur=7, focus=1.0, depth=depth) for depth in (cut_out, cut_out.astype(np.float32)))
    assert np.array_equal(*(result.photo.pixels for result in of_it))
    no_maps = np.zeros((0, 0)), np.zeros((0, 5)), ramp.astype(str), ramp.astype(object), ramp + 0j
    for wrong in (np.full((30, 30), 0.5), ramp + 1, ramp - 1, ramp * np.nan, ramp[None], *no_maps):
        assert message(UsageError, lambda wrong=wrong: model.render(photo, depth=wrong))


def test_given_depth(folder):
    photo, disparity = Photo(noise()), np.linspace(0, 1, SIZE[1], dtype=np.float32)[None].repeat(SIZE[0], 0)
    model = runtime.load(folder / "render.onnx", device="cpu")
    result = model.render(photo, blur=7, focus=0.5, depth=disparity)
    assert np.abs(result.photo.pixels - expected(photo.pixels / 255, disparity, 7, 0.5) * 255).max() < 0.501
    # Of another size it is brought to the photo's; "auto" is its own centre, not the model's plane.
    assert model.render(photo, blur=7, depth=disparity[:11, :15]).disparity.shape == SIZE
    assert model.render(photo, blur=7, depth=disparity).focus == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("file", ["render.onnx", "pipeline.onnx"])
def test_no_blur_keeps_every_pixel(folder, file):
    photo = Photo(noise(dtype=np.uint16))
    result = runtime.load(folder / file, device="cpu").render(photo, blur=0, focus=(0.5, 0.5))
    assert np.array_equal(result.photo.pixels, photo.pixels)


def test_pipeline_files_without_blur_and_with_little(folder):
    photo, model = Photo(noise()), runtime.load(folder / "pipeline.onnx", device="cpu")
    for focus in ("auto", 0.3, (0.2, 0.9)):
        assert model.render(photo, blur=0, focus=focus).photo.pixels is photo.pixels
    assert not np.array_equal(model.render(photo, blur=1, focus=(0.2, 0.9)).photo.pixels, photo.pixels)


@pytest.mark.parametrize("size", [(301, 190), (130, 512), (200, 200)])
@pytest.mark.parametrize("blur", [1.0, 6.0])
def test_tiles_leave_no_seams(folder, monkeypatch, size, blur):
    """The blur is in percent of the photo's long side, whatever the tile's; the halo holds all that can be reached."""
    photo = Photo(noise(size=size))
    model = runtime.load(folder / "render.onnx", device="cpu")
    whole = model.render(photo, blur=blur, focus=0.3)
    monkeypatch.setattr(exported, "tiles", lambda *picture: tiles.tiles(*picture, whole=192))
    assert len(list(exported.tiles(*size, 5.0))) > 1
    tiled = model.render(photo, blur=blur, focus=0.3)
    assert np.abs(tiled.photo.pixels.astype(int) - whole.photo.pixels).max() <= 1  # float32 sums differ
    assert (tiled.photo.pixels == whole.photo.pixels).mean() > 0.999


@pytest.mark.parametrize(
    ("height", "width", "radius"), [(1, 1, 0), (1152, 1152, 60), (4321, 6007, 47.3), (3000, 100, 900)]
)
def test_tiles_cover_the_picture_once(height, width, radius):
    seen = np.zeros((height, width), np.uint8)
    for tile in tiles.tiles(height, width, radius):
        seen[tile.core] += 1
        for core, around, size in zip(tile.core, tile.seen, (height, width), strict=True):
            assert around.start <= max(0, core.start - radius)
            assert around.stop >= min(size, core.stop + radius)
            assert around.start % tiles.STEP == 0
        inside = np.zeros([part.stop - part.start for part in tile.seen])[tile.core_in_seen]
        assert inside.shape == tuple(part.stop - part.start for part in tile.core)
    assert (seen == 1).all()


def test_depth_of_large_photos_is_estimated_on_a_smaller_copy(folder, monkeypatch):
    monkeypatch.setattr(exported, "DEPTH_PIXELS", 900)
    ramp = np.linspace(0, 255, 80)[None, :, None].repeat(60, 0).repeat(3, 2).astype(np.uint8)
    disparity = runtime.load(folder / "depth.onnx", device="cpu").disparity(Photo(ramp))
    assert disparity.shape == (60, 80)
    np.testing.assert_allclose(disparity, ramp[:, :, 0] / 255, atol=0.02)


def test_how_much_smaller_that_copy_is(folder, monkeypatch):
    monkeypatch.setattr(exported, "DEPTH_PIXELS", 1000)
    model, sizes = runtime.load(folder / "depth.onnx", device="cpu"), []
    run = model.session.run
    monkeypatch.setattr(model.session, "run", lambda image: sizes.append(image.shape[2:]) or run(image))
    for size in ((60, 80), (20, 50), (20, 51)):
        model.disparity(Photo(noise(size=size)))
    assert sizes == [(27, 37), (20, 50), (20, 50)]


def test_files_of_one_size(folder, tmp_path, monkeypatch):
    """Depth is brought to that size and back; rendering takes no other, and takes it in one piece."""
    monkeypatch.setattr(exported, "tiles", lambda *picture: tiles.tiles(*picture) if picture[3:] else 1 / 0)
    for name in ("depth.onnx", "render.onnx"):
        model = onnx.load(folder / name)
        for tensor in [*model.graph.input, *model.graph.output]:
            dims = tensor.type.tensor_type.shape.dim
            for dim, size in zip(dims[2:], (32, 200), strict=False):
                dim.dim_value = size
        (tmp_path / name).write_bytes(model.SerializeToString())
    model = runtime.load(tmp_path / "render.onnx", device="cpu")
    assert model.depth.disparity(Photo(noise())).shape == SIZE
    assert "200 x 32 pixels alone" in message(UsageError, lambda: model.render(Photo(noise())))
    assert model.render(Photo(noise(size=(32, 200)))).photo.size == (200, 32)


def test_results_stay_on_the_device_until_they_are_asked_for(folder):
    """What one run gave is bound to the next one's input without a copy."""
    depth, render = (Session(folder / name, "cpu") for name in ("depth.onnx", "render.onnx"))
    image = depth.put(np.moveaxis(noise().astype(np.float32) / 255, 2, 0)[None])
    (disparity,) = depth.run(image)
    assert isinstance(disparity, onnxruntime.OrtValue) and disparity.device_name() == "cpu"
    (rendered,) = render.run(image, disparity, exported.one(7), exported.one(0.5))
    expected = runtime.load(folder / "render.onnx", device="cpu").render(Photo(noise()), blur=7, focus=0.5)
    found = np.moveaxis(rendered.numpy()[0], 0, 2)
    assert np.abs(255 * found - expected.photo.pixels).max() <= 0.51


# Kinds of photos


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_kinds_of_photos(folder, channels, dtype):
    photo = Photo(noise(channels, dtype))
    result = runtime.load(folder / "render.onnx", device="cpu").render(photo, blur=7).photo
    assert result.pixels.shape == photo.pixels.shape
    assert result.pixels.dtype == dtype
    assert not np.array_equal(result.pixels, photo.pixels)


@pytest.mark.parametrize("file", ["render.onnx", "pipeline.onnx"])
def test_opaque_alpha_changes_nothing(folder, file):
    model, colour = runtime.load(folder / file, device="cpu"), noise()
    opaque = np.dstack([colour, np.full(SIZE, 255, np.uint8)])
    expected, found = (model.render(Photo(pixels), blur=7).photo.pixels for pixels in (colour, opaque))
    assert np.array_equal(found[:, :, :3], expected)
    assert (found[:, :, 3] == 255).all()


@pytest.mark.parametrize(("alpha", "times"), [(255, 1), (254, 2)])
def test_alpha_goes_through_the_lens_only_where_something_shows_through(alpha, times):
    seen = []
    photo = Photo(np.dstack([noise(), np.full(SIZE, alpha, np.uint8)]))
    same = pixels.seen_through(photo, lambda rgb: seen.append(rgb) or rgb).pixels
    assert len(seen) == times
    assert np.abs(same.astype(int) - photo.pixels).max() <= 1


def test_floats_stay_floats_and_are_limited_to_what_graphs_take():
    photo = Photo(np.array([[[-0.5], [0.5], [1.5]]]))
    same = pixels.seen_through(photo, lambda rgb: rgb).pixels
    assert same.dtype == np.float64 and same.ravel().tolist() == [0, 0.5, 1]


def test_transparent_pixels_lend_no_colour(folder):
    picture = np.zeros((*SIZE, 4), np.uint8)
    picture[:, :30] = (255, 0, 255, 255)
    picture[:, 30:] = (0, 255, 0, 0)  # green, and not to be seen
    result = runtime.load(folder / "render.onnx", device="cpu").render(Photo(picture), blur=20, focus=0.9).photo.pixels
    visible = result[:, :, 3] > 8
    assert (result[visible][:, :3] == (255, 0, 255)).all(axis=1).mean() > 0.99
    assert visible.sum() > 30 * SIZE[0]


@pytest.mark.parametrize("channels", [3, 4])
def test_curves_other_than_srgb(folder, monkeypatch, channels):
    """A gamma 2.2 photo and an sRGB photo of the same light come out as the same light."""
    gamma = Parametric("gamma 2.2", g=2.2)
    monkeypatch.setattr(pixels, "curve_of", lambda icc: gamma if icc else SRGB)
    stored = noise(channels, np.uint16)
    same_light = stored.copy()
    same_light[..., :3] = np.round(gamma.encode(SRGB.decode(stored[..., :3] / 65535)) * 65535)
    model, depth = runtime.load(folder / "render.onnx", device="cpu"), np.full(SIZE, 0.9, np.float32)
    plain = model.render(Photo(stored), blur=7, focus=0.1, depth=depth).photo.pixels
    other = model.render(Photo(same_light, icc=b"gamma 2.2"), blur=7, focus=0.1, depth=depth).photo.pixels
    assert np.array_equal(other[..., 3:], plain[..., 3:])
    other, plain = other[..., :3] / 65535, plain[..., :3] / 65535
    np.testing.assert_allclose(gamma.decode(other), SRGB.decode(plain), atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_a_graph_gives_beyond_white_and_black_is_white_and_black(dtype):
    """Half precision may overshoot."""
    photo = Photo(np.array([[[0], [np.iinfo(dtype).max]]], dtype))
    assert np.array_equal(pixels.seen_through(photo, lambda rgb: 1.1 * rgb - 0.05).pixels, photo.pixels)


# What they refuse: one line, the right class


def message(error: type[ArganError], call) -> str:
    with pytest.raises(error) as raised:
        call()
    assert type(raised.value) is error
    assert "\n" not in str(raised.value)
    return f"{raised.value} ({raised.value.hint})"


def test_files_that_are_none(folder, tmp_path):
    assert "no model" in message(UsageError, lambda: runtime.load(tmp_path / "none.onnx"))
    whole = (folder / "depth.onnx").read_bytes()
    for name, content in (("empty", b""), ("text", b"not a model"), ("cut", whole[: len(whole) // 2])):
        (tmp_path / f"{name}.onnx").write_bytes(content)
        assert f"{name}.onnx" in message(ArganError, lambda name=name: runtime.load(tmp_path / f"{name}.onnx"))


def test_entries_that_are_no_text(folder, tmp_path):
    whole = (folder / "depth.onnx").read_bytes()
    (tmp_path / "depth.onnx").write_bytes(whole.replace(b"tiny", b"t\xffny"))
    assert "depth.onnx: ONNX Runtime: " in message(ArganError, lambda: runtime.load(tmp_path / "depth.onnx"))


def test_entries_that_are_no_numbers_say_nothing(tmp_path):
    entries = {"argan.focus": "nan", "argan.focus_range": "-inf", "argan.resolution": "inf"}
    model = runtime.load(graphs.depth_file(tmp_path, **entries), device="cpu")
    assert (model.focus, model.focus_range, model.resolution) == (None, None, exported.RESOLUTION)


def test_an_operator_set_of_the_future(folder, tmp_path):
    model = onnx.load(folder / "depth.onnx")
    model.opset_import[0].version = 999
    (tmp_path / "depth.onnx").write_bytes(model.SerializeToString())
    assert "pset 999" in message(ArganError, lambda: runtime.load(tmp_path / "depth.onnx", device="cpu"))


def test_targets_that_do_nothing_to_photographs(tmp_path):
    path = graphs.depth_file(tmp_path, **{"argan.target": "generator"})
    assert "is a generator" in message(UsageError, lambda: runtime.load(path))
    path = graphs.depth_file(tmp_path, **{"argan.target": "render"})
    assert "says that it is a render graph" in message(ArganError, lambda: runtime.load(path))


def test_a_graph_that_gives_less_than_its_target_is_refused(folder, tmp_path):
    model = onnx.load(folder / "pipeline.onnx")
    del model.graph.output[1]
    onnx.save(model, tmp_path / "pipeline.onnx")
    said = message(ArganError, lambda: runtime.load(tmp_path / "pipeline.onnx", device="cpu"))
    assert "takes image, blur, focus and gives rendered (" in said


def test_a_depth_file_beside_that_takes_something_else_is_refused(tmp_path):
    graphs.render_file(tmp_path, "depth.onnx", **{"argan.target": "depth"})
    model = runtime.load(graphs.render_file(tmp_path), device="cpu")
    assert "says that it is a depth graph" in message(ArganError, lambda: model.render(Photo(noise())))


def test_settings_are_for_depth_models_of_others(folder):
    call = lambda: runtime.load(folder / "depth.onnx", settings={"size": "64"})  # noqa: E731
    assert "says itself" in message(UsageError, call)


def test_rendering_without_depth(tmp_path):
    model = runtime.load(graphs.render_file(tmp_path), device="cpu")
    assert "--depth" in message(UsageError, lambda: model.render(Photo(noise())))


def test_what_pipeline_files_refuse(folder, monkeypatch):
    model = runtime.load(folder / "pipeline.onnx", device="cpu")
    assert "render.onnx" in message(UsageError, lambda: model.render(Photo(noise()), depth=np.zeros(SIZE)))
    assert "transparency" in message(UsageError, lambda: model.render(Photo(noise(4))))
    monkeypatch.setattr(exported, "PIPELINE_PIXELS", 1000)
    assert "megapixels" in message(UsageError, lambda: model.render(Photo(noise())))
    monkeypatch.setattr(exported, "PIPELINE_PIXELS", SIZE[0] * SIZE[1])
    model.render(Photo(noise()))


@pytest.mark.parametrize(
    "request_", [{"blur": -1}, {"blur": 101}, {"focus": 1.5}, {"focus": "near"}, {"focus": (0.5, 2)}]
)
@pytest.mark.parametrize("file", ["render.onnx", "pipeline.onnx"])
def test_requests_that_are_wrong(folder, file, request_):
    model = runtime.load(folder / file, device="cpu")
    message(UsageError, lambda: model.render(Photo(noise()), **request_))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("file", ["render.onnx", "pipeline.onnx"])
def test_photos_that_are_not_finite(folder, file, bad):
    image = noise() / 255
    image[3, 4] = bad
    assert "finite" in message(UsageError, lambda: runtime.load(folder / file).render(Photo(image)))


@pytest.mark.parametrize("write", [graphs.render_file, graphs.pipeline_file])
def test_discs_that_the_graph_does_not_draw(tmp_path, write):
    """Drawn smaller they would be another picture than was asked for."""
    graphs.depth_file(tmp_path)
    model = runtime.load(write(tmp_path, **{"argan.largest_radius": "5"}), device="cpu")
    model.render(Photo(noise()), blur=5)
    for focus in ("auto", 1.0):  # what is far may be farthest from the focus, too
        assert "discs up to 5 px" in message(UsageError, lambda f=focus: model.render(Photo(noise()), blur=30, focus=f))


def test_photos_that_are_too_small(folder):
    for file in ("depth.onnx", "render.onnx", "pipeline.onnx"):
        model = runtime.load(folder / file, device="cpu")
        run = model.disparity if file == "depth.onnx" else model.render
        assert "16 pixels" in message(UsageError, lambda run=run: run(Photo(noise(size=(15, 40)))))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_here(folder, capfd):
    assert "cuda was asked for" in message(MissingError, lambda: runtime.load(folder / "depth.onnx", device="cuda"))
    assert "cuda:3" in message(MissingError, lambda: runtime.load(folder / "depth.onnx", device="cuda:3"))
    assert runtime.load(folder / "depth.onnx", device="auto").device == "cpu"
    assert capfd.readouterr() == ("", "")  # what ONNX Runtime would print is in the error
    for device in ("tpu", "cuda:x", "cpu:1"):
        message(UsageError, lambda device=device: runtime.load(folder / "depth.onnx", device=device))


@pytest.fixture
def with_cuda(monkeypatch):
    """An ONNX Runtime that was built with CUDA and cannot start it; the providers that sessions were asked for."""
    asked, start = [], onnxruntime.InferenceSession

    def start_on_the_cpu(path, options, providers):
        asked.append(providers)
        return start(path, options, providers=["CPUExecutionProvider"])

    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    monkeypatch.setattr(onnxruntime, "set_default_logger_severity", lambda level: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", start_on_the_cpu)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("no libcublas.so.12\nno libcudnn.so.9"))
    return asked


def test_the_cpu_is_the_cpu_where_there_is_cuda_too(folder, with_cuda):
    for device in ("cpu", "auto"):
        assert runtime.load(folder / "depth.onnx", device=device).device == "cpu"
    cuda = ("CUDAExecutionProvider", {"device_id": "0"})
    assert with_cuda == [["CPUExecutionProvider"], [cuda, "CPUExecutionProvider"]]


def test_depth_beside_runs_where_the_renderer_does(folder, with_cuda):
    assert runtime.load(folder / "render.onnx", device="cpu").depth.device == "cpu"
    assert with_cuda == [["CPUExecutionProvider"], ["CPUExecutionProvider"]]


def test_why_cuda_does_not_start_is_said(folder, with_cuda):
    said = message(MissingError, lambda: runtime.load(folder / "depth.onnx", device="cuda"))
    assert "could not start its CUDA provider: no libcublas.so.12 (" in said


@pytest.mark.gpu
@pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="this onnxruntime was built without CUDA",
)
def test_on_the_gpu(folder):
    photo = Photo(noise())
    cpu, cuda = (
        runtime.load(folder / "render.onnx", device=device).render(photo, blur=7).photo.pixels.astype(int)
        for device in ("cpu", "cuda")
    )
    assert np.abs(cpu - cuda).max() <= 1


# Without torch


def run_without_torch(code: str, *arguments: object) -> subprocess.CompletedProcess:
    """A process in which importing torch, or anything that needs it, fails."""
    root = Path(__file__).parents[2]
    block = "import sys; sys.modules.update(dict.fromkeys(['torch', 'onnx', 'onnxscript', 'triton']))\n"
    command = [sys.executable, "-c", block + code, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


COMMAND = "from argan.cli import main; main(sys.argv[1:])"


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(noise()).save(path)
    return path


@pytest.mark.parametrize("file", ["render.onnx", "pipeline.onnx"])
def test_argan_render_needs_no_torch(folder, photo, file):
    done = run_without_torch(
        COMMAND, "render", photo, "--model", folder / file, "--blur", 7, "--save-depth", photo.parent
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"depth: tiny; device: cpu; renderer: {folder / file}\n"
    assert done.stdout.splitlines() == [str(photo.parent / name) for name in ("photo.bokeh.png", "photo.depth.png")]
    rendered = runtime.load(folder / file).render(Photo(noise()), blur=7).photo.pixels
    assert np.array_equal(np.asarray(Image.open(photo.parent / "photo.bokeh.png")), rendered)


@pytest.mark.parametrize("file", ["depth.onnx", "render.onnx", "pipeline.onnx"])
def test_argan_depth_needs_no_torch(folder, photo, file):
    done = run_without_torch(COMMAND, "depth", photo, "--model", folder / file)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "depth: tiny; device: cpu\n"
    stored = np.asarray(Image.open(photo.parent / "photo.depth.png"))
    np.testing.assert_allclose(stored / 65535, noise().mean(2) / 255, atol=1e-5)


def test_the_library_needs_no_torch(folder, photo):
    code = """
from pathlib import Path
from argan import runtime
from argan.images import read_photo, write_photo
result = runtime.load(sys.argv[1]).render(read_photo(Path(sys.argv[2])), blur=7)
write_photo(Path(sys.argv[2]).with_name("result.png"), result.photo)
own = {name.split(".")[0] for name in sys.modules}
assert not own & {"safetensors", "typer", "rich", "scipy"}, own
"""
    done = run_without_torch(code, folder / "render.onnx", photo)
    assert done.returncode == 0, done.stderr
    assert Image.open(photo.with_name("result.png")).size == SIZE[::-1]


@pytest.mark.parametrize(
    ("code", "text", "options"),
    [
        (2, "--aperture is not in exported files", ["--model", "render.onnx", "--aperture", "hexagon"]),
        (2, "--grain is not in exported files", ["--model", "render.onnx", "--grain", "1"]),
        (2, "needs depth", ["--model", "alone/render.onnx"]),
        (2, "estimates depth itself", ["--model", "pipeline.onnx", "--depth", "map.npy"]),
        (2, "no model", ["--model", "none.onnx"]),
        (2, "goes with --model FILE.onnx", ["--model-input", "size=64"]),
        pytest.param(
            4,
            "could not start its CUDA provider",
            ["--model", "render.onnx", "--device", "cuda"],
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_argan_render_refuses(folder, photo, capsys, monkeypatch, code, text, options):
    from argan.cli import main

    (folder / "alone").mkdir(exist_ok=True)
    graphs.render_file(folder / "alone")
    np.save(folder / "map.npy", np.zeros(SIZE, np.float32))
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as ended:
        main(["render", str(photo), *options])
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert ended.value.code == code
    assert len(errors) == 1 and text in errors[0]
    assert [path.name for path in photo.parent.iterdir()] == ["photo.png"]


@pytest.mark.parametrize("there", ["photo.bokeh.png", "photo.depth.png"])
def test_argan_render_keeps_what_is_there(folder, photo, capsys, there):
    from argan.cli import main

    options = ["--model", folder / "render.onnx", "--save-depth", photo.parent]
    (photo.parent / there).write_bytes(b"mine")
    with pytest.raises(SystemExit) as ended:
        main(["render", str(photo), *map(str, options)])
    assert ended.value.code == 1
    assert f"{there} exists" in capsys.readouterr().err
    assert (photo.parent / there).read_bytes() == b"mine"


def test_argan_render_with_a_given_depth(folder, photo, tmp_path, capsys):
    from argan.cli import main

    np.save(tmp_path / "map.npy", np.linspace(1, 9, SIZE[1], dtype=np.float32)[None].repeat(SIZE[0], 0))
    options = ["--model", folder / "render.onnx", "--depth", tmp_path / "map.npy", "--depth-kind", "distance", "--json"]
    with pytest.raises(SystemExit) as ended:
        main(["render", str(photo), "--save-depth", str(tmp_path / "used.npy"), *map(str, options)])
    assert not ended.value.code
    assert "map.npy: distance from 1 to 9 m became disparity" in capsys.readouterr().err
    used = np.load(tmp_path / "used.npy")
    assert used[0, 0] == 1 and used[0, -1] == 0
