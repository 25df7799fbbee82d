"""Depth models of others: each convention recognised, and wired so that the numbers are those of the model."""

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import argan
from argan import runtime
from argan.cli import main
from argan.errors import ArganError, MissingError, UsageError
from argan.images import Photo
from argan.runtime.depth_models import HIGH, LOW, unit_disparity
from argan.runtime.pixels import resize
from tests.runtime import graphs

IMAGENET = np.reshape((0.485, 0.456, 0.406), (1, 3, 1, 1)), np.reshape((0.229, 0.224, 0.225), (1, 3, 1, 1))


def picture(height=300, width=400) -> np.ndarray:
    """Smooth colours (H, W, 3), uint8."""
    y, x = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None]
    planes = np.stack([x + 0 * y, y + 0 * x, (x * y + (1 - x) ** 2) / 2], axis=2)
    return (255 * planes + 0.5).astype(np.uint8)


def small(size: tuple[int, int]) -> np.ndarray:
    """The picture as (1, 3, h, w) in [0, 1] at the size that a model should be given."""
    return resize(picture().transpose(2, 0, 1)[None].astype(np.float32) / 255, size)


def stretched(values: np.ndarray) -> np.ndarray:
    low, high = np.quantile(values, (LOW, HIGH))
    return np.clip((values - low) / (high - low), 0, 1)


def check(model, name: str, expected: np.ndarray) -> None:
    assert model.convention.name == name
    found = model.coarse(picture().transpose(2, 0, 1)[None].astype(np.float32) / 255)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, stretched(expected), atol=1e-5)
    assert model.disparity(Photo(picture())).shape == (300, 400)
    assert model.focus is None


# Conventions


def test_midas_as_its_project_exports_it(tmp_path):
    """The file normalises by itself: it is given RGB in [0, 1]."""
    model = runtime.load(graphs.midas_official(tmp_path / "model-f6b98070.onnx"), device="cpu")
    mean, std = IMAGENET
    check(model, "MiDaS", graphs.quadratic((small((384, 384)) - mean) / std))
    np.testing.assert_allclose(model.prepare(small((300, 400))), small((384, 384)), atol=0.01)


def test_midas_from_torch_hub(tmp_path):
    model = runtime.load(graphs.midas_hub(tmp_path / "midas_small.onnx"), device="cpu")
    mean, std = IMAGENET
    check(model, "MiDaS", graphs.quadratic((small((256, 256)) - mean) / std))


def test_midas_that_normalises_in_half_precision(tmp_path):
    model = onnx.load(graphs.midas_hub(tmp_path / "midas.onnx"))
    model.graph.initializer.append(graphs.constant("mean", (0.485, 0.456, 0.406), np.float16))
    onnx.save(model, tmp_path / "midas.onnx")
    assert runtime.load(tmp_path / "midas.onnx", device="cpu").convention.mean == (0, 0, 0)


@pytest.mark.parametrize(("name", "size"), [("midas_small.onnx", 256), ("midas.onnx", 384)])
def test_midas_of_any_size_is_given_what_it_learned_at(tmp_path, name, size):
    model = onnx.load(graphs.midas_hub(tmp_path / name))
    for tensor in (model.graph.input[0], model.graph.output[0]):
        for dim, side in zip(tensor.type.tensor_type.shape.dim[-2:], ("height", "width"), strict=True):
            dim.dim_param = side
    onnx.save(model, tmp_path / name)
    assert runtime.load(tmp_path / name, device="cpu").convention.size == size


@pytest.mark.parametrize("free", [2, 3])
def test_where_one_side_is_fixed_a_square_is_given(tmp_path, free):
    model = onnx.load(graphs.midas_hub(tmp_path / "midas.onnx", size=64))
    model.graph.input[0].type.tensor_type.shape.dim[free].dim_param = "side"
    model.graph.output[0].type.tensor_type.shape.dim[free - 1].dim_param = "side"
    onnx.save(model, tmp_path / "midas.onnx")
    assert runtime.load(tmp_path / "midas.onnx", device="cpu").convention.size == (64, 64)


