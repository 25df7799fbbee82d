"""Pictures of what a generator makes: deep image, shallow image and depth, one above the other."""

from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from argan.files import atomic_file


class Generates(Protocol):
    """`argan.models.hub.Model`, or the pair that is being trained."""

    generator: Any
    renderer: Any


@torch.no_grad()
def generate(model: Generates, noise: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """noise (N, Z) -> deep (N, 3, S, S), shallow (N, 3, S, S), signed disparity (N, 1, S, S)."""
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


def save_samples(model: Generates, noise: Tensor, path: Path) -> None:
    """The fixed grid of a run."""
    save_grid(*generate(model, noise), path, columns=len(noise))


def save_grid(deep: Tensor, shallow: Tensor, disparity: Tensor, path: Path, columns: int) -> list[Path]:
    """All samples in one picture, `columns` a row."""
    rows = [sheet(*part) for part in zip(*(x.split(columns) for x in (deep, shallow, disparity)), strict=True)]
    grid = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)))
    for index, row in enumerate(rows):
        grid.paste(row, (0, index * row.height))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        grid.save(temporary)
    return [path]


def save_singles(deep: Tensor, shallow: Tensor, disparity: Tensor, folder: Path) -> list[Path]:
    """Three pictures a sample, `00000.deep.png`, `.shallow.png` and `.depth.png`, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, images in {"deep": deep, "shallow": shallow, "depth": depth_picture(disparity)}.items():
        for index, image in enumerate(images):
            paths.append(folder / f"{index:05d}.{name}.png")
            with atomic_file(paths[-1]) as temporary:
                to_image(image).save(temporary)
    return sorted(paths)
