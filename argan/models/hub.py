"""Models as folders: `model.safetensors`, `config.json`, `README.md`. Nothing is ever unpickled."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from argan.config import EncoderName, Mixture, ModelConfig, TranslatorConfig, override, shows_depth, to_dict
from argan.errors import ArganError, UsageError
from argan.files import atomic_folder
from argan.models.aperture import ApertureRenderer
from argan.models.estimator import DepthEstimator, DepthPredictor
from argan.models.generator import Generator
from argan.models.onnx_depth import OnnxDepth
from argan.models.translator import Translator
from argan.runtime import is_onnx

WEIGHTS = Path(__file__).parent.parent / "weights"
DEFAULT = "flowers"
MODEL_FILES = {"model.safetensors", "config.json", "README.md"}
FORMAT = 1
# What damaged files of a model may raise.
DAMAGE = (SafetensorError, UsageError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, OSError)


@dataclass(frozen=True)
class DepthInfo:
    """How a depth estimator was built; see `argan.models.estimator.DepthPredictor`."""

    width: int = 16
    resolution: int = 64
    far: float = -1.0
    near: float = 1.0
    levels: int = 3
    encoder: EncoderName = "none"


@dataclass(frozen=True)
class Config:
    """What `config.json` says: enough to rebuild the networks, and what a user must know of them."""

    name: str = "untitled"
    generator: ModelConfig | None = None
    depth: DepthInfo | None = None
    translator: TranslatorConfig | None = None
    mixture: Mixture = "bernoulli"
    """p(s) that the generator was trained with; AR-GAN's where an older `config.json` does not say."""
    card: dict[str, str] = field(default_factory=dict)
    """Free text for people: `data`, `licence`, `command`, `measured` and the like."""

    @property
    def learns_depth(self) -> bool:
        """Whether anything that its generator was trained with shows depth."""
        return self.generator is not None and shows_depth(self.generator, self.mixture)