def test_midas_that_normalises_bytes(tmp_path):
    model = onnx.load(graphs.midas_hub(tmp_path / "midas.onnx"))
    model.graph.initializer.append(graphs.constant("mean", (123.675, 116.28, 103.53)))
    onnx.save(model, tmp_path / "midas.onnx")
    found = runtime.load(tmp_path / "midas.onnx", device="cpu").convention
    assert (found.scale, found.mean, found.std) == (255, (0, 0, 0), (1, 1, 1))


def test_dpt_of_any_size(tmp_path):
    model = runtime.load(graphs.dpt(tmp_path / "model.onnx"), device="cpu")
    check(model, "DPT", graphs.quadratic(2 * small((384, 512)) - 1))


def test_depth_anything_of_any_size(tmp_path):
    model = runtime.load(graphs.depth_anything(tmp_path / "model.onnx"), device="cpu")
    mean, std = IMAGENET
    x = ((small((518, 686)) - mean) / std).reshape(1, 3, 37, 14, 49, 14).mean((3, 5))
    check(model, "Depth Anything", graphs.quadratic(x))


def test_depth_anything_of_fixed_size(tmp_path):
    model = runtime.load(graphs.midas_hub(tmp_path / "depth_anything_v2_vits.onnx", size=518), device="cpu")
    mean, std = IMAGENET
    check(model, "Depth Anything", graphs.quadratic((small((518, 518)) - mean) / std))


def test_bytes_with_channels_last(tmp_path):
    model = runtime.load(graphs.bytes_nhwc(tmp_path / "midas.onnx"), device="cpu")
    assert (model.convention.layout, model.convention.size) == ("nhwc", (128, 96))
    check(model, "MiDaS", graphs.quadratic(np.floor(small((96, 128)) * 255 + 0.5)))


def test_the_map_of_depth_among_outputs_and_distance(tmp_path):
    """metric_depth is distance: inverted, then stretched."""
    model = runtime.load(graphs.two_outputs(tmp_path / "model.onnx"), device="cpu")
    assert model.convention.kind == "distance"
    check(model, "DPT", 1 / graphs.quadratic(2 * small((384, 512)) - 1))


def test_what_is_called_metric_beside_the_map_does_not_make_it_distance(tmp_path):
    sure = graphs.helper.make_node("ReduceMax", ["pixel_values", "axis"], ["metric_confidence"], keepdims=0)
    output = graphs.value("metric_confidence", ["batch", "height", "width"])
    path = graphs.beside(tmp_path / "model.onnx", "disparity", [sure], output)
    model = runtime.load(path, device="cpu")
    assert model.convention.kind == "disparity"
    check(model, "DPT", graphs.quadratic(2 * small((384, 512)) - 1))


@pytest.mark.parametrize(("name", "kind"), [("output", "disparity"), ("metric", "distance")])
def test_a_networks_states_are_no_map(tmp_path, name, kind):
    """They have two sides too, of other proportions than the picture."""
    state = graphs.helper.make_node("Reshape", ["pixel_values", "tokens"], ["state"])
    output, tokens = graphs.value("state", ["batch", "tokens", 12]), graphs.constant("tokens", [1, -1, 12], np.int64)
    path = graphs.beside(tmp_path / "model.onnx", name, [state], output, [tokens])
    expected = graphs.quadratic(2 * small((384, 512)) - 1)
    check(runtime.load(path, device="cpu"), "DPT", 1 / expected if kind == "distance" else expected)


def test_outputs_that_are_no_arrays_of_numbers_are_left_alone(tmp_path):
    nodes = [graphs.helper.make_node("SequenceConstruct", ["pixel_values"], ["layers"])]
    output = graphs.helper.make_tensor_sequence_value_info("layers", graphs.TensorProto.FLOAT, None)
    path = graphs.beside(tmp_path / "model.onnx", "predicted_depth", nodes, output)
    check(runtime.load(path, device="cpu"), "DPT", graphs.quadratic(2 * small((384, 512)) - 1))


