"""Every setting of a training run: frozen dataclasses, named presets, and their TOML and JSON forms (no torch here)."""

import dataclasses
import json
import math
import tomllib
import typing
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from argan.errors import UsageError

T = TypeVar("T")
EncoderName = Literal["efficientnet-lite0", "none"]
Mixture = Literal["bernoulli", "uniform", "deep", "shallow"]
Images = Literal["both", "deep", "shallow"]
NetworkPrecision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class ModelConfig:
    """The networks; `argan.models.generator` and `argan.models.aperture` explain each term."""

    resolution: int = 64
    z_dim: int = 128
    width: int = 64
    discriminator_width: int = 64
    max_disparity: float = 3.0
    depth_stride: int = 1
    views: int = 5
    expansion: bool = True
    blocks: Literal["plain", "residual"] = "plain"
    """Of generator and discriminator: one convolution a size, or two with a shortcut around them."""
    yaw: float = 0.0
    """Largest turn of the camera to either side, rad (`argan.models.camera`); both 0: one viewpoint."""
    pitch: float = 0.0
    """Largest turn of the camera up or down, rad."""
    aperture_step: float = 0.05
    """One step across the lens, in orbit radii: what ties disparity to metric depth. Only viewpoints need it."""

    @property
    def viewpoints(self) -> bool:
        """Whether the generator takes a camera."""
        return self.yaw > 0 or self.pitch > 0


@dataclass(frozen=True)
class TranslatorConfig:
    """CycleGAN's two networks, deep to shallow and back; `argan.models.translator` explains each term."""

    width: int = 32
    blocks: int = 6


@dataclass(frozen=True)
class LossConfig:
    """The objective; `argan.training.losses` explains each term."""

    mixture: Mixture = "bernoulli"
    """p(s), the DoF scale of each sample: 0 or 1 with even odds, uniform in [0, 1], always 0, or always 1."""
    prior: float = 0.02
    """Weight of the centre focus prior."""
    prior_radius: float = 0.25
    """Radius that the prior holds in focus, in image widths."""
    prior_slope: float = 0.1
    """Disparity lost per px of distance beyond that radius (px per px: the same blur at every resolution)."""
    expansion: float = 1.0
    """Weight of the regulariser of T."""
    smoothness: float = 0.1
    """Weight of the smoothness of disparity."""
    edge_sensitivity: float = 10.0
    """How readily disparity may break where the image does; 0 asks for the same smoothness everywhere, and so tells
    disparity nothing about the image."""
    r1: float = 0.2
    """Gradient penalty gamma on real photographs: gamma / 2 times the mean square of the gradient's norm."""
    r1_interval: int = 8
    """Steps between gradient penalties; their weight is multiplied to match."""
    r2: float = 0.0
    """The same on generated images, as often."""
    adversarial: Literal["logistic", "relativistic"] = "logistic"
    """What the discriminator says of each image by itself, or of a photograph beside a generated one."""
    augment: float = 0.0
    """Probability of framing and colour changes to what the discriminator sees; see `argan.training.diff_augment`."""
    consistency: float = 0.0
    """Weight of the 3D consistency between two viewpoints."""
    geometry: float = 3.0
    """Weight of depth in it, colour having 1."""
    consistency_start: int = 0
    """Steps before it sets in."""
    cycle: float = 10.0
    """CycleGAN: weight of coming back to where one started."""
    identity: float = 5.0
    """CycleGAN: weight of leaving alone what is already in the domain."""


