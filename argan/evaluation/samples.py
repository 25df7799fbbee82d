"""Samples against photographs, and against what their own depth says."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from argan import metrics
from argan.config import Mixture
from argan.data.folder import PhotoFolder
from argan.data.synthetic import SyntheticPhotos
from argan.errors import UsageError
from argan.evaluation.report import Row, row_of_means
from argan.evaluation.truth import synthetic_photos
from argan.features import FeatureExtractor
from argan.models.hub import Model
from argan.training.draws import draw_scale, draw_views

BATCH = 50
NEIGHBORS = 3  # of precision and recall


def draw_samples(
    model: Model, count: int, seed: int, device: torch.device, mixture: Mixture = "shallow"
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches of (deep, rendered, disparity), `count` samples in all, rendered at s ~ p(s) of the mixture.

    A generator of viewpoints is shown from those that it was trained on.
    """
    network = model.config.generator
    if model.generator is None or model.renderer is None or network is None:
        raise ValueError("the model has no generator")
    draw = torch.Generator().manual_seed(seed)
    z = torch.randn(count, model.generator.z_dim, generator=draw)
    scale = draw_scale(count, mixture, draw)
    camera = draw_views(count, network, draw)
    for rows in torch.arange(count).split(BATCH):
        place = None if camera is None else camera[rows].to(device)
        deep, disparity = model.generator(z[rows].to(device), place)
        yield deep, model.renderer(deep, disparity, scale[rows].to(device)), disparity


def photo_batches(data: str, resolution: int, count: int, seed: int, cache: bool) -> Iterator[Tensor]:
    """`count` photographs, drawn without replacement (all, where there are fewer): batches (B, 3, S, S) in [0, 1]."""
    photos: PhotoFolder | SyntheticPhotos
    if data == "synthetic":
        photos = synthetic_photos(resolution, count, seed)
    else:
        photos = PhotoFolder(data, resolution, cache=cache)
    if len(photos) < 2:
        raise UsageError(f"{data} has one photograph: KID and FID need at least two", hint="--features none")
    chosen = torch.randperm(len(photos), generator=torch.Generator().manual_seed(seed))[:count]
    return (photos.batch(part, torch.zeros(len(part), dtype=torch.bool)) for part in chosen.split(BATCH))


def samples_against_photos(
    samples: Iterable[Tensor], photos: Iterable[Tensor], extractor: FeatureExtractor, seed: int = 0
) -> list[Row]:
    """KID and FID of generated images and photographs, both batches of (B, 3, S, S) in [0, 1].

    KID is the mean over 100 subsets of 1,000 (of all, where there are fewer); precision and recall: see
    `metrics.precision_and_recall`.
    """
    fake = torch.cat([extractor(batch) for batch in samples])
    real = torch.cat([extractor(batch) for batch in photos])
    kid = metrics.kid(fake, real, seed=seed)
    count = min(len(fake), len(real))
    rows = [
        Row("KID x 1000", 1000 * kid.value, 1000 * kid.low, 1000 * kid.high, None, "lower", count),
        Row("FID", metrics.fid(fake, real), None, None, None, "lower", count),
    ]
    if count > NEIGHBORS:
        coverage = metrics.precision_and_recall(fake, real, neighbors=NEIGHBORS)
        rows.append(
            row_of_means("precision (samples among photographs)", coverage.precision.double().tolist(), None, "higher")
        )
        rows.append(row_of_means("recall (diversity)", coverage.recall.double().tolist(), None, "higher"))
    return rows


def sample_consistency(samples: Iterable[tuple[Tensor, Tensor, Tensor]]) -> list[Row]:
    """Do the samples' images say what their depth says.

    Args:
        samples: batches of (deep, shallow, disparity), the shallow ones rendered with the lens wide open (s = 1).

    Sharpness: see `metrics.sharpness_consistency`; samples without any pixel in (or out of) focus are left out of that
    row. A sample is the right side out where the centre (a disc of half the width) is nearer than the rest on average.
    """
    in_focus, out_of_focus, upright = [], [], []
    for batch in samples:
        for deep, shallow, disparity in zip(*batch, strict=True):
            sharpness = metrics.sharpness_consistency(deep, shallow, disparity)
            in_focus.append(sharpness.in_focus)
            out_of_focus.append(sharpness.out_of_focus)
            centre = metrics.centre_prior(disparity)[0] == 0
            upright.append(float(disparity[centre].mean() > disparity[~centre].mean()))
    return [
        row_of_means("sharpness shallow / deep, in focus", in_focus, None, "near 1"),
        row_of_means("sharpness shallow / deep, out of focus", out_of_focus, None, "below 1"),
        row_of_means("samples with the centre nearer", upright, None, "higher"),
    ]
