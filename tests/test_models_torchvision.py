"""Our networks against torchvision's, where it has the same layers."""

import pytest
import torch
import torchvision
from models_counted import count_flops, count_parameters, counted, weightless
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from prunenas import models
from prunenas.models import densenet_bc_100, resnet50_sampled


@torch.no_grad()
@pytest.mark.parametrize("train", [False, True])
def test_full_samplers_make_torchvisions_resnet50(train: bool) -> None:
    torch.manual_seed(1)
    theirs = torchvision.models.resnet50().train(train)
    torch.manual_seed(1)
    ours = resnet50_sampled().train(train)
    state = theirs.state_dict()
    own = ours.state_dict()
    blocks = [f"layer{i + 1}.{j}" for i, n in enumerate((3, 4, 6, 3)) for j in range(n)]
    assert set(own) - set(state) == {f"{block}.sampler.index" for block in blocks}
    assert set(state) <= set(own)
    # The same initialisation from the same random numbers.
    assert all(torch.equal(own[key], value) for key, value in state.items())
    images = torch.randn(2, 3, 96, 96)
    assert torch.allclose(ours(images), theirs(images), atol=1e-5)


def test_resnet50_counts_as_published() -> None:
    published = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.meta
    parameters, flops = counted("resnet50_sampled")
    assert parameters == published["num_params"] == 25_557_032
    assert round(flops / 1e9, 3) == published["_ops"] == 4.089
    with torch.device("meta"):
        theirs = torchvision.models.resnet50()
    assert flops == count_flops(theirs, (3, 224, 224))


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "letter", "arguments"),
    [
        ("vgg11", "A", {"batch_norm": False}),
        ("vgg11", "A", {"batch_norm": True}),
        ("vgg13", "B", {"batch_norm": True}),
        ("vgg16", "D", {"batch_norm": True}),
        ("vgg19", "E", {"batch_norm": False}),
        ("vgg16_gap", "D", {}),
        ("vgg11_prunefl", "A", {}),
    ],
)
def test_vggs_have_torchvisions_convolutions(name: str, letter: str, arguments) -> None:
    torch.manual_seed(1)
    norm = arguments.get("batch_norm", False)
    theirs = make_layers(cfgs[letter], batch_norm=norm).eval()
    state = theirs.state_dict()
    if norm:  # theirs have biases in front of the normalisation, ours have none
        for key, module in theirs.named_children():
            if isinstance(module, nn.Conv2d):
                assert module.bias is not None
                module.bias.zero_()
                del state[f"{key}.bias"]
    ours = getattr(models, name)(**arguments, input_size=32).eval()
    ours.features.load_state_dict(state)
    images = torch.randn(2, 3, 32, 32)
    maps = theirs[:-1](images)  # without the fifth max-pool
    assert maps.shape == (2, 512, 2, 2)
    pool = nn.MaxPool2d(2) if name == "vgg11_prunefl" else nn.AvgPool2d(2)
    assert torch.allclose(ours.features(images), pool(maps), atol=1e-6)


def test_vgg16_gap_counts() -> None:
    with torch.device("meta"):
        theirs = torchvision.models.vgg16()
    linear = 512 * 7 * 7 * 4096 + 4096 * 4096 + 4096 * 1000  # VGG-16's three layers
    parameters = count_parameters(theirs) - linear - (4096 + 4096 + 1000)
    flops = count_flops(theirs, (3, 224, 224)) - linear
    assert counted("vgg16_gap") == (parameters + 512 * 1000 + 1000, flops + 512 * 1000)
    maps = weightless("vgg16_gap").features[:-1](torch.zeros(1, 3, 224, 224, device="meta"))
    assert maps.shape == (1, 512, 14, 14)


@torch.no_grad()
@pytest.mark.parametrize("train", [False, True])
def test_densenet_bc_has_torchvisions_blocks(train: bool) -> None:
    """Behind the stem: torchvision's takes larger images and has a normalisation and a pool."""
    torch.manual_seed(1)
    theirs = torchvision.models.DenseNet(12, (16, 16, 16), 24, num_classes=10).train(train)
    ours = densenet_bc_100().train(train)
    del theirs.features.conv0, theirs.features.norm0, theirs.features.relu0, theirs.features.pool0
    own = [key for key in ours.state_dict() if not key.endswith("index") and key != "conv1.weight"]
    named = dict(zip(own, theirs.state_dict().values(), strict=True))
    assert not ours.load_state_dict(named, strict=False).unexpected_keys
    ours.conv1 = nn.Identity()
    stream = torch.randn(2, 24, 16, 16)
    assert torch.allclose(ours(stream), theirs(stream), atol=1e-5)
