"""What `argan eval` measures, on estimators and samples whose right answer is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from argan import evaluation, metrics
from argan.config import ModelConfig
from argan.depth_maps import write_depth
from argan.errors import UsageError
from argan.models.hub import Config, DepthInfo, Model


def oracle(photos):
    """An estimator that knows the truth of these photographs."""
    truths = {photo.numpy().tobytes(): truth for photo, truth in photos}
    return lambda image: truths[image[0].numpy().tobytes()][None]


def tiny_model() -> Model:
    return Model(Config("tiny", ModelConfig(resolution=16, z_dim=4, width=4), DepthInfo(8, 16, levels=2)))


def values(rows):
    return {row.measure: row for row in rows}


def test_depth_against_truth_knows_a_perfect_estimate_and_the_bare_prior():
    photos = list(evaluation.held_out(16, 6))
    perfect = evaluation.depth_against_truth(oracle(photos), photos)
    assert [round(row.value, 9) for row in perfect] == [1, 1, 0]
    assert all(row.count == 6 for row in perfect)
    reversed_order = evaluation.depth_against_truth(lambda image: -oracle(photos)(image), photos)
    assert [round(row.value, 9) for row in reversed_order[:2]] == [-1, 0]
    prior = evaluation.depth_against_truth(metrics.centre_prior, photos)
    assert [row.value for row in prior] == [pytest.approx(row.centre_prior) for row in perfect]
    assert all(row.low <= row.value <= row.high for row in prior)


def test_pixels_whose_depth_is_unknown_do_not_count():
    photo, truth = next(iter(evaluation.held_out(16, 1)))
    sparse = torch.where(torch.arange(16) % 2 == 0, truth, torch.nan)
    wrong_elsewhere = torch.where(sparse.isnan(), -truth, truth)
    rows = evaluation.depth_against_truth(lambda image: wrong_elsewhere[None], [(photo, sparse)])
    assert [round(row.value, 9) for row in rows] == [1, 1, 0]
    assert evaluation.depth_against_truth(lambda image: wrong_elsewhere[None], [(photo, truth)])[0].value < 0.9


def test_held_out_photographs_depend_on_the_seed_and_are_not_those_of_training():
    from argan.data.synthetic import SyntheticPhotos

    first, again, other = (next(iter(evaluation.held_out(16, 1, seed)))[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, SyntheticPhotos(16, 0, seed=0).sample(0)[0])


# --- masks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["inv", "depth"])
def test_photographs_come_with_their_depth_and_without_what_is_unknown(tmp_path, ending):
    Image.new("RGB", (40, 20), (10, 20, 30)).save(tmp_path / "scene.jpg")
    depth = np.full((20, 40), 30000, np.uint16)
    depth[:, 20:] = 0
    Image.fromarray(depth).save(tmp_path / f"scene.{ending}.png")
    ((photo, truth),) = evaluation.photos_with_depth(tmp_path, side=32)
    assert photo.shape == (3, 16, 32)
    assert truth.shape == (1, 16, 32)
    assert truth[0, :, 16:].isnan().all()
    torch.testing.assert_close(truth[0, :, :16], torch.full((16, 16), 30000 / 65535))


def test_depth_maps_without_photographs_are_an_error(tmp_path):
    with pytest.raises(UsageError, match="no depth maps"):
        list(evaluation.photos_with_depth(tmp_path))
    Image.new("L", (8, 8), 1).save(tmp_path / "alone.inv.png")
    with pytest.raises(UsageError, match="no photograph beside"):
        list(evaluation.photos_with_depth(tmp_path))


@pytest.fixture
def flowers(tmp_path):
    """Four photographs whose figure is bright, and a mask of each, named by number and by name."""
    data, masks = tmp_path / "data", tmp_path / "masks"
    data.mkdir()
    masks.mkdir()
    for index in range(4):
        picture = np.zeros((64, 64), np.uint8)
        picture[8 * index + 4 : 8 * index + 36, 10:40] = 255
        Image.fromarray(picture).convert("RGB").save(data / f"image_{index + 1:05}.png")
        name = f"{index:05}.png" if index < 3 else "image_00004.png"
        Image.fromarray(picture).resize((32, 32)).save(masks / name)
    return data, masks


def brightness(image):
    return image.mean(1, keepdim=True)


def test_masks_find_their_photographs_by_number_and_by_name(flowers):
    pairs = list(evaluation.masked_photos(*flowers))
    assert len(pairs) == 4
    for photo, mask in pairs:
        assert photo.shape == (3, 32, 32)
        assert mask.shape == (32, 32)
        assert (photo[0][mask] > 0.5).all()
        assert (photo[0][~mask] < 0.5).all()
    (row,) = evaluation.depth_against_masks(brightness, pairs)
    assert row.value == row.low == row.high == 1
    assert 0 < row.centre_prior < 1
    assert evaluation.depth_against_masks(lambda image: -brightness(image), pairs)[0].value == 0


def test_unsure_masks_and_those_without_figure_or_ground_are_left_out(flowers):
    data, masks = flowers
    lines = ["name\tconfidence", "00000.png\t0.95", "00001.png\t0.9", "00002.png\t0.99", "image_00004.png\t0.2"]
    (masks / "manifest.tsv").write_text("\n".join(lines))
    assert len(list(evaluation.masked_photos(data, masks))) == 2
    Image.new("L", (32, 32), 255).save(masks / "00000.png")  # all figure
    assert len(list(evaluation.masked_photos(data, masks))) == 1


def test_masks_that_cannot_be_used_are_an_error(flowers, tmp_path):
    data, masks = flowers
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="no usable mask"):
        list(evaluation.masked_photos(data, tmp_path / "none"))
    (masks / "00001.png").rename(masks / "00077.png")
    with pytest.raises(UsageError, match=r"00077\.png has no photograph"):
        list(evaluation.masked_photos(data, masks))


def test_confidence_that_is_no_number_is_an_error(flowers):
    _, masks = flowers
    for line in ("00000.png\tna", "00000.png"):
        (masks / "manifest.tsv").write_text(f"name\tconfidence\n{line}\n")
        with pytest.raises(UsageError, match=r"manifest\.tsv: a confidence is a number"):
            evaluation.confident_masks(masks)


# --- samples ----------------------------------------------------------------------------------------------------------


class Colors:
    """Features that a test can foresee: the mean colour."""

    name, dimensions = "mean colour", 3

    def __call__(self, images):
        return images.mean((2, 3))


def test_samples_against_photos_reports_kid_and_fid_of_the_features():
    draw = torch.Generator().manual_seed(0)
    fake, real = (torch.rand(12, 3, 4, 4, generator=draw) for _ in range(2))
    rows = values(evaluation.samples_against_photos(fake.split(5), (real + 0.5).split(4), Colors()))
    a, b = Colors()(fake), Colors()(real + 0.5)
    assert rows["KID x 1000"].value == pytest.approx(1000 * metrics.kid(a, b).value)
    assert rows["KID x 1000"].low < rows["KID x 1000"].value < rows["KID x 1000"].high
    assert rows["FID"].value == pytest.approx(metrics.fid(a, b))
    assert rows["FID"].count == 12


def test_recall_falls_when_samples_are_alike():
    draw = torch.Generator().manual_seed(0)
    real = torch.rand(40, 3, 4, 4, generator=draw) + torch.rand(40, 3, 1, 1, generator=draw)
    varied = torch.rand(40, 3, 4, 4, generator=draw) + torch.rand(40, 3, 1, 1, generator=draw)
    alike = real[:1] + 0.01 * torch.rand(40, 3, 4, 4, generator=draw)
    found = [values(evaluation.samples_against_photos([fake], [real], Colors())) for fake in (varied, alike)]
    recall, precision = "recall (diversity)", "precision (samples among photographs)"
    assert found[0][recall].value > 0.7
    assert found[1][recall].value < 0.1
    assert found[1][precision].value > 0.9  # each of them is a good photograph
    assert found[0][precision].low < found[0][precision].value < 1


def test_samples_of_a_generator_of_viewpoints_come_from_all_of_them():
    torch.manual_seed(0)
    network = ModelConfig(resolution=16, z_dim=4, width=8, yaw=0.6)
    model = Model(Config("tiny", network)).eval().requires_grad_(False)
    (deep, _, _) = next(evaluation.draw_samples(model, 5, 0, torch.device("cpu")))
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    front, _ = model.generator(z)
    assert deep.shape == (5, 3, 16, 16)
    assert ((deep - front).abs().amax(dim=(1, 2, 3)) > 1e-3).all()
    again = next(evaluation.draw_samples(model, 5, 0, torch.device("cpu")))[0]
    assert torch.equal(deep, again)


def test_sample_consistency_tells_which_samples_are_the_right_side_out():
    disparity = metrics.centre_prior(torch.zeros(16, 16)).repeat(4, 1, 1, 1)
    disparity[3] *= -1
    deep = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    rows = values(
        evaluation.sample_consistency([(deep[:3], deep[:3], disparity[:3]), (deep[3:], deep[3:], disparity[3:])])
    )
    assert rows["samples with the centre nearer"].value == 0.75
    assert rows["sharpness shallow / deep, in focus"].value == 1
    in_focus_only = evaluation.sample_consistency([(deep, deep, 0 * disparity)])
    assert values(in_focus_only)["sharpness shallow / deep, out of focus"].count == 0


def test_rows_leave_out_what_has_no_answer():
    row = evaluation.row_of_means("x", [1.0, math.nan, 3.0], None, "higher")
    assert (row.value, row.count, row.centre_prior) == (2, 2, None)
    assert evaluation.row_of_means("x", [1.0, math.nan], [0.25, math.nan], "higher").centre_prior == 0.25
    unanswered = evaluation.row_of_means("x", [math.nan], None, "higher")
    assert math.isnan(unanswered.value)
    assert unanswered.count == 0


def test_photographs_are_turned_as_their_depth_is(tmp_path):
    upright = np.random.default_rng(0).integers(0, 256, (40, 24, 3), np.uint8)
    turned = Image.fromarray(np.rot90(upright))  # as a camera held upright stores it
    exif = Image.Exif()
    exif[274] = 6
    turned.save(tmp_path / "a.png", exif=exif)
    write_depth(tmp_path / "a.depth.png", np.linspace(0.1, 1, 40)[:, None].repeat(24, axis=1))
    ((photo, truth),) = evaluation.photos_with_depth(tmp_path, side=40)
    assert photo.shape[1:] == truth.shape[1:] == (40, 24)
    assert np.array_equal((photo * 255).round().byte().permute(1, 2, 0).numpy(), upright)
    write_depth(tmp_path / "a.depth.png", np.linspace(0.1, 1, 40)[None].repeat(24, axis=0))
    with pytest.raises(UsageError, match="differ in shape"):
        list(evaluation.photos_with_depth(tmp_path, side=40))


def test_depth_maps_without_depth_are_left_out():
    (photo, truth), other = evaluation.held_out(16, 2)
    flat, unknown = torch.full_like(truth, 0.5), torch.full_like(truth, torch.nan)
    with pytest.warns(UserWarning, match="no depth") as said:
        rows = evaluation.depth_against_truth(metrics.centre_prior, [(photo, flat), other, (photo, unknown)])
    assert [row.count for row in rows] == [1, 1, 1]
    assert ["photograph 1 " in str(said[0].message), "photograph 3 " in str(said[1].message)] == [True, True]


def test_what_nothing_answers_is_left_out_of_the_report(tmp_path):
    model = tiny_model()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (20, 600, 3), np.uint8)).save(tmp_path / "a.png")
    write_depth(tmp_path / "a.depth.png", np.full((20, 600), 0.5))
    with pytest.warns(UserWarning, match="no depth in it"):
        report = evaluation.evaluate_model(
            model, "synthetic", torch.device("cpu"), count=2, features="none", truth=tmp_path
        )
    measures = {row.measure for row in report.rows}
    assert "Spearman correlation with true disparity" in measures
    assert report.left_out["Spearman correlation with measured disparity"] == "nothing had an answer"
    assert all(row.count for row in report.rows)


def test_depth_that_was_never_learned_is_not_measured():
    flat = Model(replace(tiny_model().config, mixture="deep", depth=None))
    report = evaluation.evaluate_model(flat, "synthetic", torch.device("cpu"), count=2, features="none")
    assert report.rows == []
    assert "without rendering" in report.left_out["depth of samples"]


def test_samples_are_shown_as_asked_and_seeds_decide():
    model, device = tiny_model().eval(), torch.device("cpu")

    def drawn(seed, mixture):
        return next(evaluation.draw_samples(model, 8, seed, device, mixture))

    deep, shown, _ = drawn(0, "deep")
    torch.testing.assert_close(deep, shown)
    assert not torch.equal(deep, drawn(1, "deep")[0])
    for mixture, counts in (("shallow", {8}), ("bernoulli", set(range(1, 8)))):
        deep, shown, _ = drawn(0, mixture)
        assert int(((deep - shown).abs().amax((1, 2, 3)) > 1e-6).sum()) in counts
    firsts = [next(evaluation.photo_batches("synthetic", 16, 3, seed, False)) for seed in (0, 0, 1)]
    assert [len(first) for first in firsts] == [3, 3, 3]
    assert torch.equal(firsts[0], firsts[1])
    assert not torch.equal(firsts[0], firsts[2])


def test_kid_and_fid_are_of_what_is_asked_for(monkeypatch, tmp_path):
    """With the mean colours as features, in the place of an extractor that is not installed."""

    class Colours:
        name = "colours"

        def __call__(self, images):
            return images.mean((2, 3)).double()

    monkeypatch.setattr(metrics, "feature_extractor", lambda name, device: Colours())
    for index in range(12):
        Image.new("RGB", (20, 20), (20 * index, 10, 255 - 20 * index)).save(tmp_path / f"{index}.png")

    def kid(**asked):
        torch.manual_seed(0)
        model = tiny_model().eval()
        report = evaluation.evaluate_model(model, str(tmp_path), torch.device("cpu"), cache=False, **asked)
        return values(report.rows)["KID x 1000"]

    assert kid(count=8) == kid(count=8)
    assert kid(count=8) != kid(count=8, seed=1)
    assert kid(count=8, mixture="deep").value != kid(count=8, mixture="shallow").value
    assert kid(count=8).count == 8
    seeds, measure = [], metrics.kid
    monkeypatch.setattr(metrics, "kid", lambda *features, seed=0: seeds.append(seed) or measure(*features, seed=seed))
    draw = evaluation.photo_batches
    monkeypatch.setattr(
        evaluation,
        "photo_batches",
        lambda *given: seeds.append(given[3]) or draw(*given),  # data, side, count, seed
    )
    kid(count=8, seed=7)
    assert seeds == [7, 7]


def test_one_photograph_is_not_enough_for_kid(tmp_path):
    Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="has one photograph"):
        evaluation.photo_batches(str(tmp_path), 16, 5, seed=0, cache=False)


def test_a_very_long_photograph_keeps_a_pixel_across(tmp_path):
    Image.new("RGB", (3000, 1)).save(tmp_path / "a.png")
    write_depth(tmp_path / "a.depth.png", np.linspace(0.1, 1, 3000)[None])
    ((photo, truth),) = evaluation.photos_with_depth(tmp_path, side=64)
    assert photo.shape[1:] == truth.shape[1:] == (1, 64)


def test_photographs_that_cannot_be_read_are_left_out(tmp_path):
    Image.fromarray(np.full((30, 30, 3), 90, np.uint8)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"bad\.png"):
        photos = list(evaluation.some_photos(str(tmp_path), 5, seed=0, side=16))
    assert [photo.shape for photo in photos] == [(3, 16, 16)]
