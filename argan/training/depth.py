"""AR-GAN-DR: a depth estimator learned from generators' own (image, depth) pairs, made on the fly.

With photographs it goes on by self-training (Xie et al., "Self-training with Noisy Student", CVPR 2020): an estimator
that has learned from samples says what is near in real photographs, and another learns from both.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from argan.config import DepthConfig
from argan.data.batch import gather
from argan.devices import resolve_device
from argan.errors import ArganError, UsageError
from argan.guided import settle
from argan.models.aperture import render_mixture
from argan.models.encoder import pretrained
from argan.models.estimator import DepthEstimator, DepthPredictor, PretrainedPyramid
from argan.models.hub import DepthInfo, Model
from argan.training.augment import augment, collage, stage
from argan.training.draws import draw_views, step_seed
from argan.training.logs import Progress
from argan.training.players import use_bfloat16

PHOTOS = 0.5  # the share of photographs in what an estimator sees, where there are any
SHARPER = 0.3  # disparity by which a place is nearer that is sharper by a standard deviation
RANGE_SAMPLES = 512
RANGE_QUANTILES = 0.05, 0.95


def train_depth(
    model: Model,
    config: DepthConfig,
    *,
    others: Sequence[Model] = (),
    photos: Sequence[Tensor] = (),
    focus: Sequence[Tensor] = (),
    teacher: Model | None = None,
    device: str = "auto",
    report: Callable[[Progress], None] | None = None,
) -> Model:
    """`model` with a depth estimator learned from its generator, and from the `others` to equal parts.

    The images that it sees are augmented, and deep or shallow as `config.images` says; L1 on D. An encoder that it
    starts from stays as it is. If there are sets of `photos`, each (N, 3, S, S), uint8, half of what it sees is
    photographs, from every set as often, with the disparity that the `teacher`'s estimator sees in them: by default
    `model`'s own, and if that has none yet, one is learned from samples first. Where the sets' `focus_maps` are given,
    (N, 1, S, S) each, what is sharp is nearer than the estimator sees it, and what is blurred farther.

    Raises:
        UsageError: a model has no generator, or another resolution than the first; the teacher has no estimator of
            argan's; a batch without room for all.
        ArganError: the estimator is no longer finite.
    """
    samples_of_each(config, 1 + len(others), bool(photos))  # a batch that is too small is an error now
    where = resolve_device(device)
    if photos and teacher is None:
        if model.depth is None:
            model = train_depth(model, config, others=others, device=device, report=report)
        teacher = model
    models = [other.to(where) for other in (model, *others)]
    resolution = shared_resolution(models)
    ranges = [disparity_range(each, config.seed) for each in models]
    spans = [near - far for far, near in ranges]
    photographs = Photographs(photos, predictor(teacher).to(where), ranges[0], focus) if teacher and photos else None
    torch.manual_seed(config.seed)
    levels = max(1, min(config.levels, resolution.bit_length() - 3))
    estimator = DepthEstimator(config.width, levels, config.encoder)
    if isinstance(estimator.down, PretrainedPyramid):
        estimator.down.encoder = pretrained()
    estimator.to(where)
    learned = [parameter for parameter in estimator.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=config.lr)
    warm_up = 0.1 if config.steps != 10 else 0.2  # OneCycleLR divides by warm_up steps - 1
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=config.steps, pct_start=warm_up)
    for step in range(config.steps):
        rng = torch.Generator().manual_seed(step_seed(config.seed, step))
        image, disparity = draw_pairs(models, spans, config, rng, photographs)
        with torch.autocast(where.type, torch.bfloat16, enabled=use_bfloat16(config.precision, where)):
            estimate = estimator(image)
        error = (estimate.float() - disparity).abs().mean()
        optimizer.zero_grad(set_to_none=True)
        error.backward()
        optimizer.step()
        schedule.step()
        last = step + 1 == config.steps
        if step % 20 == 19 or last:
            shown = float(error.detach())
            if not math.isfinite(shown) or (last and not all(bool(x.isfinite().all()) for x in learned)):
                raise ArganError(f"the estimator is not finite at step {step + 1}")
            if report is not None:
                report(Progress(step + 1, {"error": shown}))
    depth = DepthInfo(config.width, resolution, *ranges[0], levels, config.encoder)
    return with_estimator(model, estimator, depth)


def shared_resolution(models: Sequence[Model]) -> int:
    """The size of what all generators draw. Warns of each that has learned no depth, once however often it is asked."""
    for model in models:
        if model.generator is None:
            raise UsageError(f"{model.config.name} has no generator to learn depth from")
        if not model.config.learns_depth:
            warnings.warn(f"{model.config.name} was trained without rendering and has learned no depth", stacklevel=1)
    sizes = {model.generator.resolution for model in models if model.generator is not None}
    if len(sizes) > 1:
        raise UsageError(f"generators of {' and '.join(map(str, sorted(sizes)))} px cannot share an estimator")
    return sizes.pop()


def predictor(teacher: Model) -> DepthPredictor:
    """The estimator of a teacher; UsageError if it has none, or one from an ONNX file."""
    if not isinstance(teacher.depth, DepthPredictor):
        raise UsageError(f"{teacher.config.name} has no estimator of argan's to learn from")
    return teacher.depth


class Photographs:
    """Sets of photographs, each (N, 3, S, S), uint8, with the disparity that an estimator sees in them.

    What it sees as farthest and nearest has the signed disparities `far_and_near`. Every set is drawn from as often,
    however small. The estimator sees them as they are, looks twice, and its edges are settled: what learns from it sees
    them blurred, lit and arranged anew. With `focus`, the sets' `argan.data.defocus.focus_maps`, it learns from their
    blur, too, of which nothing is left at their small size.
    """

    def __init__(
        self,
        sets: Sequence[Tensor],
        depth: DepthPredictor,
        far_and_near: tuple[float, float],
        focus: Sequence[Tensor] = (),
    ):
        self.images, self.depth, (self.far, self.near) = torch.cat([*sets]), depth, far_and_near
        self.focus = torch.cat([*focus]) if focus else None
        self.odds = torch.cat([torch.full((len(images),), 1 / len(images)) for images in sets])

    @torch.no_grad()
    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Photographs (count, 3, S, S) in [0, 1] and signed disparity (count, 1, S, S), on the estimator's device."""
        rows = self.odds.multinomial(count, replacement=True, generator=rng)
        flips = torch.rand(count, generator=rng) < 0.5
        where = next(self.depth.parameters()).device
        image = gather(self.images, rows, flips, where)
        disparity = self.depth.coarse(image)
        if self.focus is not None:
            focus = self.focus[rows]
            focus = torch.where(flips[:, None, None, None], focus.flip(3), focus).to(disparity)
            disparity = (disparity + SHARPER * focus).clamp(0, 1)
        return image, self.far + (self.near - self.far) * disparity