def test_an_output_called_distance_is_distance(tmp_path):
    model = onnx.load(graphs.dpt(tmp_path / "model.onnx"))
    model.graph.node[-1].output[0] = model.graph.output[0].name = "Distance_map"
    onnx.save(model, tmp_path / "model.onnx")
    assert runtime.load(tmp_path / "model.onnx", device="cpu").convention.kind == "distance"


def test_panoramas_keep_their_shape_within_reason(tmp_path):
    model = runtime.load(graphs.dpt(tmp_path / "model.onnx"), device="cpu")
    assert model.prepare(np.zeros((1, 3, 100, 200), np.float32)).shape == (1, 3, 384, 768)
    assert model.prepare(np.zeros((1, 3, 100, 2000), np.float32)).shape == (1, 3, 64, 1152)


# By hand, and by the file's metadata


def test_settings_win_over_metadata_and_that_over_what_is_recognised(tmp_path):
    own = {"depth.size": "64", "depth.channels": "bgr", "depth.normalise": "none", "other": "x"}
    path = graphs.dpt(tmp_path / "model.onnx")
    plain = runtime.load(path, device="cpu").convention
    path = graphs.midas_hub(tmp_path / "own.onnx", **own)
    model = runtime.load(path, device="cpu", settings={"size": "256x256", "scale": "255", "std": "1,2,4"})
    assert (plain.size, plain.channels) == (384, "rgb")
    assert model.convention.size == (256, 256)
    np.testing.assert_allclose(
        model.prepare(small((256, 256))),
        (255 * small((256, 256)) / np.reshape((1, 2, 4), (1, 3, 1, 1)))[:, ::-1],
        rtol=1e-5,
    )


def test_a_file_that_describes_itself_wrongly_can_be_told_better(tmp_path):
    own = {"depth.size": "dynamic", "depth.author": "Ada"}
    path = graphs.midas_hub(tmp_path / "own.onnx", **own)
    with pytest.raises(ArganError, match=r"own\.onnx, in its metadata: .* size=dynamic"):
        runtime.load(path, device="cpu")
    path = graphs.midas_hub(tmp_path / "worse.onnx", **own, **{"depth.mean": "0", "depth.std": "0"})
    told = runtime.load(path, device="cpu", settings={"size": "256", "normalise": "half"})
    assert (told.convention.size, told.convention.mean) == (256, (0.5, 0.5, 0.5))


def test_the_kind_by_hand_wins_over_the_outputs_name(tmp_path, capsys):
    path = graphs.two_outputs(tmp_path / "model.onnx")
    Image.fromarray(picture(40, 60)).save(tmp_path / "photo.png")
    maps = {}
    for kind in ("", "disparity", "distance"):
        options = ["--depth-kind", kind] if kind else []
        assert run("depth", tmp_path / "photo.png", "--model", path, "--overwrite", *options) == 0
        assert f"({'DPT'}, {kind or 'distance'})" in capsys.readouterr().err
        maps[kind] = np.asarray(Image.open(tmp_path / "photo.depth.png"))
    assert np.array_equal(maps[""], maps["distance"])
    assert not np.array_equal(maps[""], maps["disparity"])


def test_outputs_that_numpy_has_no_numbers_for_are_refused(tmp_path):
    path = graphs.bfloat16_output(tmp_path / "model.onnx")
    with pytest.raises(ArganError, match=r"its output depth is tensor\(bfloat16\)"):
        runtime.load(path, device="cpu")


