"""What can be exported: each target is a module with named tensors going in and out, and the inputs that prove it.

To add one, write a `Target` and list it in `TARGETS`: formats, verification and the command line follow from that.
"""

import copy
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from argan.curves import SRGB
from argan.errors import UsageError
from argan.export.precision import in_half
from argan.focus import Band, focus_band
from argan.kernels.bokeh.graph import LARGEST, BokehGraph, enter, leave
from argan.kernels.sizes import larger
from argan.models.estimator import DepthEstimator, DepthPredictor, PretrainedPyramid
from argan.models.hub import Model

Inputs = tuple[Tensor, ...]
Axes = dict[int, str]
Size = tuple[int, int]
"""Width and height, px, as people write them."""
Values = tuple[int, int, int, float, float]
"""Batch, height, width, blur and focus of a case."""

SPATIAL: Axes = {0: "batch", 2: "height", 3: "width"}
DISPARITY = "(batch, 1, height, width) disparity in [0, 1], 1 = nearest"

EXACT = "blur 0 "
"""In the name of a case: no blur, so that the picture comes back bit by bit."""

SMALLEST = 16
"""Px: every dynamic height and width may be this small, odd ones included."""


class Target(nn.Module, ABC):
    """One exported graph, at the size and in the precision that a file is to have.

    The module itself computes in float32 at any size: it is what files are compared with.

    Attributes:
        name: of the target and of its file.
        inputs, outputs: their names, in order, each with the names of its axes that may be dynamic.
        meaning: what each tensor holds, for the file's metadata.
        traced: ONNX is written from a trace, which follows sizes but takes no branch on them.
        exact_output: what must equal PyTorch's exactly in cases named EXACT.
        in_half: submodules that fp16 works in half precision.
        in_int8: what the names of those nodes contain whose convolutions int8 works in 8 bits.
        precision: a name in `PRECISIONS`.
        size: the one size of a file that takes no other, and then one picture at a time; None where all is dynamic.
    """

    name: ClassVar[str]
    inputs: ClassVar[dict[str, Axes]]
    outputs: ClassVar[dict[str, Axes]]
    meaning: ClassVar[dict[str, str]]
    traced: ClassVar[bool] = True
    exact_output: ClassVar[str | None] = None
    in_half: tuple[str, ...]
    in_int8: ClassVar[str] = "/estimator/"

    def __init__(self, model: Model, precision: str = "fp32", size: Size | None = None):
        super().__init__()
        self.model_config, self.precision, self.size = model.config, precision, size

    @property
    def dynamic_axes(self) -> dict[str, Axes]:
        """Of every input and output."""
        return {name: {} if self.size else axes for name, axes in {**self.inputs, **self.outputs}.items()}

    def worked(self) -> nn.Module:
        """What is written to a file: this module, or a copy of it with parts in half precision."""
        return in_half(self, self.in_half).eval() if self.precision == "fp16" else self

    @torch.no_grad()
    def expected(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """What PyTorch makes of these inputs, in the order of `outputs`."""
        outputs = self(*inputs)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def shape(self, batch: int, height: int, width: int) -> tuple[int, int, int]:
        """The batch, height and width of an input that is to have these, if it may."""
        return (1, self.size[1], self.size[0]) if self.size else (batch, height, width)

    @abstractmethod
    def example(self) -> Inputs:
        """Inputs to trace with: a batch of two, because exporters take a size of one for a constant."""

    @abstractmethod
    def cases(self) -> dict[str, Inputs]:
        """Named inputs to verify with, of sizes that `example` does not have."""

    @abstractmethod
    def facts(self) -> dict[str, str]:
        """What else a user of the file must know, for its metadata."""


class GeneratorTarget(Target):
    """z, scale -> deep, shallow, disparity. The image size is the model's own."""

    traced: ClassVar[bool] = False  # the tracing exporter cannot follow weights that are computed
    in_half = ("generator",)

    name = "generator"
    inputs: ClassVar[dict[str, Axes]] = {"z": {0: "batch"}, "scale": {0: "batch"}}
    outputs: ClassVar[dict[str, Axes]] = {"deep": {0: "batch"}, "shallow": {0: "batch"}, "disparity": {0: "batch"}}
    meaning: ClassVar[dict[str, str]] = {
        "z": "(batch, Z) noise, standard normal",
        "scale": "(batch,) depth-of-field scale: 0 all in focus, 1 as learned",
        "deep": "(batch, 3, S, S) all-in-focus image, display-encoded RGB in [0, 1]",
        "shallow": "(batch, 3, S, S) the same seen through an aperture, display-encoded RGB in [0, 1]",
        "disparity": "(batch, 1, S, S) signed disparity, px per aperture step: 0 in focus, positive nearer",
    }

    def __init__(self, model: Model, precision: str = "fp32", size: Size | None = None):
        super().__init__(model, precision, size)
        if model.generator is None or model.renderer is None:
            raise UsageError(f"{model.config.name} has no generator")
        self.generator, self.renderer = copy.deepcopy((model.generator, model.renderer))
        self.renderer.impl = "reference"  # explicitly: a traced graph would hold argan's own ops with any other

    def forward(self, z: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        deep, disparity = self.generator(z)
        return deep, self.renderer(deep, disparity, scale), disparity

    def example(self) -> Inputs:
        return self._inputs(seed=0, scales=[1.0, 0.5])

    def cases(self) -> dict[str, Inputs]:
        batches = [[0.0], [1.0, 0.3, 0.0], [1.0, 2.0, 0.0, 0.7, 1.0]]
        return {f"batch {len(scales)}": self._inputs(len(scales), scales) for scales in batches}

    def facts(self) -> dict[str, str]:
        return {"z_dim": str(self.generator.z_dim), "resolution": str(self.generator.resolution)}

    def _inputs(self, seed: int, scales: list[float]) -> Inputs:
        random = torch.Generator().manual_seed(seed)
        return torch.randn(len(scales), self.generator.z_dim, generator=random), torch.tensor(scales)


class DepthTarget(Target):
    """image -> disparity, of any size."""

    name = "depth"
    inputs: ClassVar[dict[str, Axes]] = {"image": SPATIAL}
    outputs: ClassVar[dict[str, Axes]] = {"disparity": SPATIAL}
    meaning: ClassVar[dict[str, str]] = {
        "image": "(batch, 3, height, width) display-encoded RGB in [0, 1]; height and width from 16 up",
        "disparity": DISPARITY,
    }

    def __init__(self, model: Model, precision: str = "fp32", size: Size | None = None):
        super().__init__(model, precision, size)
        if model.depth is None:
            raise UsageError(f"{model.config.name} has no depth estimator", hint="argan train-depth learns one")
        if not isinstance(model.depth, DepthPredictor):
            raise UsageError(f"{model.config.name} is an ONNX file already")
        self.depth = copy.deepcopy(model.depth)
        self.in_half = tuple(f"depth.estimator{part}" for part in half_of(self.depth.estimator))

    def forward(self, image: Tensor) -> Tensor:
        return self.depth(image)

    def example(self) -> Inputs:
        return (picture(*self.shape(2, 90, 70)),)

    def cases(self) -> dict[str, Inputs]:
        sizes = [(1, 97, 131), (2, 160, 90), (1, 240, 320), (3, 33, 57), (1, SMALLEST, SMALLEST)]
        shapes = dict.fromkeys(self.shape(*size) for size in sizes)
        return {f"{batch}x3x{height}x{width}": (picture(batch, height, width),) for batch, height, width in shapes}

    def facts(self) -> dict[str, str]:
        return {
            "focus": repr(float(self.depth.focus)),
            "focus_meaning": "disparity of the learned focal plane",
            "focus_range": repr(float(self.depth.focus_range)),
            "focus_range_meaning": "width in disparity, about that plane, of what the model has learned to see sharp",
            "resolution": str(self.depth.resolution),
        }


IMAGE = "(batch, 3, height, width) display-encoded RGB (sRGB's curve) in [0, 1]; height and width from 16 up"
BLUR = "(1,) percent of the long side: diameter of a point's disc at |disparity - focus| = 1; 0 gives the image back"


class RenderTarget(Target):
    """image, disparity, blur, focus -> image, of any size: `argan.render` with a depth map."""

    name = "render"
    inputs: ClassVar[dict[str, Axes]] = {"image": SPATIAL, "disparity": SPATIAL, "blur": {}, "focus": {}}
    outputs: ClassVar[dict[str, Axes]] = {"rendered": SPATIAL}
    meaning: ClassVar[dict[str, str]] = {
        "image": IMAGE,
        "disparity": DISPARITY,
        "blur": BLUR,
        "focus": "(1,) the disparity in focus, in [0, 1]",
        "rendered": "(batch, 3, height, width) the picture through a lens, encoded like image",
    }

    exact_output: ClassVar[str | None] = "rendered"
    in_half = ("lens",)

    auto_band: Tensor | None

    def __init__(self, model: Model, precision: str = "fp32", size: Size | None = None, auto_band: Band | None = None):
        """`auto_band` is what is in focus, from which disparity to which, where an input below 0 asks for it."""
        super().__init__(model, precision, size)
        self.lens = BokehGraph()
        self.register_buffer("auto_band", None if auto_band is None else torch.tensor(auto_band).view(2, 1, 1, 1))

    def forward(self, image: Tensor, disparity: Tensor, blur: Tensor, focus: Tensor) -> Tensor:
        long_side = larger(*image.shape[-2:])
        radius = (blur * (long_side / 200)).view(1, 1, 1, 1)
        scene = enter(SRGB.decode(image), radius * (disparity - self.in_focus(disparity, focus.view(1, 1, 1, 1))))
        rendered = leave(self.lens(scene), like=image)
        # Blur 0 gives back the values themselves, not what is left of them after decoding and encoding.
        return torch.where(radius > 0, SRGB.encode(rendered), image)

    def in_focus(self, disparity: Tensor, focus: Tensor) -> Tensor:
        """The nearest disparity that is sharp, for every pixel (batch, 1, height, width), or for all (1, 1, 1, 1)."""
        if self.auto_band is None:
            return focus
        low, high = torch.where(focus < 0, self.auto_band, focus).unbind()
        return torch.minimum(torch.maximum(disparity, low), high)

    def example(self) -> Inputs:
        return self._inputs(*self.shape(2, 90, 70), 5.0, 0.4)

    def cases(self) -> dict[str, Inputs]:
        values = [
            (1, 97, 131, 2.0, 0.5),
            (2, 80, 45, 0.0, 0.3),
            (1, 120, 176, 30.0, 0.0),
            (2, 75, 64, 5.0, 1.0),
            (1, SMALLEST, SMALLEST, 10.0, 0.5),
        ]
        return {_case(*value): self._inputs(*value) for value in _at_sizes_of(self, values)}

    def facts(self) -> dict[str, str]:
        return {"aperture": "disk", "largest_radius": f"{LARGEST:.1f}"}

    def _inputs(self, batch: int, height: int, width: int, blur: float, focus: float) -> Inputs:
        image = picture(batch, height, width)
        return image, scene_disparity(image), torch.tensor([blur]), torch.tensor([focus])


class PipelineTarget(Target):
    """image, blur, focus -> image, disparity, of any size: `argan.render` with estimated depth."""

    name = "pipeline"
    inputs: ClassVar[dict[str, Axes]] = {"image": SPATIAL, "blur": {}, "focus": {}}
    outputs: ClassVar[dict[str, Axes]] = {"rendered": SPATIAL, "disparity": SPATIAL}
    meaning: ClassVar[dict[str, str]] = {
        "image": IMAGE,
        "blur": BLUR,
        "focus": "(1,) the disparity in focus, in [0, 1]; below 0: what the model has learned to see sharp",
        "rendered": "(batch, 3, height, width) the picture through a lens, encoded like image",
        "disparity": DISPARITY,
    }

    exact_output: ClassVar[str | None] = "rendered"

    def __init__(self, model: Model, precision: str = "fp32", size: Size | None = None):
        super().__init__(model, precision, size)
        self.depth = DepthTarget(model)
        predictor = self.depth.depth
        self.render = RenderTarget(model, auto_band=focus_band(predictor.focus, predictor.focus_range))
        self.in_half = (*(f"depth.{part}" for part in self.depth.in_half), "render.lens")

    def forward(self, image: Tensor, blur: Tensor, focus: Tensor) -> tuple[Tensor, Tensor]:
        disparity = self.depth(image)
        return self.render(image, disparity, blur, focus), disparity

    def example(self) -> Inputs:
        return self._inputs(*self.shape(2, 90, 70), 5.0, 0.4)

    def cases(self) -> dict[str, Inputs]:
        values = [
            (1, 97, 131, 2.0, -1.0),
            (2, 80, 45, 0.0, 0.3),
            (1, 120, 176, 30.0, 0.0),
            (1, SMALLEST, SMALLEST, 10.0, 1.0),
        ]
        return {_case(*value): self._inputs(*value) for value in _at_sizes_of(self, values)}

    def facts(self) -> dict[str, str]:
        return {**self.depth.facts(), **self.render.facts()}

    def _inputs(self, batch: int, height: int, width: int, blur: float, focus: float) -> Inputs:
        return picture(batch, height, width), torch.tensor([blur]), torch.tensor([focus])


def half_of(estimator: DepthEstimator) -> list[str]:
    """Submodules that fp16 works in half precision: all of it, but of an encoder not what sees the picture itself.

    A picture rounded to half precision puts the shipped estimator's disparity wrong by up to 0.018 (of a
    `picture`), the rest by 0.003.
    """
    if not isinstance(estimator.down, PretrainedPyramid):
        return [""]
    way_down = estimator.down
    blocks = {way_down.own, *way_down.encoder.levels[1:], *way_down.narrow, *estimator.up, estimator.head}
    return [f".{name}" for name, block in estimator.named_modules() if block in blocks]


def _at_sizes_of(target: Target, values: list[Values]) -> list[Values]:
    """The cases that a target of one size has, too."""
    return [(*target.shape(batch, height, width), blur, focus) for batch, height, width, blur, focus in values]


def _case(batch: int, height: int, width: int, blur: float, focus: float) -> str:
    return f"{batch}x3x{height}x{width} blur {blur:g} focus {focus:g}"


TARGETS: dict[str, type[Target]] = {
    target.name: target for target in (GeneratorTarget, DepthTarget, RenderTarget, PipelineTarget)
}


def names_of(model: Model) -> list[str]:
    """The targets that this model has the networks for."""
    lacking = {"generator": model.generator is None, "depth": model.depth is None, "pipeline": model.depth is None}
    return [name for name in TARGETS if not lacking.get(name)]


def targets_of(model: Model, wanted: str = "all", precision: str = "fp32", size: Size | None = None) -> list[Target]:
    """The targets called for by `wanted`: a name, or "all" that this model has.

    Raises:
        UsageError: no such target, or the model lacks the network.
    """
    if wanted != "all" and wanted not in TARGETS:
        raise UsageError(f"no target {wanted!r}", hint=f"all, {', '.join(TARGETS)}")
    names = names_of(model) if wanted == "all" else [wanted]
    return [TARGETS[name](model, precision, size).eval() for name in names]


def dynamic_shapes(target: Target) -> dict[str, dict[int, torch.export.Dim]]:
    """The inputs' dynamic axes for torch.export, which then refuses to freeze one."""
    axes = {name: target.dynamic_axes[name] for name in target.inputs}
    names = {name for named in axes.values() for name in named.values()}
    dims = {name: torch.export.Dim(name, min=1 if name == "batch" else SMALLEST) for name in names}
    return {name: {axis: dims[dim] for axis, dim in named.items()} for name, named in axes.items()}


def picture(batch: int, height: int, width: int) -> Tensor:
    """A test picture (batch, 3, height, width) in [0, 1] with smooth shading, edges and noise, the same every time."""
    random = torch.Generator().manual_seed(batch * height * width)
    y, x = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)
    centre = torch.rand(batch, 3, 2, 1, 1, generator=random)
    distance = (x - centre[:, :, 0]).square() + (y - centre[:, :, 1]).square()
    noise = 0.1 * torch.rand(batch, 3, height, width, generator=random)
    return 0.6 * (-4 * distance).exp() + 0.3 * (distance < 0.05) + noise


def scene_disparity(image: Tensor) -> Tensor:
    """Disparity (batch, 1, height, width) for a test picture: its blobs are near, the ground rises to the bottom."""
    ground = torch.linspace(0, 0.7, image.shape[2])[:, None].expand(image.shape[2:])
    return torch.where(image[:, :1] > 0.55, 0.9, ground)
