"""Pictures of what a generator makes: deep image, shallow image and depth, one above the other."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from argan.files import atomic_file


@torch.no_grad()
def generate(model, noise: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """noise (N, Z) -> deep (N, 3, S, S), shallow (N, 3, S, S), signed disparity (N, 1, S, S).

    `model` has a `generator` and a `renderer`: `argan.models.Model`, or what is being trained.
    """
    device = next(model.generator.parameters()).device
    deep, disparity = model.generator(noise.to(device))
    shallow = model.renderer(deep, disparity, torch.full((len(noise),), scale, device=device))
    return deep, shallow, disparity


def depth_picture(disparity: Tensor) -> Tensor:
    """Signed disparity (N, 1, S, S) -> grey (N, 3, S, S), each map stretched to [0, 1], nearer is brighter."""
    low, high = disparity.amin((2, 3), keepdim=True), disparity.amax((2, 3), keepdim=True)
    return ((disparity - low) / (high - low).clamp(min=1e-6)).expand(-1, 3, -1, -1)


def sheet(deep: Tensor, shallow: Tensor, disparity: Tensor) -> Image.Image:
    """One column a sample: deep image, shallow image, depth."""
    columns = torch.cat([deep, shallow, depth_picture(disparity)], dim=2)
    return to_image(torch.cat(list(columns), dim=2))


def to_image(image: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] -> an 8-bit picture."""
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


def save_samples(model, noise: Tensor, path: Path) -> None:
    """The fixed grid of a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        sheet(*generate(model, noise)).save(temporary)
