"""The networks whose features are compared."""

import sys
from importlib.util import find_spec

import pytest
import torch

from argan.errors import MissingError, UsageError
from argan.features import EXTRACTORS, METRICS_HINT, feature_extractor


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


@pytest.mark.skipif(not find_spec("efficientnet_lite_pytorch"), reason="the extra [metrics] is not installed")
def test_efficientnet_features_tell_pictures_apart():
    extract = feature_extractor("efficientnet-lite0")
    noise, ramp = torch.rand(1, 3, 40, 30), torch.linspace(0, 1, 30).expand(1, 3, 40, 30)
    features = extract(torch.cat([noise, noise, ramp]))
    assert features.shape == (3, extract.dimensions)
    torch.testing.assert_close(features[0], features[1])
    assert (features[0] - features[2]).norm() > 1
    assert not features.requires_grad
