"""`argan eval` through the entry point, with a tiny untrained model."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from argan.cli import main
from argan.config import ModelConfig
from argan.errors import ArganError
from argan.evaluation.truth import photos_with_depth
from argan.models.hub import Config, DepthInfo, Model

HAS_FEATURES = find_spec("efficientnet_lite_pytorch") is not None
GENERATOR = ModelConfig(resolution=16, z_dim=4, width=4, discriminator_width=4)
DEPTH = DepthInfo(width=8, resolution=16, levels=2)


def save(folder, generator=GENERATOR, depth=DEPTH, **config):
    torch.manual_seed(0)
    Model(Config(name="tiny", generator=generator, depth=depth, **config)).save(folder)
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def flowers(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "masks").mkdir()
    for index in range(3):
        picture = np.random.default_rng(index).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(picture).save(tmp_path / "data" / f"photo{index}.png")
        mask = np.zeros((40, 40), np.uint8)
        mask[10:30, 5 + index : 25] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"photo{index}.png")
    return tmp_path / "data", tmp_path / "masks"


def run(capsys, *arguments):
    """Exit code, stdout, stderr of `argan eval`."""
    with pytest.raises(SystemExit) as done:
        main(["eval", *map(str, arguments)])
    out, err = capsys.readouterr()
    return done.value.code, out, err


def rows_of(out):
    return {row["measure"]: row for row in json.loads(out)["rows"]}


@pytest.mark.parametrize(
    ("asked", "used"), [([], "deep"), (["--mixture", "auto"], "deep"), (["--mixture", "uniform"], "uniform")]
)
def test_samples_are_judged_as_they_were_trained_unless_told_otherwise(tmp_path, capsys, asked, used):
    model = save(tmp_path / "gan", depth=None, mixture="deep")
    code, out, _ = run(capsys, model, "--num", 2, "--features", "none", "--device", "cpu", "--json", *asked)
    assert code == 0
    assert json.loads(out)["mixture"] == used


def test_every_option_reaches_the_measurement(model, capsys, monkeypatch):
    seen = {}

    def measure(_model, data, _device, **options):
        seen.update(options, data=data)
        raise ArganError("seen")

    monkeypatch.setattr("argan.evaluation.run.evaluate_model", measure)
    asked = {"data": "photos", "seed": 3, "features": "none", "mixture": "uniform"}
    asked |= {name: Path(name) for name in ("masks", "truth")} | {"sheet": Path("sheet.png")}
    options = [text for name, value in asked.items() for text in (f"--{name}", value)]
    assert run(capsys, model, *options, "--num", 7, "--no-cache")[0] == 1
    assert (asked | {"count": 7, "cache": False, "surrogate": None}).items() <= seen.items()


def test_depth_is_measured_against_truth_beside_the_centre_prior(model, capsys):
    code, out, err = run(capsys, model, "--num", 4, "--features", "none", "--device", "cpu", "--json")
    assert code == 0
    report = json.loads(out)
    assert (report["model"], report["data"], report["seed"], report["features"]) == ("tiny", "synthetic", 0, None)
    row = rows_of(out)["Spearman correlation with true disparity"]
    assert row["count"] == 4
    assert -1 <= row["low"] <= row["value"] <= row["high"] <= 1
    assert row["centre_prior"] != row["value"]
    assert "not measured: KID and FID" in err
    assert run(capsys, model, "--num", 4, "--features", "none", "--device", "cpu", "--json")[1] == out  # reproducible
    assert run(capsys, model, "--num", 4, "--features", "none", "--seed", 1, "--device", "cpu", "--json")[1] != out


def test_masks_are_measured_and_the_table_is_for_people(model, flowers, capsys):
    data, masks = flowers
    options = ["--data", data, "--masks", masks, "--num", 3, "--features", "none", "--no-cache", "--device", "cpu"]
    code, out, _ = run(capsys, model, *options)
    assert code == 0
    assert out.splitlines()[0].split()[:2] == ["measure", "value"]
    assert "centre prior" in out
    (line,) = [line for line in out.splitlines() if "figure nearer than ground" in line]
    assert line.split()[-1] == "3"
    found = rows_of(run(capsys, model, *options, "--json")[1])["figure nearer than ground (AUC)"]
    assert 0 <= found["value"] <= 1
    assert 0.5 < found["centre_prior"] <= 1


def test_depth_is_measured_on_photographs_with_depth(model, capsys, tmp_path):
    gradient = np.tile(np.linspace(1, 255, 64, dtype=np.uint8), (48, 1))
    Image.fromarray(np.stack([gradient] * 3, 2)).save(tmp_path / "scene.png")
    Image.fromarray(gradient).save(tmp_path / "scene.depth.png")
    options = ["--data", tmp_path, "--truth", tmp_path, "--num", 2, "--features", "none", "--no-cache", "--json"]
    code, out, _ = run(capsys, model, *options, "--device", "cpu")
    assert code == 0
    assert "depth" not in json.loads(out)["left_out"]
    row = rows_of(out)["Spearman correlation with measured disparity"]
    assert -1 <= row["value"] <= 1
    assert row["count"] == 1


def test_photographs_with_depth_are_read_as_others_are(tmp_path):
    """16-bit grey is scaled, not cut off."""
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (48, 1))
    Image.fromarray(ramp).save(tmp_path / "scene.png")
    Image.fromarray((ramp >> 8).astype(np.uint8)).save(tmp_path / "scene.depth.png")
    ((photo, _),) = photos_with_depth(tmp_path, 64)
    assert photo[0, 0].numpy() == pytest.approx(np.linspace(0, 1, 64), abs=1 / 250)
    (tmp_path / "scene.png").write_bytes(b"not a picture")
    with pytest.raises(ArganError, match=r"scene\.png: not an image"):
        list(photos_with_depth(tmp_path, 64))


def surrogate_file(path, side=None):
    """A network whose disparity is the photo's red, as ONNX; of a fixed input size if `side` is given."""
    from onnx import TensorProto, helper

    size = ["height", "width"] if side is None else [side, side]
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, *size])
    found = helper.make_tensor_value_info("depth", TensorProto.FLOAT, [1, 1, *size])
    axes = [helper.make_tensor(name, TensorProto.INT64, [1], [value]) for name, value in (("a", 0), ("b", 1), ("c", 1))]
    node = helper.make_node("Slice", ["image", "a", "b", "c"], ["depth"])
    graph = helper.make_graph([node], "red", [given], [found], axes)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("side", [None, 20])