@dataclass(frozen=True)
class TrainConfig:
    """A whole run."""

    name: str = "argan"
    players: Literal["aperture", "cycle"] = "aperture"
    """`argan.training.gan` (GAN, AR-GAN, RGBD-GAN and AR-RGBD-GAN) or `argan.training.cyclegan`."""
    data: str = "synthetic"
    """A folder or zip of photographs, a data set of `argan.data.datasets`, or "synthetic" for the built-in ones."""
    synthetic_photos: int = 8_192
    """How many of the built-in photographs are drawn."""
    steps: int = 100_000
    max_minutes: float = 0.0
    """Stop after that many, with a checkpoint to go on from; 0 is no limit."""
    batch: int = 32
    """Photographs a step, over all processes."""
    accumulate: int = 1
    """Parts that each process takes its share of the batch in, to need less memory."""
    seed: int = 0
    generator_lr: float = 4e-4
    discriminator_lr: float = 4e-4
    ema_images: float = 6_400.0
    """Half-life of the averaged generator, in images."""
    precision: NetworkPrecision = "auto"
    """Of the networks; rendering and R1 are always float32. "auto" is bfloat16 on GPUs that have it."""
    cuda_graphs: bool = True
    """Record steps as CUDA graphs and replay them (`argan.training.graphs`), on one GPU."""
    channels_last: bool = False
    """Keep images and weights channels last in memory, which GPUs' bfloat16 convolutions are faster with."""
    log_every: int = 20
    sample_every: int = 500
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    tensorboard: bool = False
    model: ModelConfig = field(default_factory=ModelConfig)
    translator: TranslatorConfig = field(default_factory=TranslatorConfig)
    loss: LossConfig = field(default_factory=LossConfig)


@dataclass(frozen=True)
class DepthConfig:
    """AR-GAN-DR: how the depth estimator is learned from the generator's own samples."""

    width: int = 32
    """Channels of the U-Net at full size."""
    steps: int = 1_000
    batch: int = 16
    lr: float = 2e-3
    seed: int = 0
    images: Images = "both"
    """What it sees of each sample: the deep image, as in the paper, the shallow one, or either at even odds, since
    real photos are both."""
    collage: float = 0.5
    """The share of samples that get the figure of another one set into them."""
    close: float = 0.0
    """The share of collages whose figure is close to the camera: large, and cut off by the frame."""
    stage: float = 0.25
    """The share that become figures on a receding ground."""
    light: float = 0.35
    """Uneven light: how far the logarithm of its gain deviates. What is bright is not therefore near."""
    negatives: float = 0.1
    """The share that is shown as a negative, for the same reason."""
    encoder: EncoderName = "efficientnet-lite0"
    """What it starts from (`argan.models.encoder`); with "none", as the paper's, it has seen nothing but samples."""
    levels: int = 4
    """Without an encoder: halvings of the U-Net, down to no less than 4 px."""
    precision: NetworkPrecision = "auto"
    """As in training."""


def shows_depth(model: ModelConfig, mixture: Mixture) -> bool:
    """Whether training shows a generator what depth is: by blur, or by a second viewpoint."""
    return mixture != "deep" or model.viewpoints


FROM_SCRATCH = {"width": 16, "encoder": "none"}  # of DepthConfig: it knows the samples and nothing else, as the paper's

SMALL = ModelConfig(z_dim=64, width=48, discriminator_width=32)  # learns in minutes to an hour on two CPU cores

