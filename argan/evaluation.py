"""What a model is worth: its depth against truth and figure masks, its samples against photographs.

`evaluate_model` is all of `argan eval`; below it, each function measures one thing and returns rows for a table.
Every depth score stands beside the score of the bare centre prior on the same photographs
(`argan.metrics.centre_prior`): what knows nothing but where the middle is.
"""

import csv
import glob
import io
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path, PurePosixPath
from statistics import fmean
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from argan import metrics
from argan.config import Mixture
from argan.data.datasets import open_source
from argan.data.folder import PhotoFolder, load_square, to_rgb
from argan.data.sources import is_picture
from argan.data.synthetic import SyntheticPhotos
from argan.depth_maps import check_shape, read_depth
from argan.errors import ArganError, MissingError, UsageError
from argan.images import reading
from argan.metrics import FeatureExtractor
from argan.models.hub import Model
from argan.models.resize import resize
from argan.training import pictures
from argan.training.losses import draw_scale, draw_views

BATCH = 50
NEIGHBORS = 3  # of precision and recall
SHEET_COLUMNS = 8
SHEET_SIDE = 128  # px of each picture of the sheet

Track = Callable[[Iterable[Any], str, int], Iterable[Any]]  # (items, description, total) -> the items, with progress
Depth = Callable[[Tensor], Tensor]  # image (1, 3, H, W) in [0, 1] -> disparity (1, 1, H, W), larger is nearer

# Which masks say something: a sure one, with enough of both figure and ground.
MIN_CONFIDENCE = 0.9
FIGURE_SHARE = (0.08, 0.85)

LEAST_DEPTH = 0.05  # of disparity, from the farthest to the nearest: what ordinal accuracy tells apart
DEPTH_ENDINGS = (".inv.png", ".depth.png")


@dataclass(frozen=True)
class Row:
    """One figure of the report; `low` to `high` is its 95 % bootstrap interval over `count` photographs or samples."""

    measure: str
    value: float
    low: float | None
    high: float | None
    centre_prior: float | None
    better: str
    count: int

    def as_cells(self) -> dict[str, object]:
        """For people: the interval in one cell."""
        interval = None if self.low is None else f"{self.low:.4g} … {self.high:.4g}"
        return {
            "measure": self.measure,
            "value": self.value,
            "95 % interval": interval,
            "centre prior": self.centre_prior,
            "better": self.better,
            "of": self.count,
        }


@dataclass
class Report:
    """All that was measured, how, and what was left out and why."""

    model: str
    data: str
    seed: int
    features: str | None
    mixture: Mixture
    rows: list[Row]
    left_out: dict[str, str]


@torch.no_grad()
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
        data: a folder or zip of photographs, or "synthetic".
        count: samples and photographs for KID and FID, samples for consistency, synthetic photographs for depth.
        features: a feature extractor's name, "none", or "auto": the offline one where its package is installed.
        mixture: p(s) of the samples that KID and FID compare; None: as the generator was trained.
        masks: see `masked_photos`; not with synthetic photographs, whose depth is known.
        truth: a folder of other photographs whose depth is known; see `photos_with_depth`.
        surrogate: a depth network to compare with on the photographs; not with synthetic ones.
        sheet: write a picture of samples, and of photographs with their depth, there.
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
            known, most = photos_with_depth(truth), len(depth_maps(truth))
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
        with open_source(data):  # a wrong path is an error now, also where nothing would read it
            pass
    if model.depth is None and (masks or truth or surrogate):
        raise UsageError("this model estimates no depth", hint="learn it first: argan train-depth RUN")
    if data == "synthetic" and (masks or surrogate):
        raise UsageError("--masks and --surrogate go with photographs", hint="give their folder or zip with --data")


def choose_extractor(features: str, device: torch.device) -> tuple[FeatureExtractor | None, dict[str, str]]:
    """The extractor, or None with what is therefore left out."""
    if features == "none":
        return None, {"KID and FID": "no features were asked for"}
    try:
        return metrics.feature_extractor("efficientnet-lite0" if features == "auto" else features, device), {}
    except MissingError as missing:
        if features != "auto":
            raise
        return None, {"KID and FID": f"{missing} ({missing.hint})"}


# --- depth ------------------------------------------------------------------------------------------------------------


TRUTH_MEASURES = {
    "Spearman correlation with {truth} disparity": (metrics.spearman, "higher"),
    "ordinal accuracy{against}": (metrics.ordinal_accuracy, "higher"),
    "scale-invariant depth error (SIDE){against}": (metrics.side, "lower"),
}


def depth_against_truth(depth: Depth, photos: Iterable[tuple[Tensor, Tensor]], truth: str = "true") -> list[Row]:
    """Depth of photographs whose true disparity is known.

    Args:
        depth: the estimator.
        photos: pairs of photograph (3, H, W) and true disparity (1, H, W), NaN where it is unknown.
        truth: whose disparity that is: "true", or what it is called where there is another.
    """
    against = "" if truth == "true" else f" against {truth}"
    estimated, prior = scores_against_truth(photos, depth, metrics.centre_prior)
    return [
        row_of_means(name.format(truth=truth, against=against), estimated[name], prior[name], better)
        for name, (_, better) in TRUTH_MEASURES.items()
    ]


