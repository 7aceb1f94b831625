"""timm's networks as sources: an extra that may be missing."""

import importlib

import pytest
import timm

from prunenas.architecture import build, check_source, fill_arguments, timm_models, trace
from prunenas.errors import SourceError


def test_a_network_is_timms_own_with_other_widths() -> None:
    arguments = fill_arguments("timm/resnet18", {}, classes=7, input_shape=(1, 32, 32))
    assert arguments == {"num_classes": 7, "in_chans": 1}
    space = trace("timm/resnet18", arguments=arguments, input_shape=(1, 32, 32))
    network = build(space.dense, seed=0)
    assert isinstance(network, timm.models.ResNet)
    expected = timm.create_model("resnet18", num_classes=7, in_chans=1)
    shapes = {name: tensor.shape for name, tensor in expected.state_dict().items()}
    assert {name: tensor.shape for name, tensor in network.state_dict().items()} == shapes


def test_networks_made_for_one_size_are_told_the_size() -> None:
    name = "timm/vit_tiny_patch16_224"
    filled = fill_arguments(name, {}, classes=10, input_shape=(3, 64, 64))
    assert filled == {"num_classes": 10, "in_chans": 3, "img_size": 64}
    assert fill_arguments(name, {"img_size": 96}, classes=10, input_shape=(3, 64, 64))[
        "img_size"
    ] == (96)


def test_an_unknown_name_says_what_is_near() -> None:
    with pytest.raises(SourceError, match=r"has no model 'resnet81'; near it: .*resnet18"):
        check_source("timm/resnet81")


def test_without_timm_the_error_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(SourceError, match=r"pip install 'prunenas\[timm\]'"):
        check_source("timm/resnet18")


def test_names_are_timms() -> None:
    assert set(timm_models()) == set(timm.list_models())