class Model(nn.Module):
    """What `argan.load` gives.

    Attributes:
        config: how it was built, and its card.
        generator: z -> (deep image, signed disparity); None in a model that only estimates depth.
        renderer: (deep, disparity, scale) -> shallow image; comes with the generator.
        depth: photo -> disparity in [0, 1]; None before `argan train-depth`.
        translator: deep photo -> shallow photo, without any depth; CycleGAN only, which has nothing else.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.generator: Generator | None = None
        self.renderer: ApertureRenderer | None = None
        self.depth: DepthPredictor | OnnxDepth | None = None
        self.translator: Translator | None = None
        if config.generator is not None:
            self.generator, self.renderer = build_generator(config.generator)
        if config.depth is not None:
            depth = config.depth
            estimator = DepthEstimator(depth.width, depth.levels, depth.encoder)
            self.depth = DepthPredictor(estimator, depth.resolution, depth.far, depth.near)
        if config.translator is not None:
            self.translator = Translator(config.translator.width, config.translator.blocks)

    def on(self, device: torch.device, auto: bool) -> "Model":
        """The model, moved to a device; `auto`: that nobody has named. Then an ONNX file need not work there."""
        if isinstance(self.depth, OnnxDepth):
            self.depth.auto = auto
        return self.to(device)

    def save(self, folder: Path, half: bool = False) -> None:
        """Write the model's folder, whole or not at all. `half` stores float16, which loads as float32 again.

        Raises UsageError for a folder of other things: all that is in it is replaced.
        """
        refuse_other_things(folder)
        state = {name: (x.half() if half else x).contiguous() for name, x in self.state_dict().items()}
        with atomic_folder(folder) as temporary:
            write_model(temporary, self.config, state)


def build_generator(config: ModelConfig) -> tuple[Generator, ApertureRenderer]:
    """The two networks that a `ModelConfig` describes, freshly initialised."""
    generator = Generator(
        config.resolution,
        config.z_dim,
        config.width,
        config.max_disparity,
        config.depth_stride,
        config.blocks,
        config.viewpoints,
        config.aperture_step,
    )
    return generator, ApertureRenderer(config.views, config.expansion)


def refuse_other_things(folder: Path) -> None:
    """A model takes the place of another, or of nothing."""
    if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= MODEL_FILES):
        raise UsageError(f"{folder} holds other things than a model", hint="another --out, a folder of its own")


def write_model(folder: Path, config: Config, state: dict[str, Tensor]) -> None:
    """The three files of a model, into an existing folder."""
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"format": FORMAT, **to_dict(config)}, indent=2) + "\n")
    card = model_card(config).encode(errors="backslashreplace")  # names of folders are bytes, and need not be text
    (folder / "README.md").write_bytes(card)


def model_card(config: Config) -> str:
    """README.md of a model: its card as a list, in Markdown."""
    lines = [f"# {config.name}", "", "An argan model; load it with `argan.load(FOLDER)` or `--model FOLDER`.", ""]
    lines += [f"- **{key}**: {value}" for key, value in config.card.items()]
    return "\n".join(lines) + "\n"


def shipped() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in WEIGHTS.glob("*/config.json"))


def find(name_or_path: str | Path | None = None) -> Path:
    """The folder of a model: a shipped name, a model folder, or a run (its depth model, else its last checkpoint).

    A folder of the working directory goes before a shipped model of the same name; None is the shipped DEFAULT alone.

    Raises:
        UsageError: there is no such model.
    """
    name = str(WEIGHTS / DEFAULT if name_or_path is None else name_or_path)
    for folder in (Path(name), Path(name) / "model", WEIGHTS / name):
        if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
            if folder == Path(name) / "model" and is_outdated(Path(name), folder):
                warnings.warn(f"{name} was trained on since {folder} was made: argan train-depth {name}", stacklevel=2)
            return folder
    if (newest := newest_checkpoint(Path(name))) is not None:
        return newest
    if Path(name).is_file():
        raise UsageError(f"{name} is a file: argan itself opens .onnx files alone", hint="argan export --format onnx")
    raise UsageError(f"no model {name}", hint=f"a model's folder, a run's folder, or one of: {', '.join(shipped())}")


def checkpoints(run: Path) -> list[Path]:
    """Of a run's folder, oldest first."""
    folders = (run / "checkpoints").glob("step-*")
    return sorted((folder for folder in folders if folder.name.removeprefix("step-").isdecimal()), key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step of a checkpoint, which its name says."""
    return int(checkpoint.name.removeprefix("step-"))


def newest_checkpoint(run: Path) -> Path | None:
    """Of a run's folder; None where there is none."""
    found = checkpoints(run)
    return found[-1] if found else None


def is_outdated(run: Path, model: Path) -> bool:
    """Whether a run has been trained on since a model of it was made; False where either cannot be read."""
    newest = newest_checkpoint(run)
    if newest is None:
        return False
    try:
        return read_model_config(newest).card.get("steps") != read_model_config(model).card.get("steps")
    except DAMAGE:
        return False


def load(name_or_path: str | Path | None = None, *, onnx_settings: Mapping[str, str] | None = None) -> Model:
    """A model by its shipped name or folder, in eval mode and frozen; or the depth model in an ONNX file.

    Args:
        name_or_path: see `find`; None is the default model. FILE.onnx: depth.onnx of `argan export`, or a depth model
            of somebody else's.
        onnx_settings: how that takes a picture, where it is not recognised: see
            `argan.runtime.depth_models.Convention`.

    Raises:
        UsageError: there is no such model.
        ArganError: its files are damaged, or from a newer argan.
    """
    if is_onnx(name_or_path):
        return _onnx_model(Path(str(name_or_path)), onnx_settings)
    if onnx_settings:
        raise UsageError("settings of a picture's input are for ONNX files")
    folder = find(name_or_path)
    try:
        model = Model(read_model_config(folder)).float()  # whatever torch.set_default_dtype says
        state = {name: x.float() for name, x in load_file(folder / "model.safetensors").items()}
        model.load_state_dict(state)
    except DAMAGE as error:
        raise ArganError(f"{folder} is not a readable model: {str(error).splitlines()[0]}") from error
    return model.eval().requires_grad_(False)


def _onnx_model(path: Path, settings: Mapping[str, str] | None) -> Model:
    depth = OnnxDepth(path, settings)
    model = Model(Config(name=depth.name))
    model.depth = depth
    return model.eval()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def read_model_config(folder: Path) -> Config:
    """`config.json` of a model folder."""
    values: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8-sig"))
    version = values.get("format")
    if version != FORMAT:
        raise ValueError(f"format {version!r}, this argan reads {FORMAT}")
    generator, depth, translator = values.get("generator"), values.get("depth"), values.get("translator")
    config = Config(
        name=str(values["name"]),
        generator=override(ModelConfig(), generator) if generator else None,
        depth=override(DepthInfo(), depth) if depth else None,
        translator=override(TranslatorConfig(), translator) if translator else None,
        card={key: _text(value) for key, value in (values.get("card") or {}).items() if value is not None},
    )
    return override(config, {"mixture": values["mixture"]}) if "mixture" in values else config