def scores_against_truth(photos: Iterable[tuple[Tensor, Tensor]], *estimators: Depth) -> list[dict[str, list[float]]]:
    """For each estimator every measure of `TRUTH_MEASURES`, one value a photograph; one pass over the photographs.

    Args:
        photos: pairs of photograph (3, H, W) and true disparity (1, H, W), NaN where it is unknown.
    """
    scores: list[dict[str, list[float]]] = [{name: [] for name in TRUTH_MEASURES} for _ in estimators]
    for number, (photo, disparity) in enumerate(photos, 1):
        known = ~disparity.isnan()
        if not known.any() or float(disparity[known].max() - disparity[known].min()) <= LEAST_DEPTH:
            warnings.warn(f"the depth map of photograph {number} has no depth in it and was left out", stacklevel=2)
            continue
        for depth, values in zip(estimators, scores, strict=True):
            estimate = depth(photo[None])[0].cpu()[known]
            for name, (measure, _) in TRUTH_MEASURES.items():
                values[name].append(measure(estimate, disparity[known]))
    return scores


def photos_with_depth(folder: Path, side: int = 512) -> Iterator[tuple[Tensor, Tensor]]:
    """Photographs (3, h, w) of `side` px along the longer side, with true disparity (1, h, w), NaN where unknown.

    A depth map lies beside its photograph, as NAME.inv.png or, as `argan depth` calls it, NAME.depth.png: grey, 1 =
    nearest, 0 = unknown.

    Raises UsageError if there is none, or no photograph to one.
    """
    for file in depth_maps(folder):
        name = PurePosixPath(PurePosixPath(file.name).stem).stem
        beside = [
            other for other in folder.glob(f"{glob.escape(name)}.*") if other.stem == name and is_picture(other.name)
        ]
        if not beside:
            raise UsageError(f"{file.name} has no photograph beside it")
        with reading(beside[0]) as image:
            upright = to_rgb(ImageOps.exif_transpose(image))
        photo = torch.tensor(np.asarray(upright)).permute(2, 0, 1)[None] / 255
        disparity = read_depth(file).disparity
        check_shape(disparity.shape, photo.shape[2:])
        truth = torch.tensor(np.where(disparity > 0, disparity, np.nan))[None, None]
        height, width = (max(1, round(length * side / max(photo.shape[2:]))) for length in photo.shape[2:])
        # Nearest pixels: laser depth is sparse, and what lies between two surfaces is no depth.
        nearest = torch.nn.functional.interpolate(truth, (height, width), mode="nearest-exact")
        yield resize(photo, (height, width))[0], nearest[0]


def depth_maps(folder: Path) -> list[Path]:
    """The depth maps of `photos_with_depth`."""
    files = [file for file in sorted(folder.glob("*.png")) if file.name.endswith(DEPTH_ENDINGS)]
    if not files:
        raise UsageError(f"no depth maps in {folder}", hint="NAME.inv.png or NAME.depth.png beside each photograph")
    return files


def surrogate_pairs(data: str, surrogate: Depth, count: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """`count` photographs (3, S, S) with what the surrogate says of them, (1, S, S)."""
    for photo in some_photos(data, count, seed):
        yield photo, surrogate(photo[None])[0].cpu()


def some_photos(data: str, count: int, seed: int, side: int = 256) -> Iterator[Tensor]:
    """`count` photographs (all, where there are fewer) in random order: squares (3, side, side) in [0, 1]."""
    with open_source(data, side) as source:
        names = source.names()
        for index in torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))[:count].tolist():
            name = names[index]
            try:
                square = load_square(io.BytesIO(source.read(name)), side, source.subject(name))
            except Exception as error:  # a damaged file can raise nearly anything
                warnings.warn(f"{name} was left out: {error}", stacklevel=2)
                continue
            yield torch.tensor(square).permute(2, 0, 1) / 255


def held_out(resolution: int, count: int, seed: int = 0) -> Iterable[tuple[Tensor, Tensor]]:
    """`count` synthetic photographs with their true disparity; none of them is ever trained on."""
    photos = synthetic_photos(resolution, 0, seed)
    return (photos.sample(index) for index in range(count))


def synthetic_photos(resolution: int, count: int, seed: int) -> SyntheticPhotos:
    """Synthetic photographs for evaluation: training uses small seeds, evaluation starts at a million."""
    return SyntheticPhotos(resolution, count, seed=1_000_000 + seed)


def depth_against_masks(depth: Depth, pairs: Iterable[tuple[Tensor, Tensor]]) -> list[Row]:
    """Is the figure nearer than the ground: area under the ROC curve, averaged over photographs.

    Args:
        depth: the estimator.
        pairs: photograph (3, S, S) and figure mask (S, S) bool.
    """
    estimated, prior = [], []
    for photo, mask in pairs:
        estimated.append(metrics.area_under_roc(depth(photo[None])[0, 0].cpu(), mask))
        prior.append(metrics.area_under_roc(metrics.centre_prior(photo)[0, 0].cpu(), mask))
    return [row_of_means("figure nearer than ground (AUC)", estimated, prior, "higher")]


