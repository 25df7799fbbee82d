"""Pictures of what a generator makes: images of growing depth of field and depth, one above the other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from argan.config import ModelConfig
from argan.images import writing

BATCH = 50  # samples that are made at a time


class Generates(Protocol):
    """`argan.models.hub.Model`, or the pair that is being trained."""

    generator: Any
    renderer: Any


@torch.no_grad()
def generate_apertures(
    model: Generates, noise: Tensor, scales: Sequence[float], camera: Tensor | None = None
) -> tuple[list[Tensor], Tensor]:
    """The same samples at every DoF scale s, seen from the cameras (N, 2), or from the front.

    noise (N, Z) -> one image (N, 3, S, S) a scale, signed disparity (N, 1, S, S), on the CPU.
    """
    device = next(model.generator.parameters()).device
    made = []
    for rows in torch.arange(len(noise)).split(BATCH):
        place = None if camera is None else camera[rows].to(device)
        deep, disparity = model.generator(noise[rows].to(device), place)
        images = [
            model.renderer(deep, disparity, torch.full((len(rows),), scale, device=device)) if scale else deep
            for scale in scales
        ]
        made.append([image.cpu() for image in (*images, disparity)])
    *images, disparity = (torch.cat(parts) for parts in zip(*made, strict=True))
    return images, disparity


def in_views(network: ModelConfig, count: int, views: int, seed: int) -> tuple[Tensor, Tensor | None]:
    """For `generate_apertures`: the noise of `count` samples, each `views` times, and the cameras that it is seen from.

    From left to right over the range of the generator; a single one is frontal. None for a generator of one viewpoint.
    """
    noise = torch.randn(count, network.z_dim, generator=torch.Generator().manual_seed(seed))
    turns = torch.linspace(-network.yaw, network.yaw, views) if views > 1 else torch.zeros(1)
    cameras = torch.stack([torch.zeros_like(turns), turns], dim=1).repeat(count, 1)
    return noise.repeat_interleave(views, dim=0), cameras if network.viewpoints else None


def depth_picture(disparity: Tensor) -> Tensor:
    """Signed disparity (N, 1, S, S) -> grey (N, 3, S, S), each map stretched to [0, 1], nearer is brighter."""
    low, high = disparity.amin((2, 3), keepdim=True), disparity.amax((2, 3), keepdim=True)
    return ((disparity - low) / (high - low).clamp(min=1e-6)).expand(-1, 3, -1, -1)


def sheet(rows: Sequence[Tensor]) -> Image.Image:
    """Rows of images, each (N, 3, S, S) in [0, 1], one above the other."""
    columns = torch.cat([row.cpu() for row in rows], dim=2)
    return to_image(torch.cat(list(columns), dim=2))


def fit(row: Tensor, side: int, count: int) -> Tensor:
    """A row (N, 3, S, S) at (count, 3, side, side): small ones enlarged pixel by pixel, missing ones black."""
    mode = "nearest" if row.shape[-1] <= side else "area"
    row = torch.nn.functional.interpolate(row[:count], (side, side), mode=mode)
    return torch.cat([row, row.new_zeros(count - len(row), *row.shape[1:])])


def to_image(image: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] -> an 8-bit picture."""
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


def save_samples(model: Generates, noise: Tensor, path: Path) -> None:
    """The fixed grid of a run: noise (N, Z) as deep images, shallow ones and their depth."""
    images, disparity = generate_apertures(model, noise, [0.0, 1.0])
    save_picture([*images, depth_picture(disparity)], path)


def save_picture(rows: Sequence[Tensor], path: Path, columns: int | None = None) -> None:
    """Rows of images (N, 3, S, S) as one picture; with `columns`, that many of the N side by side, then the next."""
    blocks = [sheet(part) for part in zip(*(row.split(columns or len(row)) for row in rows), strict=True)]
    picture = Image.new("RGB", (blocks[0].width, sum(block.height for block in blocks)))
    for index, block in enumerate(blocks):
        picture.paste(block, (0, index * block.height))
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as temporary:
        picture.save(temporary)


def save_singles(images: dict[str, Tensor], folder: Path, views: int = 1) -> list[Path]:
    """A picture for each sample and kind, `00000.deep.png` or `00000.view-1.deep.png` and the like, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, batch in images.items():
        for index, image in enumerate(batch):
            view = f".view-{index % views + 1}" if views > 1 else ""
            paths.append(folder / f"{index // views:05d}{view}.{name}.png")
            with writing(paths[-1]) as temporary:
                to_image(image).save(temporary)
    return sorted(paths)
