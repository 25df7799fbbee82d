"""What renders are timed and counted on: a slanted ground, a wall, and 60 discs between them."""

import torch
from torch import Tensor


def scene(megapixels: float) -> tuple[Tensor, Tensor]:
    """Linear light (1,3,H,W) in [0, 1] and disparity (1,1,H,W) in [0, 1], 4 : 3, the same every time."""
    height, width = (max(64, round((megapixels * 1e6 / 12) ** 0.5 * side)) for side in (3, 4))
    g = torch.Generator().manual_seed(0)
    y, x = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 4 / 3, width)[None]
    disparity = (1.6 * y - 0.7).clamp(min=0.05).expand(height, width).clone()
    image = torch.rand(3, height // 4 + 1, width // 4 + 1, generator=g).repeat_interleave(4, 1).repeat_interleave(4, 2)
    image = image[:, :height, :width].clone()
    for row in torch.rand(60, 7, generator=g).sort(0).values.flip(1).tolist():
        d, cx, cy, r = row[0], row[1] * 4 / 3, row[2], 0.02 + 0.06 * row[3]
        inside = (torch.hypot(x - cx, y - cy) < r) & (disparity < d)
        disparity[inside] = d
        image[:, inside] = 0.5 * image[:, inside] + 0.5 * torch.tensor(row[4:])[:, None]
    return image[None], disparity[None, None].clamp(0, 1)
