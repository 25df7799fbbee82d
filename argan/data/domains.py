"""Deep- and shallow-focus photographs told apart by how sharp their backgrounds are: CycleGAN's two domains."""

import torch
from torch import Tensor

from argan.data.batch import gather
from argan.errors import ArganError
from argan.light import luminance

SHARE = 1 / 3  # of the photographs in each domain; the third in between is in neither
CENTER = 0.25  # of the width: within this distance of the middle there is subject, not background
CHUNK = 512


def background_sharpness(images: Tensor) -> Tensor:
    """How much fine detail the surroundings have: (N, 3, S, S) uint8 or in [0, 1] -> (N,).

    Mean squared Laplacian of the luminance outside a disc of half the width, over the luminance's variance there: blur
    takes away fine detail and leaves the variance, which is mostly of coarse shapes, nearly as it was.
    """
    return torch.cat([_sharpness(part) for part in images.split(CHUNK)])


def _sharpness(images: Tensor) -> Tensor:
    scale = 1 / 255 if images.dtype == torch.uint8 else 1.0
    y = luminance(images.float() * scale)[:, 0]
    inner = y[:, 1:-1, 1:-1]
    around = y[:, :-2, 1:-1] + y[:, 2:, 1:-1] + y[:, 1:-1, :-2] + y[:, 1:-1, 2:]
    size = y.shape[-1]
    offset = torch.arange(1, size - 1) - (size - 1) / 2
    background = torch.hypot(offset[None, :], offset[:, None]) > CENTER * size
    detail = (around - 4 * inner)[:, background].square().mean(dim=1)
    return detail / inner[:, background].var(dim=1).clamp(min=1e-4)


class FocusDomains:
    """Photographs in two domains: the third with the sharpest backgrounds is deep, the third with the softest shallow.

    Args:
        images: (N, 3, S, S) uint8.

    Attributes:
        deep, shallow: indices of the photographs of each domain.

    Raises:
        ArganError: there are fewer than three photographs.
    """

    def __init__(self, images: Tensor):
        if len(images) < 3:
            raise ArganError(f"two domains need at least 3 photographs, there are {len(images)}")
        order = background_sharpness(images).argsort(stable=True)
        count = max(1, int(SHARE * len(images)))
        self.images, self.shallow, self.deep = images, order[:count], order[-count:]

    def __len__(self) -> int:
        return len(self.deep)

    def batch(self, indices: Tensor, flips: Tensor, device: torch.device | str = "cpu") -> Tensor:
        """indices (B,) into the domains, flips (B,) bool -> (B, 3, S, S) float32 in [0, 1]: deep, shallow, deep, …"""
        chosen = torch.where(torch.arange(len(indices)) % 2 == 0, self.deep[indices], self.shallow[indices])
        return gather(self.images, chosen, flips, device)