@pytest.mark.parametrize(
    ("key", "text", "hint"),
    [
        ("size", "0", "WIDTHxHEIGHT"),
        ("size", "3x4x5", "WIDTHxHEIGHT"),
        ("size", "big", "WIDTHxHEIGHT"),
        ("size", "16385", "up to 16384"),
        ("multiple", "0", "whole number"),
        ("multiple", str(10**21), "to 16384"),
        ("normalise", "coco", "imagenet"),
        ("mean", "1,2", "three numbers"),
        ("mean", "1e400,0,0", "finite numbers"),
        ("std", "1,0,1", "above 0"),
        ("scale", "nan", "above 0"),
        ("channels", "rgba", "bgr"),
        ("layout", "chw", "nhwc"),
        ("kind", "height", "distance"),
        ("sise", "3", "there are: size"),
    ],
)
def test_settings_that_are_wrong(tmp_path, key, text, hint):
    path = graphs.midas_hub(tmp_path / "midas.onnx")
    with pytest.raises(UsageError, match=f"{key}={text}") as raised:
        runtime.load(path, device="cpu", settings={key: text})
    assert hint in raised.value.hint


def test_files_that_are_no_depth_models(tmp_path):
    two = graphs.render_file(tmp_path, "two.onnx", **{"argan.target": ""})
    with pytest.raises(ArganError):
        runtime.load(two, device="cpu")
    none = graphs.save(
        tmp_path / "classes.onnx",
        [graphs.helper.make_node("GlobalAveragePool", ["input"], ["classes"])],
        [graphs.value("input", [1, 3, 32, 32])],
        [graphs.value("classes", [1, 3, 1, 1])],
    )
    with pytest.raises(ArganError, match="no map of depth"):
        runtime.load(none, device="cpu").disparity(Photo(picture()))


def test_how_to_say_what_a_model_takes_is_said_where_it_does_not_run(tmp_path):
    model = runtime.load(graphs.midas_hub(tmp_path / "midas.onnx", size=64), device="cpu", settings={"size": "32"})
    with pytest.raises(ArganError, match=r"midas\.onnx: ONNX Runtime: ") as raised:
        model.disparity(Photo(picture()))
    assert "--model-input size=" in raised.value.hint


def test_sides_need_be_multiples_of_nothing(tmp_path):
    model = runtime.load(graphs.dpt(tmp_path / "model.onnx"), device="cpu", settings={"multiple": "1", "size": "37"})
    assert model.prepare(np.zeros((1, 3, 100, 100), np.float32)).shape == (1, 3, 37, 37)


# From what a model gives to disparity


def test_outliers_do_not_flatten_the_rest():
    values = np.linspace(10, 20, 10_000).reshape(100, 100)
    values[0, :20] = 1e6
    disparity = unit_disparity(values, "disparity")
    assert disparity.min() == 0 and disparity.max() == 1
    assert np.abs(np.diff(disparity[50])).max() < 2e-4
    assert disparity[90].mean() > 0.85


def test_distance_is_inverted_and_unknown_is_far():
    distance = np.array([[1.0, 2.0, 4.0, np.inf, 0.0, -1.0]]).repeat(6, 0)
    np.testing.assert_allclose(unit_disparity(distance, "distance")[0], [1, 0.5, 0.25, 0, 0, 0], atol=1e-6)


def test_a_flat_scene_is_flat():
    assert (unit_disparity(np.full((4, 4), 7.0), "disparity") == 0.5).all()


def test_values_that_are_not_finite():
    with pytest.raises(ArganError, match="not finite"):
        unit_disparity(np.array([[1.0, np.nan], [2.0, 3.0]]), "disparity")


# With PyTorch: argan.load, argan.estimate_depth, argan.render, and the commands