PRESETS: dict[str, TrainConfig] = {
    "synthetic-cpu": TrainConfig(
        name="synthetic-cpu",
        synthetic_photos=4_096,
        steps=3_000,
        batch=16,
        ema_images=3_200.0,
        model=replace(SMALL, resolution=32, depth_stride=2),
        loss=LossConfig(smoothness=0.0),
    ),
    "photos-cpu": TrainConfig(name="photos-cpu", steps=4_000, model=replace(SMALL, depth_stride=2)),
    "argan-32": TrainConfig(name="argan-32", model=ModelConfig(resolution=32)),
    "argan-64": TrainConfig(name="argan-64", model=ModelConfig(resolution=64)),
    "argan-128": TrainConfig(name="argan-128", model=ModelConfig(resolution=128, views=9)),
}
DEFAULT_PRESET = "synthetic-cpu"


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain values, ready for JSON or TOML."""
    return dataclasses.asdict(config)


def override(config: T, values: dict[str, Any], path: str = "") -> T:
    """`config` with the nested `values` put in place; unknown names and wrong types are a UsageError."""
    changes: dict[str, Any] = {}
    known = typing.get_type_hints(type(config))
    for name, value in values.items():
        if name not in known:
            raise UsageError(f"no setting {path}{name}", hint=f"there are: {', '.join(known)}")
        current = getattr(config, name)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, dict):
                raise UsageError(
                    f"{path}{name} is a group of settings", hint=f"{path}{name}.{fields(current)[0].name}=…"
                )
            changes[name] = override(current, value, f"{path}{name}.")
        else:
            changes[name] = _checked(value, known[name], f"{path}{name}")
    return replace(config, **changes)  # type: ignore[type-var]


def resolve_config(preset: str | None, file: Path | None, settings: list[str], options: dict[str, Any]) -> TrainConfig:
    """The settings of a run: the preset's, then the file's, then `--set`, then the command's other options."""
    name = preset or DEFAULT_PRESET
    if name not in PRESETS:
        raise UsageError(f"no preset {name!r}", hint=f"there are: {', '.join(PRESETS)}")
    config = preset_config = PRESETS[name]
    given = read_config(file) if file else {}, parse_settings(settings), options
    for values in given:
        config = override(config, values)
    if config.steps < preset_config.steps and not any(
        "consistency_start" in values.get("loss", {}) for values in given
    ):
        soon = config.loss.consistency_start * config.steps // preset_config.steps  # after the same share of the run
        config = override(config, {"loss": {"consistency_start": soon}})
    refuse_impossible(config)
    refuse_idle(config, preset_config)
    return config


def refuse_impossible(config: TrainConfig) -> None:
    """Settings that no run can have, one by one or together."""
    for name, value in flatten(to_dict(config)).items():
        if isinstance(value, int | float) and value < (least := 1 if name in ABOVE_ZERO else 0):
            raise UsageError(f"{name} is at least {least}, not {value}")
    refuse_seed(config.seed)
    for name in ("name", "data"):
        if not getattr(config, name):
            raise UsageError(f"{name} is empty")
    loss = config.loss
    if loss.augment > 1:
        raise UsageError(f"loss.augment is a probability, not {loss.augment}")
    if config.model.viewpoints and loss.consistency and loss.consistency_start >= config.steps:
        raise UsageError(
            f"3D consistency would set in at step {loss.consistency_start}, after the run's end",
            hint=f"--set loss.consistency_start={config.steps // 2}",
        )


def refuse_seed(seed: int) -> None:
    """A run's seed has 32 bits: PyTorch's generator on the CPU looks at no more, and others would be those again."""
    if not 0 <= seed < 2**32:
        raise UsageError(f"seed is at least 0 and below 2^32, not {seed}")


def refuse_idle(config: TrainConfig, preset: TrainConfig) -> None:
    """Settings that were changed from the preset's, and that the system has no use for."""
    before = flatten(to_dict(preset))
    for name, value in flatten(to_dict(config)).items():
        if value == before[name]:
            continue
        if config.players == "cycle" and name.startswith(("loss.", "model.")) and name not in CYCLE_USES:
            raise UsageError(f"CycleGAN has no {name}")
        if config.players != "cycle" and (name.startswith("translator.") or name in ("loss.cycle", "loss.identity")):
            raise UsageError(f"{name} is CycleGAN's", hint="--preset cyclegan")
        if name in ("loss.consistency", "loss.geometry") and not config.model.viewpoints:
            raise UsageError(f"{name} is of viewpoints, and there is one", hint="--preset argan-rgbd-64 has more")


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """`["steps=100", "loss.prior=0.2"]` -> nested values, each read as TOML and, failing that, as text."""
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"--set takes key=value, got {setting!r}")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        *groups, last = name.strip().split(".")
        target = values
        for group in groups:
            target = target.setdefault(group, {})
            if not isinstance(target, dict):
                raise UsageError(f"--set {group} is set to a value and to a group of them, {name}")
        target[last] = value
    return values