def test_depth_is_compared_with_a_surrogate_and_shown(model, flowers, capsys, tmp_path, side):
    file, sheet = surrogate_file(tmp_path / "red.onnx", side), tmp_path / "sheet.png"
    options = ["--data", flowers[0], "--num", 3, "--features", "none", "--device", "cpu", "--json"]
    options += ["--surrogate", file, "--surrogate-input", "normalise=none"]
    code, out, _ = run(capsys, model, *options, "--sheet", sheet)
    assert code == 0
    row = rows_of(out)["Spearman correlation with the surrogate's disparity"]
    assert row["count"] == 3
    assert -1 <= row["value"] <= 1
    for kind, value in (("disparity", 1), ("distance", -1)):  # of the same network
        code, out, _ = run(capsys, file, *options, "--surrogate-input", f"kind={kind}")
        found = rows_of(out)["Spearman correlation with the surrogate's disparity"]
        assert found["value"] == pytest.approx(value, abs=0.02)
    shown = np.asarray(Image.open(sheet))
    assert shown.shape == (6 * 128, 8 * 128, 3)  # deep, shallow, depth; photo, estimate, surrogate
    assert shown[3 * 128 : 4 * 128, : 3 * 128].std() > 10
    assert shown[3 * 128 :, 3 * 128 :].max() == 0  # three photographs only


