"""All of `argan eval`: whatever the model and the data allow to measure."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from argan.config import Mixture
from argan.data.datasets import refuse_missing
from argan.errors import MissingError, UsageError
from argan.evaluation.depth import Depth, depth_against_masks, depth_against_truth
from argan.evaluation.report import Report, Row
from argan.evaluation.samples import BATCH, draw_samples, photo_batches, sample_consistency, samples_against_photos
from argan.evaluation.sheet import save_sheet
from argan.evaluation.truth import (
    confident_masks,
    depth_files,
    held_out,
    masked_photos,
    photos_with_depth,
    surrogate_pairs,
)
from argan.features import FeatureExtractor, feature_extractor
from argan.models.hub import Model
from argan.precision import exact_convolutions

Track = Callable[[Iterable[Any], str, int], Iterable[Any]]  # (items, description, total) -> the items, with progress


@torch.no_grad()
@exact_convolutions()  # what is measured is what photos are rendered with, on every device
def evaluate_model(
    model: Model,
    data: str,
    device: torch.device,
    *,
    count: int = 1000,
    seed: int = 0,
    features: str = "auto",
    mixture: Mixture | None = None,
    masks: Path | None = None,
    truth: Path | None = None,
    surrogate: Depth | None = None,
    sheet: Path | None = None,
    cache: bool = True,
    track: Track = lambda items, description, total: items,
) -> Report:
    """Measure whatever the model and the data allow.

    Args:
        model: on `device`.
        data: a folder or zip of photographs, a data set of `argan.data.datasets`, or "synthetic".
        count: samples and photographs for KID and FID, samples for consistency, synthetic photographs for depth.
        seed: of the samples, and of which photographs are taken.
        features: a feature extractor's name, "none", or "auto": the offline one where its package is installed.
        mixture: p(s) of the samples that KID and FID compare; None: as the generator was trained.
        masks: see `masked_photos`; not with synthetic photographs, whose depth is known.
        truth: a folder of other photographs whose depth is known; see `photos_with_depth`.
        surrogate: a depth network to compare with on the photographs; not with synthetic ones.
        sheet: where to write a picture of samples, and of photographs with their depth.
        track: shows progress: (items, description, total) -> the items.

    Raises:
        UsageError: no such data; masks or a surrogate with synthetic data; masks, truth or a surrogate without a depth
            estimator.
        MissingError: the package of a feature extractor that was asked for by name.
    """
    refuse_impossible(model, data, masks, truth, surrogate)
    extractor, left_out = choose_extractor(features, device)
    mixture = mixture or model.config.mixture

    def depth_rows() -> Iterator[Row]:
        def depth(image: Tensor) -> Tensor:
            assert model.depth is not None
            return model.depth(image.to(device))

        if model.depth is None:
            left_out["depth"] = "this model has no depth estimator yet (argan train-depth)"
        elif data == "synthetic":
            truths = held_out(model.depth.resolution, count, seed)
            yield from depth_against_truth(depth, track(truths, "depth against truth", count))
        elif not (masks or truth or surrogate):
            left_out["depth"] = (
                "these photographs come without truth (--masks, --truth, --surrogate, or --data synthetic)"
            )
        if masks is not None:
            pairs, most = masked_photos(data, masks), len(confident_masks(masks))
            yield from depth_against_masks(depth, track(pairs, "depth against masks", most))
        if truth is not None:
            known, most = photos_with_depth(truth), len(depth_files(truth))
            yield from depth_against_truth(depth, track(known, "depth against truth", most), "measured")
        if surrogate is not None:
            stand_ins = track(surrogate_pairs(data, surrogate, count, seed), "depth against surrogate", count)
            yield from depth_against_truth(depth, stand_ins, "the surrogate's")

    def sample_rows() -> Iterator[Row]:
        if model.generator is None:
            left_out["samples"] = "this model has no generator"
            return
        batches = -(-count // BATCH)
        if extractor is not None:
            rendered = (shallow for _, shallow, _ in draw_samples(model, count, seed, device, mixture))
            photos = photo_batches(data, model.generator.resolution, count, seed, cache)
            yield from samples_against_photos(
                track(rendered, "features of samples", batches),
                track(photos, "features of photographs", batches),
                extractor,
                seed,
            )
        if model.config.learns_depth:
            tuples = draw_samples(model, count, seed, device)
            yield from sample_consistency(track(tuples, "consistency of samples", batches))
        else:
            left_out["depth of samples"] = "this generator was trained without rendering and has learned none"

    rows = [*depth_rows()]
    if sheet is not None:
        save_sheet(model, data, seed, surrogate, sheet, device)
    rows += sample_rows()
    left_out |= {row.measure: "nothing had an answer" for row in rows if not row.count}
    answered = [row for row in rows if row.count]
    return Report(model.config.name, data, seed, extractor.name if extractor else None, mixture, answered, left_out)


def refuse_impossible(model: Model, data: str, masks: Path | None, truth: Path | None, surrogate: Depth | None) -> None:
    """What `evaluate_model` cannot be asked for, before anything is measured."""
    if data != "synthetic":
        refuse_missing(data)  # also where nothing would read it
    if model.depth is None and (masks or truth or surrogate):
        raise UsageError("this model estimates no depth", hint="learn it first: argan train-depth RUN")
    if data == "synthetic" and (masks or surrogate):
        raise UsageError("--masks and --surrogate go with photographs", hint="give their folder or zip with --data")
    if truth is not None:
        depth_files(truth)  # there are some: they would be read after a thousand synthetic photographs only


def choose_extractor(features: str, device: torch.device) -> tuple[FeatureExtractor | None, dict[str, str]]:
    """The extractor, or None with what is therefore left out."""
    if features == "none":
        return None, {"KID and FID": "no features were asked for"}
    try:
        return feature_extractor("efficientnet-lite0" if features == "auto" else features, device), {}
    except MissingError as missing:
        if features != "auto":
            raise
        return None, {"KID and FID": f"{missing} ({missing.hint})"}