def read_config(path: Path) -> dict[str, Any]:
    """Nested values of a TOML or JSON file."""
    is_json = path.suffix.lower() == ".json"
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = json.loads(text) if is_json else tomllib.loads(text)
    except ValueError as error:  # of JSON, of TOML, or no text at all
        raise UsageError(f"{path} is not valid {'JSON' if is_json else 'TOML'}: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds no settings", hint='{"steps": 1000, "loss": {"prior": 0.02}}')
    return values


def _checked(value: Any, kind: Any, name: str) -> Any:
    if typing.get_origin(kind) is Literal:
        if value not in (choices := typing.get_args(kind)):
            raise UsageError(f"{name} is one of {', '.join(map(str, choices))}; got {value!r}")
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            raise UsageError(f"{name} takes no number as large as that") from None
        if not math.isfinite(number):
            raise UsageError(f"{name} takes a finite number, got {value!r}")
        return number
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UsageError(f"{name} takes {kind.__name__}, got {value!r}")
    return value


ABOVE_ZERO = {  # the numbers that may not be 0; none may be less
    *("steps", "batch", "accumulate", "synthetic_photos", "log_every", "sample_every"),
    *("checkpoint_every", "keep_checkpoints", "loss.r1_interval"),
    *("model.width", "model.z_dim", "model.discriminator_width", "translator.width"),
}

CYCLE_USES = {  # of the settings of losses and networks
    *("model.resolution", "model.discriminator_width", "model.blocks"),
    *("loss.r1", "loss.r1_interval", "loss.cycle", "loss.identity"),
}

# The systems that are compared, each as changes to a preset of AR-GAN.
GAN_LOSS = {"mixture": "deep", "prior": 0.0, "smoothness": 0.0}  # never rendered, depth unused
VIEWPOINTS = {"yaw": 0.6, "pitch": 0.3}  # rad; RGBD-GAN takes 1.05 and 0.31 for faces
CONSISTENCY = {"consistency": 2.0, "consistency_start": 2_000}  # both RGBD-GAN's
# Beside blur: once that has given things their shapes, and less of it. Or a flat picture that turns wins, as it does
# where there are viewpoints alone (docs/results.md).
NARROW_VIEWPOINTS = {"yaw": 0.3, "pitch": 0.15}
LATE_CONSISTENCY = {"consistency": 0.5, "consistency_start": 50_000}
MODERN_LOSS = {"adversarial": "relativistic", "r1": 0.5, "r2": 0.5, "augment": 0.5}
SYSTEMS: dict[str, dict[str, Any]] = {
    "gan": {"model": {"expansion": False}, "loss": GAN_LOSS},
    "argan": {},
    "rgbd": {"model": {"expansion": False} | VIEWPOINTS, "loss": GAN_LOSS | CONSISTENCY},
    "argan-rgbd": {"model": NARROW_VIEWPOINTS, "loss": LATE_CONSISTENCY},
    "modern": {"model": {"blocks": "residual"}, "loss": MODERN_LOSS},
    "cyclegan": {"players": "cycle", "batch": 8, "generator_lr": 2e-4, "discriminator_lr": 2e-4},
}
# The share of a short run by which consistency sets in at the latest: a tenth, but after blur has had half of it.
START_BY = dict.fromkeys(SYSTEMS, 0.1) | {"argan-rgbd": 0.5}


def with_system(preset: TrainConfig, system: str, name: str) -> TrainConfig:
    """A preset of AR-GAN turned into one of another system of `SYSTEMS`: same data, sizes and budget."""
    config = override(preset, SYSTEMS[system] | {"name": name})
    soon = min(config.loss.consistency_start, int(START_BY[system] * config.steps))
    return replace(config, loss=replace(config.loss, consistency_start=soon))


PRESETS |= {
    f"{system}-{size}": with_system(PRESETS[f"argan-{size}"], system, f"{system}-{size}")
    for size in (64, 128)
    for system in ("gan", "rgbd", "argan-rgbd", "modern")
}
PRESETS["cyclegan"] = with_system(PRESETS["argan-128"], "cyclegan", "cyclegan")