def masked_photos(data: str | Path, masks: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Photographs with a usable figure mask: (3, S, S) float in [0, 1] and (S, S) bool, S the mask's side.

    Masks are PNG files, white on the figure. A mask belongs to the photograph of the same name; one that is named by a
    number n, to the n-th photograph in order, counted from 0. Both are cropped to the centre square. Used are masks
    whose figure covers 8 to 85 % and, where the folder has a `manifest.tsv` with the columns `name` and `confidence`,
    whose confidence is above 0.9.

    Raises:
        UsageError: there is no usable mask, or a mask has no photograph.
    """
    found = False
    with open_source(data) as source:
        names = source.names()
        by_stem = {PurePosixPath(name).stem: name for name in names}
        called = Counter(PurePosixPath(name).stem for name in names)
        ambiguous = {stem for stem, count in called.items() if count > 1}
        for file in confident_masks(masks):
            with Image.open(file) as image:
                size = min(image.size)
            mask = torch.from_numpy(load_square(file, size)[..., 0] > 127)
            if not FIGURE_SHARE[0] <= mask.float().mean() <= FIGURE_SHARE[1]:
                continue
            if file.stem in ambiguous:
                raise UsageError(f"mask {file.name} may be of several photographs of {data} that are called so")
            numbered = file.stem.isdecimal() and int(file.stem) < len(names)
            name = by_stem.get(file.stem) or (names[int(file.stem)] if numbered else None)
            if name is None:
                raise UsageError(f"mask {file.name} has no photograph in {data}")
            photo = torch.tensor(load_square(io.BytesIO(source.read(name)), size)).permute(2, 0, 1) / 255
            found = True
            yield photo, mask
    if not found:
        raise UsageError(f"no usable mask in {masks}", hint="PNG files, white on a figure that covers 8 to 85 %")


def confident_masks(folder: Path) -> list[Path]:
    """The masks that are sure of their figure, however large it is."""
    confidence = read_confidence(folder / "manifest.tsv")
    return [file for file in sorted(folder.glob("*.png")) if confidence.get(file.name, 1.0) > MIN_CONFIDENCE]


def read_confidence(manifest: Path) -> dict[str, float]:
    """The columns `name` and `confidence` of a tab-separated file; nothing where there is none, or no such columns."""
    if not manifest.exists():
        return {}
    with manifest.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines, delimiter="\t") if {"name", "confidence"} <= row.keys()]
    try:
        return {row["name"]: float(row["confidence"]) for row in rows}
    except (TypeError, ValueError):
        raise UsageError(f"{manifest}: a confidence is a number from 0 to 1") from None


# --- samples ----------------------------------------------------------------------------------------------------------


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
        raise UsageError(f"{data} has one photograph: KID and FID take two at least", hint="--features none")
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


def save_sheet(model: Model, data: str, seed: int, surrogate: Depth | None, path: Path, device: torch.device) -> None:
    """A picture for people: samples (deep, shallow, depth), then photographs with their depth.

    Below each photograph: the estimated depth and, where there is one, the true depth or the surrogate's; nearer is
    brighter.
    """
    rows: list[Tensor] = []
    if model.generator is not None:
        deep, shallow, disparity = next(draw_samples(model, SHEET_COLUMNS, seed, device))
        rows += [deep, shallow, pictures.depth_picture(disparity)]
    if model.depth is not None:
        if data == "synthetic":
            known = list(held_out(model.depth.resolution, SHEET_COLUMNS, seed))
            photos, truths = (torch.stack(part) for part in zip(*known, strict=True))
            maps = [model.depth(photos.to(device)), truths]
        else:
            shown = list(some_photos(data, SHEET_COLUMNS, seed))
            if not shown:
                raise ArganError(f"no photograph of {data} can be read")
            photos = torch.stack(shown)
            maps = [model.depth(photos.to(device))]
            if surrogate is not None:
                maps.append(torch.cat([surrogate(photo[None]) for photo in photos]))
        rows += [photos, *(pictures.depth_picture(depth) for depth in maps)]
    if not rows:
        raise UsageError("a model without generator and depth has nothing for a sheet")
    pictures.save_picture([pictures.fit(row.cpu(), SHEET_SIDE, SHEET_COLUMNS) for row in rows], path)


def row_of_means(measure: str, values: Sequence[float], prior: Sequence[float] | None, better: str) -> Row:
    """The mean over photographs with its bootstrap interval; those without an answer, NaN, are in neither mean."""
    answered = [not math.isnan(value) for value in values]
    known = list(compress(values, answered))
    mean = metrics.mean_interval(known) if known else metrics.Interval(math.nan, math.nan, math.nan)
    centre = fmean(compress(prior, answered)) if prior and known else None
    return Row(measure, *mean, centre, better, len(known))
