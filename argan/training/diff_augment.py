"""Differentiable augmentation of what the discriminator sees, so that a small set of photographs lasts longer.

After DiffAugment (Zhao et al., NeurIPS 2020). A generated image is reframed together with its disparity *before* it is
rendered: what the discriminator sees is then a photograph of the reframed scene, blurred as it would be, and framing
cannot be told from depth of field. Photographs are reframed as they are.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

DRAWS = 7  # random numbers an image
LARGEST_ZOOM = 1.25


def draw(batch: int, probability: float, generator: torch.Generator) -> Tensor:
    """What to do to each image, (B, DRAWS) in [0, 1]: its zoom and shifts, then its colours.

    Framing and colours are each changed with that `probability`; 0 is no zoom, and 0.5 no change of anything else.
    """
    wanted = torch.rand(batch, 2, generator=generator) < probability
    changes = torch.rand(batch, DRAWS, generator=generator)
    wanted = wanted[:, [0, 0, 0, 1, 1, 1, 1]]
    nothing = torch.tensor([0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    return torch.where(wanted, changes, nothing)


def reframe(image: Tensor, draws: Tensor) -> Tensor:
    """Zoom by 1 to 1.25 and shift within what the zoom leaves, so that nothing beyond the frame comes into view.

    image (B, 3, S, S), or (B, 4, S, S) with a signed disparity in px as the last channel: it grows with the zoom, as
    the blur that it stands for does.
    """
    zoom = 1 + (LARGEST_ZOOM - 1) * draws[:, 0]
    shift = (2 * draws[:, 1:3] - 1) * (1 - 1 / zoom)[:, None]
    zero = torch.zeros_like(zoom)
    rows = [torch.stack([1 / zoom, zero, shift[:, 0]], dim=1), torch.stack([zero, 1 / zoom, shift[:, 1]], dim=1)]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(image.shape), align_corners=False)
    framed = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
    return torch.cat([framed[:, :3], framed[:, 3:] * zoom[:, None, None, None]], dim=1)


def recolor(image: Tensor, draws: Tensor) -> Tensor:
    """Brightness by up to 0.2, saturation and contrast by up to half, green against red and blue by up to 0.1."""
    brightness, saturation, contrast, tint = (2 * draws[:, 3:] - 1)[:, :, None, None, None].unbind(1)
    green = torch.cat([-0.5 * tint, tint, -0.5 * tint], dim=1)
    grey = image.mean(dim=1, keepdim=True)
    image = grey + (image - grey) * (1 + 0.5 * saturation)
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    image = mean + (image - mean) * (1 + 0.5 * contrast)
    return image + 0.2 * brightness + 0.1 * green
