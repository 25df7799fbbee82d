"""Samples against photographs, by features that a test can foresee."""

import pytest
import torch
from PIL import Image

from argan import metrics
from argan.config import ModelConfig
from argan.errors import UsageError
from argan.evaluation import samples
from argan.evaluation.samples import draw_samples, photo_batches, sample_consistency, samples_against_photos
from argan.models.hub import Config, DepthInfo, Model


def tiny_model() -> Model:
    return Model(Config("tiny", ModelConfig(resolution=16, z_dim=4, width=4), DepthInfo(8, 16, levels=2)))


def values(rows):
    return {row.measure: row for row in rows}


class Colors:
    """Features that a test can foresee: the mean colour."""

    name, dimensions = "mean colour", 3

    def __call__(self, images):
        return images.mean((2, 3))


def test_samples_against_photos_reports_kid_and_fid_of_the_features():
    draw = torch.Generator().manual_seed(0)
    fake, real = (torch.rand(12, 3, 4, 4, generator=draw) for _ in range(2))
    rows = values(samples_against_photos(fake.split(5), (real + 0.5).split(4), Colors()))
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
    found = [values(samples_against_photos([fake], [real], Colors())) for fake in (varied, alike)]
    recall, precision = "recall (diversity)", "precision (samples among photographs)"
    assert found[0][recall].value > 0.7
    assert found[1][recall].value < 0.1
    assert found[1][precision].value > 0.9  # each of them is a good photograph
    assert found[0][precision].low < found[0][precision].value < 1


def test_samples_of_a_generator_of_viewpoints_come_from_all_of_them():
    torch.manual_seed(0)
    network = ModelConfig(resolution=16, z_dim=4, width=8, yaw=0.6)
    model = Model(Config("tiny", network)).eval().requires_grad_(False)
    (deep, _, _) = next(draw_samples(model, 5, 0, torch.device("cpu")))
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    front, _ = model.generator(z)
    assert deep.shape == (5, 3, 16, 16)
    assert ((deep - front).abs().amax(dim=(1, 2, 3)) > 1e-3).all()
    again = next(draw_samples(model, 5, 0, torch.device("cpu")))[0]
    assert torch.equal(deep, again)


def test_samples_are_the_same_however_many_are_drawn_at_a_time(monkeypatch):
    torch.manual_seed(0)
    network = ModelConfig(resolution=16, z_dim=4, width=8, yaw=0.6)
    model = Model(Config("tiny", network)).eval().requires_grad_(False)
    drawn = []
    for size in (7, 3):
        monkeypatch.setattr(samples, "BATCH", size)
        drawn.append(
            [torch.cat(part) for part in zip(*draw_samples(model, 7, 0, torch.device("cpu"), "uniform"), strict=True)]
        )
    for whole, parts in zip(*drawn, strict=True):
        torch.testing.assert_close(whole, parts)


def test_sample_consistency_tells_which_samples_are_the_right_side_out():
    disparity = metrics.centre_prior(torch.zeros(16, 16)).repeat(4, 1, 1, 1)
    disparity[3] *= -1
    deep = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    rows = values(sample_consistency([(deep[:3], deep[:3], disparity[:3]), (deep[3:], deep[3:], disparity[3:])]))
    assert rows["samples with the centre nearer"].value == 0.75
    assert rows["sharpness shallow / deep, in focus"].value == 1
    in_focus_only = sample_consistency([(deep, deep, 0 * disparity)])
    assert values(in_focus_only)["sharpness shallow / deep, in focus"].value == 1
    assert values(in_focus_only)["sharpness shallow / deep, out of focus"].count == 0


def test_samples_are_shown_as_asked_and_seeds_decide():
    model, device = tiny_model().eval(), torch.device("cpu")

    def drawn(seed, mixture):
        return next(draw_samples(model, 8, seed, device, mixture))

    deep, shown, _ = drawn(0, "deep")
    torch.testing.assert_close(deep, shown)
    assert not torch.equal(deep, drawn(1, "deep")[0])
    for mixture, counts in (("shallow", {8}), ("bernoulli", set(range(1, 8)))):
        deep, shown, _ = drawn(0, mixture)
        assert int(((deep - shown).abs().amax((1, 2, 3)) > 1e-6).sum()) in counts
    firsts = [next(photo_batches("synthetic", 16, 3, seed, False)) for seed in (0, 0, 1)]
    assert [len(first) for first in firsts] == [3, 3, 3]
    assert torch.equal(firsts[0], firsts[1])
    assert not torch.equal(firsts[0], firsts[2])


def test_one_photograph_is_not_enough_for_kid(tmp_path):
    Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="has one photograph"):
        photo_batches(str(tmp_path), 16, 5, seed=0, cache=False)
    Image.new("RGB", (30, 30)).save(tmp_path / "b.png")
    assert [len(batch) for batch in photo_batches(str(tmp_path), 16, 5, seed=0, cache=False)] == [2]
    assert [len(batch) for batch in photo_batches(str(tmp_path), 16, 1, seed=0, cache=False)] == [1]


def test_precision_and_recall_take_more_pictures_than_neighbours():
    pictures = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert [len(samples_against_photos([pictures[:count]], [pictures], Colors())) for count in (3, 4)] == [2, 4]


def test_photographs_are_kept_on_disk_where_that_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("ARGAN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    for name in "ab":
        Image.new("RGB", (30, 30)).save(tmp_path / "photos" / f"{name}.png")
    for cache in (False, True):
        photo_batches(str(tmp_path / "photos"), 16, 2, seed=0, cache=cache)
        assert any(tmp_path.glob("cache/*")) == cache