def test_argan_load(tmp_path):
    path = graphs.midas_hub(tmp_path / "midas_small.onnx", size=32)
    model = argan.load(path, onnx_settings={"kind": "distance"})
    assert (model.config.name, model.depth.focus, model.depth.resolution) == ("midas_small (MiDaS, distance)", None, 32)
    image = torch.rand(2, 3, 40, 60)
    maps = model.depth(image)
    assert maps.shape == (2, 1, 40, 60)
    torch.testing.assert_close(maps[1:], model.depth(image[1:]))
    with pytest.raises(UsageError, match="for ONNX files"):
        argan.load("flowers", onnx_settings={"size": "3"})
    with pytest.raises(UsageError, match="renders by itself"):
        argan.load(graphs.render_file(tmp_path))


def test_where_no_device_is_named_onnx_runtime_need_not_have_torchs(tmp_path):
    model = argan.load(graphs.midas_hub(tmp_path / "midas_small.onnx", size=32))
    for device, place in (("auto", "auto"), ("cpu", "cuda:1")):
        argan.estimate_depth(picture(40, 60), model=model, device=device)
        assert model.depth.place(torch.device("cuda:1")) == place
        assert model.depth.place(torch.device("cpu")) == "cpu"


@pytest.mark.gpu
def test_onnx_runtime_without_a_gpu_beside_torch_with_one(tmp_path, monkeypatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    path = graphs.midas_hub(tmp_path / "midas_small.onnx", size=32)
    expected = argan.estimate_depth(picture(40, 60), model=path, device="cpu")
    np.testing.assert_allclose(argan.estimate_depth(picture(40, 60), model=path), expected, atol=1e-5)
    with pytest.raises(MissingError, match="cuda:0 was asked for"):
        argan.estimate_depth(picture(40, 60), model=path, device="cuda")


def test_coarse_maps_get_the_photos_edges(tmp_path):
    """A model that sees 16 x 16 px; the photo has an edge that lies between two of them."""
    photo = np.full((256, 256, 3), 40, np.uint8)
    photo[:, 135:] = 220
    path = graphs.midas_hub(tmp_path / "coarse.onnx", size=16)
    disparity = argan.estimate_depth(photo, model=path)
    plain = runtime.load(path, device="cpu").disparity(Photo(photo))
    steps = [np.abs(values[128, 135] - values[128, 134]) for values in (disparity, plain)]
    assert steps[0] > 0.7
    assert steps[1] < 0.1


def test_exported_depth_keeps_its_learned_focus(tmp_path):
    path = graphs.depth_file(tmp_path, **{"argan.resolution": "96"})
    assert argan.load(path).depth.resolution == 96
    image = Image.fromarray(picture(40, 60))
    np.testing.assert_allclose(argan.estimate_depth(image, model=path), picture(40, 60).mean(2) / 255, atol=1e-6)
    by_name, by_value = (argan.render(image, model=path, focus=focus, blur=5) for focus in ("auto", 0.25))
    assert np.array_equal(by_name, by_value)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def test_commands(tmp_path, capsys):
    Image.fromarray(picture(120, 160)).save(tmp_path / "photo.png")
    path = graphs.midas_hub(tmp_path / "midas_small.onnx", size=64)
    options = ["--model", path, "--model-input", "normalise=half", "--depth-kind", "distance", "--overwrite"]
    assert run("depth", tmp_path / "photo.png", *options) == 0
    assert "depth: midas_small (MiDaS, distance); device: " in capsys.readouterr().err
    settings = {"normalise": "half", "kind": "distance"}
    model = argan.load(path, onnx_settings=settings)
    expected = argan.estimate_depth(picture(120, 160), model=model)
    stored = np.asarray(Image.open(tmp_path / "photo.depth.png")) / 65535
    np.testing.assert_allclose(stored, expected, atol=1e-5)
    assert run("render", tmp_path / "photo.png", *options, "--blur", 6) == 0
    rendered = argan.render(picture(120, 160), model=model, blur=6)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "photo.bokeh.png")), rendered)
    assert run("depth", tmp_path / "photo.png", "--model", path, "--model-input", "size") == 2
    assert run("depth", tmp_path / "photo.png", "--model", path, "--model-input", "sise=4", "--overwrite") == 2