def test_an_onnx_depth_model_is_measured_and_shown_too(flowers, capsys, tmp_path):
    file, sheet = surrogate_file(tmp_path / "red.onnx"), tmp_path / "sheet.png"
    code, out, _ = run(capsys, file, "--num", 3, "--features", "none", "--device", "cpu", "--json", "--sheet", sheet)
    assert code == 0
    assert rows_of(out)["ordinal accuracy"]["count"] == 3
    assert np.asarray(Image.open(sheet)).shape == (3 * 128, 8 * 128, 3)  # photo, estimate, truth


@pytest.mark.skipif(not HAS_FEATURES, reason="the extra [metrics] is not installed")
def test_kid_and_fid_name_their_features(model, flowers, capsys):
    code, out, _ = run(capsys, model, "--data", flowers[0], "--num", 3, "--no-cache", "--device", "cpu", "--json")
    assert code == 0
    assert json.loads(out)["features"] == "efficientnet-lite0"
    assert rows_of(out)["FID"]["value"] > 0
    assert rows_of(out)["KID x 1000"]["count"] == 3


def test_without_its_package_auto_says_so_and_a_named_extractor_is_an_error(model, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    code, out, err = run(capsys, model, "--num", 2, "--device", "cpu", "--json")
    assert code == 0
    assert "argan[metrics]" in json.loads(out)["left_out"]["KID and FID"]
    assert "not measured: KID and FID" in err
    code, out, err = run(capsys, model, "--num", 2, "--features", "efficientnet-lite0", "--device", "cpu")
    assert (code, out) == (4, "")
    assert "error: features efficientnet-lite0" in err
    assert "hint: pip install" in err


def test_a_model_with_one_half_is_measured_by_that_half(tmp_path, capsys):
    options = ["--num", 2, "--features", "none", "--device", "cpu", "--json"]
    code, out, err = run(capsys, save(tmp_path / "depth-only", generator=None), *options)
    assert code == 0
    assert list(json.loads(out)["left_out"]) == ["KID and FID", "samples"]
    assert len(rows_of(out)) == 3
    code, out, err = run(capsys, save(tmp_path / "generator-only", depth=None), *options)
    assert code == 0
    assert "train-depth" in err
    assert "samples with the centre nearer" in rows_of(out)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere"], 2, "no model nowhere"),
        (["{model}", "--data", "nowhere"], 2, "no such folder"),
        (["{model}", "--features", "vgg"], 2, "vgg"),
        (["{model}", "--num", "1"], 2, "num"),
        (["{model}", "--masks", "nowhere"], 2, "photographs"),
        (["{model}", "--data", "{data}", "--masks", "nowhere"], 2, "no usable mask"),
        (["{model}", "--data", "{data}", "--truth", "nowhere"], 2, "no depth maps"),
        (["{model}", "--data", "{data}", "--surrogate", "{data}/photo0.png"], 2, "not an ONNX network"),
        (["{model}", "--data", "{data}", "--surrogate", "nowhere.onnx"], 2, "nowhere.onnx"),
        (["{model}", "--data", "{data}", "--surrogate-input", "384"], 2, "KEY=VALUE"),
        (["{model}", "--data", "{data}", "--surrogate-input", "size=384"], 2, "goes with --surrogate"),
        (["{model}", "--sheet", "sheet"], 2, "sheet: photos cannot be written without a suffix"),
        (["{model}", "--data", "cub-200-2011:{data}"], 4, "Caltech-UCSD Birds"),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(model, flowers, capsys, arguments, code, message):
    given = [argument.format(model=model, data=flowers[0]) for argument in arguments]
    found, out, err = run(capsys, *given, *([] if "--features" in given else ["--features", "none"]))
    assert found == code
    assert out == ""
    (error,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert message in error
    assert "Traceback" not in err