def samples_of_each(config: DepthConfig, generators: int, photographs: bool) -> list[int]:
    """How many samples of each generator a batch holds; the rest are photographs, if there are any.

    Raises UsageError if there is no room for all.
    """
    if photographs and config.batch < 2:
        raise UsageError("samples and photographs need a batch of at least 2")
    samples = config.batch - round(PHOTOS * config.batch) if photographs else config.batch
    if samples < generators:
        raise UsageError(f"a batch of {config.batch} has {samples} samples, too few for {generators} generators")
    return [len(range(first, samples, generators)) for first in range(generators)]


@torch.no_grad()
def draw_pairs(
    models: Sequence[Model],
    spans: Sequence[float],
    config: DepthConfig,
    rng: torch.Generator,
    photographs: Photographs | None = None,
) -> tuple[Tensor, Tensor]:
    """A batch of augmented images (N, 3, S, S) and their signed disparity (N, 1, S, S) in the first model's unit.

    Generators draw disparity more coarsely than images, at whose edges it therefore settles. `spans` are how widely
    each one's disparities range, in px per aperture step; here all range as widely as the first one's. Half are
    `photographs`, if there are any. On the device of the models, but drawn from `rng` on the CPU.
    """
    renderer = models[0].renderer
    assert renderer is not None
    counts = samples_of_each(config, len(models), photographs is not None)
    where = renderer.views.device
    with torch.autocast(where.type, torch.bfloat16, enabled=use_bfloat16(config.precision, where)):
        pairs = [draw_deep_images(model, count, rng) for model, count in zip(models, counts, strict=True)]
    pairs = [
        (image.float(), spans[0] * settle(place.float() / span, image.float()))
        for span, (image, place) in zip(spans, pairs, strict=True)
    ]
    if photographs is not None:
        pairs.append(photographs.draw(config.batch - sum(counts), rng))
    deep, disparity = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    deep, disparity = collage(deep, disparity, rng, config.collage, config.close)
    deep, disparity = stage(deep, disparity, rng, config.stage)
    opened = torch.rand(config.batch, generator=rng).round()
    scale = {"both": opened, "deep": torch.zeros_like(opened), "shallow": torch.ones_like(opened)}[config.images]
    image, _ = render_mixture(renderer, deep, disparity, scale)
    return augment(image, disparity, rng, config.light, config.negatives)


@torch.no_grad()
def draw_deep_images(model: Model, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Deep images (N, 3, S, S) and signed disparity (N, 1, S, S), seen from wherever the generator was trained to."""
    assert model.generator is not None
    assert model.config.generator is not None
    where = next(model.generator.parameters()).device
    z = torch.randn(count, model.generator.z_dim, generator=rng)
    camera = draw_views(count, model.config.generator, rng)
    camera = None if camera is None else camera.to(where, non_blocking=True)
    return model.generator(z.to(where, non_blocking=True), camera)


@torch.no_grad()
def disparity_range(model: Model, seed: int) -> tuple[float, float]:
    """Signed disparities that become 0 and 1: nearly all that the generator makes, the focal plane 0 within."""
    _, disparity = draw_deep_images(model, RANGE_SAMPLES, torch.Generator().manual_seed(seed))
    signed = disparity.float().flatten().cpu()
    far, near = (float(signed.kthvalue(max(1, int(q * len(signed)))).values) for q in RANGE_QUANTILES)
    span = max(near - far, 1e-3)
    return min(far, -0.1 * span), max(near, 0.1 * span)


def with_estimator(model: Model, estimator: DepthEstimator, depth: DepthInfo) -> Model:
    """A model of the same generator with this estimator, frozen."""
    result = Model(replace(model.config, depth=depth))
    state = {name: x for name, x in model.state_dict().items() if not name.startswith("depth.")}
    state |= {f"depth.estimator.{name}": x for name, x in estimator.state_dict().items()}
    result.load_state_dict(state)
    return result.eval().requires_grad_(False)
