"""The whole report."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from argan import metrics
from argan.config import ModelConfig
from argan.depth_maps import write_depth
from argan.errors import ArganError, UsageError
from argan.evaluation import run
from argan.evaluation.report import Row, row_of_means
from argan.evaluation.run import choose_extractor, evaluate_model
from argan.evaluation.samples import draw_samples, photo_batches
from argan.evaluation.sheet import save_sheet
from argan.evaluation.truth import held_out
from argan.models.hub import Config, DepthInfo, Model
from argan.training.pictures import depth_picture


def tiny_model() -> Model:
    return Model(Config("tiny", ModelConfig(resolution=16, z_dim=4, width=4), DepthInfo(8, 16, levels=2)))


def values(rows):
    return {row.measure: row for row in rows}


def test_rows_leave_out_what_has_no_answer():
    row = row_of_means("x", [1.0, math.nan, 3.0], None, "higher")
    assert (row.value, row.count, row.centre_prior) == (2, 2, None)
    assert row_of_means("x", [1.0, math.nan], [0.25, math.nan], "higher").centre_prior == 0.25
    unanswered = row_of_means("x", [math.nan], None, "higher")
    assert math.isnan(unanswered.value)
    assert unanswered.count == 0


def test_people_see_a_row_as_it_is():
    cells = Row("depth", 0.5, 0.25, 0.75, 0.1, "higher", 3).as_cells()
    assert list(cells.values()) == ["depth", 0.5, "0.25 … 0.75", 0.1, "higher", 3]
    assert Row("FID", 2.0, None, None, None, "lower", 3).as_cells()["95 % interval"] is None


def test_depth_and_samples_are_those_of_the_seed():
    model = tiny_model().eval()

    def figures(seed):
        rows = evaluate_model(model, "synthetic", torch.device("cpu"), count=2, features="none", seed=seed).rows
        return {row.measure: row.value for row in rows}

    first, other = figures(0), figures(1)
    assert first == figures(0)
    for measure in ("Spearman correlation with true disparity", "sharpness shallow / deep, in focus"):
        assert first[measure] != other[measure]


def test_samples_are_judged_with_the_lens_wide_open_whatever_kid_compares():
    model = tiny_model().eval()
    deep, shallow = (
        evaluate_model(model, "synthetic", torch.device("cpu"), count=2, features="none", mixture=mixture).rows
        for mixture in ("deep", "shallow")
    )
    assert deep == shallow


def test_a_surrogate_is_asked_about_as_many_photographs_as_the_seed_chooses(tmp_path):
    for index in range(6):
        noise = np.random.default_rng(index).integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{index}.png")
    model = tiny_model().eval()

    def row(seed):
        red = {"surrogate": lambda image: image[:, :1]}
        report = evaluate_model(model, str(tmp_path), torch.device("cpu"), count=2, features="none", seed=seed, **red)
        return values(report.rows)["Spearman correlation with the surrogate's disparity"]

    assert row(0).count == 2
    assert row(0) == row(0)
    assert row(0).value != row(1).value


def test_the_sheet_shows_samples_and_photographs_of_the_seed_each_above_its_depth(tmp_path):
    torch.manual_seed(0)
    model, device = tiny_model().eval().requires_grad_(False), torch.device("cpu")
    evaluate_model(model, "synthetic", device, count=2, features="none", seed=3, sheet=tmp_path / "sheet.png")
    deep, shallow, disparity = next(draw_samples(model, 8, 3, device))
    photos, truths = map(torch.stack, zip(*held_out(16, 8, 3), strict=True))
    maps = [depth_picture(depth) for depth in (disparity, model.depth(photos), truths)]
    rows = [deep, shallow, maps[0], photos, *maps[1:]]
    shown = np.asarray(Image.open(tmp_path / "sheet.png"))[4::8, 4::8]  # 16 px, eight times as large
    expected = np.vstack([np.hstack([*(255 * row).permute(0, 2, 3, 1).numpy()]) for row in rows])
    assert (deep - shallow).abs().max() > 0.01
    assert np.abs(shown - expected).max() <= 0.5 + 1e-3


def test_a_sheet_of_nothing_is_an_error(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    model, device = Model(Config("tiny", depth=DepthInfo(8, 16, levels=2))), torch.device("cpu")
    with pytest.raises(ArganError, match="no photograph of"), pytest.warns(UserWarning, match="bad"):
        save_sheet(model, str(tmp_path), 0, None, tmp_path / "sheet.png", device)
    with pytest.raises(UsageError, match="nothing for a sheet"):
        save_sheet(Model(Config("bare", depth=None)), "synthetic", 0, None, tmp_path / "sheet.png", device)


def test_what_goes_with_other_data_or_another_model_is_refused(tmp_path):
    def measure(model, data, **asked):
        evaluate_model(model, data, torch.device("cpu"), count=2, features="none", **asked)

    red = {"surrogate": lambda image: image[:, :1]}
    for asked in (red, {"masks": tmp_path}):
        with pytest.raises(UsageError, match="go with photographs"):
            measure(tiny_model(), "synthetic", **asked)
    for asked in (red, {"masks": tmp_path}, {"truth": tmp_path}):
        with pytest.raises(UsageError, match="estimates no depth"):
            measure(Model(replace(tiny_model().config, depth=None)), str(tmp_path), **asked)


def test_features_are_those_that_need_no_network_unless_others_are_named(monkeypatch):
    monkeypatch.setattr(run, "feature_extractor", lambda name, device: name)
    chosen = [choose_extractor(name, torch.device("cpu"))[0] for name in ("auto", "inception")]
    assert chosen == ["efficientnet-lite0", "inception"]


def test_what_nothing_answers_is_left_out_of_the_report(tmp_path):
    model = tiny_model()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (20, 600, 3), np.uint8)).save(tmp_path / "a.png")
    write_depth(tmp_path / "a.depth.png", np.full((20, 600), 0.5))
    with pytest.warns(UserWarning, match="no depth in it"):
        report = evaluate_model(model, "synthetic", torch.device("cpu"), count=2, features="none", truth=tmp_path)
    measures = {row.measure for row in report.rows}
    assert "Spearman correlation with true disparity" in measures
    assert report.left_out["Spearman correlation with measured disparity"] == "nothing had an answer"
    assert all(row.count for row in report.rows)


def test_a_folder_without_depth_maps_is_refused_before_anything_is_measured(tmp_path):
    def never(*_arguments):
        raise AssertionError("it measures")

    with pytest.raises(UsageError, match="no depth maps"):
        evaluate_model(tiny_model(), "synthetic", torch.device("cpu"), truth=tmp_path, track=never)


def test_depth_that_was_never_learned_is_not_measured():
    flat = Model(replace(tiny_model().config, mixture="deep", depth=None))
    report = evaluate_model(flat, "synthetic", torch.device("cpu"), count=2, features="none")
    assert report.rows == []
    assert "without rendering" in report.left_out["depth of samples"]


def test_kid_and_fid_are_of_what_is_asked_for(monkeypatch, tmp_path):
    """With the mean colours as features, in the place of an extractor that is not installed."""

    class Colours:
        name = "colours"

        def __call__(self, images):
            return images.mean((2, 3)).double()

    monkeypatch.setattr(run, "feature_extractor", lambda name, device: Colours())
    monkeypatch.setenv("ARGAN_CACHE", str(tmp_path / "cache"))
    for index in range(12):
        Image.new("RGB", (20, 20), (20 * index, 10, 255 - 20 * index)).save(tmp_path / f"{index}.png")

    def figure(measure, **asked):
        torch.manual_seed(0)
        model = tiny_model().eval()
        report = evaluate_model(model, str(tmp_path), torch.device("cpu"), cache=False, **asked)
        return values(report.rows)[measure]

    def kid(**asked):
        return figure("KID x 1000", **asked)

    assert kid(count=8) == kid(count=8)
    assert kid(count=8) != kid(count=8, seed=1)
    assert kid(count=8, mixture="deep").value != kid(count=8, mixture="shallow").value
    assert kid(count=8).count == 8
    assert not (tmp_path / "cache").exists()
    fids = [figure("FID", count=12, seed=seed).value for seed in (0, 1)]  # of all photographs: the samples differ
    assert fids[0] != pytest.approx(fids[1], rel=1e-3)
    seeds, measure = [], metrics.kid
    monkeypatch.setattr(metrics, "kid", lambda *features, seed=0: seeds.append(seed) or measure(*features, seed=seed))
    draw = photo_batches
    monkeypatch.setattr(
        run,
        "photo_batches",
        lambda *given: seeds.append(given[3]) or draw(*given),  # data, side, count, seed
    )
    kid(count=8, seed=7)
    assert seeds == [7, 7]


def test_depth_is_measured_as_photos_are_rendered_with_it(set_precision):
    """GPUs would convolve in TF32."""
    convolutions, seen = torch.backends.cudnn.conv, []
    set_precision(convolutions, "tf32")
    model = tiny_model().eval()
    model.depth.register_forward_pre_hook(lambda *_: seen.append(convolutions.fp32_precision))
    evaluate_model(model, "synthetic", torch.device("cpu"), count=1, features="none")
    assert seen == ["ieee"]
    assert convolutions.fp32_precision == "tf32"
