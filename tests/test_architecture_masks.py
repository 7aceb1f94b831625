"""Masks as part of an architecture: values, digests, networks that obey them."""

import hashlib
import json
import pickle
from dataclasses import replace

import pytest
import torch
from torch import nn

from prunenas.architecture import (
    Architecture,
    Granularity,
    Mask,
    build,
    count_flops,
    density_of,
    masked,
    masked_weights,
    trace,
    with_masks,
)
from prunenas.errors import ExportError, WidthError

SPACE = trace("vgg_mini", arguments={"in_channels": 1, "input_size": 8}, input_shape=(1, 8, 8))


def random_keep(density: float, *, dims: int = 4, seed: int = 0) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    network = build(SPACE.dense)
    return {
        name: torch.rand(weight.shape[:dims], generator=random) < density
        for name, weight in masked_weights(network).items()
    }


def sparse(density: float = 0.3, *, seed: int = 0) -> Architecture:
    return with_masks(SPACE, SPACE.dense, build(SPACE.dense), random_keep(density, seed=seed))


@pytest.mark.parametrize(("granularity", "dims"), [("weight", 4), ("kernel", 2), ("filter", 1)])
def test_a_mask_is_read_as_it_was_made(granularity: Granularity, dims: int) -> None:
    shape = (5, 3, 3, 3)
    keep = torch.rand(shape[:dims], generator=torch.Generator().manual_seed(1)) < 0.5
    mask = Mask.of(keep, granularity, shape=shape, uses=7)
    whole = keep.reshape(*shape[:dims], *[1] * (4 - dims)).expand(shape)
    assert torch.equal(mask.tensor(), whole)
    assert mask.weights == int(whole.sum())
    assert mask.density == pytest.approx(float(whole.double().mean()))
    plain = json.loads(json.dumps(mask.to_dict()))
    read = Mask.from_dict(plain)
    assert read == mask
    assert mask.bits is not None
    assert len(mask.bits) == -(-keep.numel() // 8)
    assert torch.equal(read.with_bits(mask.bits).tensor(), whole)
    with pytest.raises(ExportError, match="file of their own"):
        read.tensor()
    with pytest.raises(ExportError, match=mask.digest):
        read.with_bits(bytes(len(mask.bits)))


@pytest.mark.parametrize(
    "change",
    [
        {"granularity": "row"},
        {"shape": [3]},
        {"shape": [3, 0]},
        {"kept": 0},
        {"kept": 1000},
        {"uses": -1},
        {"uses": True},
        {"digest": 3},
        {"more": 1},
    ],
)
def test_a_broken_mask_is_refused(change: dict[str, object]) -> None:
    plain = Mask.of(torch.ones(3, 2, dtype=torch.bool), "weight", shape=(3, 2), uses=1).to_dict()
    with pytest.raises(ExportError, match="mask"):
        Mask.from_dict({**plain, **change})


def test_an_architecture_round_trips_with_its_masks() -> None:
    architecture = sparse()
    plain = json.loads(json.dumps(architecture.to_dict()))
    read = Architecture.from_dict(plain)
    assert read == architecture
    assert read.flops == architecture.flops
    with pytest.raises(ExportError, match="file of their own"):
        build(read)
    whole = read.with_bits(architecture.bits())
    assert torch.equal(
        whole.masks["classifier.weight"].tensor(), architecture.masks["classifier.weight"].tensor()
    )
    with pytest.raises(ExportError, match=r"incomplete: classifier\.weight"):
        read.with_bits({n: b for n, b in architecture.bits().items() if n != "classifier.weight"})
    again = pickle.loads(pickle.dumps(architecture))
    assert again.bits() == architecture.bits()


def test_the_digest_covers_every_bit() -> None:
    keep = random_keep(0.5)
    network = build(SPACE.dense)
    first = with_masks(SPACE, SPACE.dense, network, keep)
    assert with_masks(SPACE, SPACE.dense, network, keep).digest == first.digest
    assert SPACE.dense.digest != first.digest
    keep["classifier.weight"][0, 0] ^= True
    assert with_masks(SPACE, SPACE.dense, network, keep).digest != first.digest


def test_surviving_multiply_adds_are_those_of_the_weights_that_are_left() -> None:
    architecture = sparse(0.3)
    network = build(architecture)
    # By hand: each weight of a convolution is used at every place of its output.
    survive, sizes = 0, {}
    handles = [
        layer.register_forward_hook(
            lambda layer, inputs, output, name=name: sizes.update({name: output[0].numel()})
        )
        for name, layer in network.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear))
    ]
    network.eval()(torch.zeros(1, 1, 8, 8))
    for handle in handles:
        handle.remove()
    for name, layer in network.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            places = sizes[name] // layer.weight.shape[0]
            survive += places * int((layer.weight != 0).sum())
    assert architecture.flops == survive
    assert architecture.whole_flops == SPACE.dense.flops == count_flops(network, (1, 8, 8))
    left = sum(
        int((parameter != 0).sum()) if name in architecture.masks else parameter.numel()
        for name, parameter in network.named_parameters()
    )
    assert architecture.params == left


def test_a_fresh_network_has_the_papers_variance_for_what_is_left() -> None:
    network = build(sparse(0.2), seed=0)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 4000:
            left = layer.weight.detach()[layer.weight != 0]
            expected = 2 / (len(left) / layer.in_channels)
            assert float(left.var()) == pytest.approx(expected, rel=0.15)


def test_masked_weights_are_zero_and_masks_are_in_no_state_dict() -> None:
    network = build(sparse(0.3))
    assert len(masked(network)) == len(masked_weights(network))
    for weight, mask in masked(network):
        assert (weight[~mask] == 0).all()
    assert network.state_dict().keys() == build(SPACE.dense).state_dict().keys()


def test_a_mask_that_keeps_all_is_none_and_one_that_keeps_nothing_is_refused() -> None:
    keep = random_keep(0.5)
    keep["classifier.weight"] = torch.ones_like(keep["classifier.weight"])
    network = build(SPACE.dense)
    assert "classifier.weight" not in with_masks(SPACE, SPACE.dense, network, keep).masks
    keep["classifier.weight"] = torch.zeros_like(keep["classifier.weight"])
    with pytest.raises(WidthError, match=r"but classifier\.weight none"):
        with_masks(SPACE, SPACE.dense, network, keep)
    with pytest.raises(WidthError, match="unknown weight"):
        with_masks(SPACE, SPACE.dense, network, {"nowhere": keep["classifier.weight"]})


def test_the_figures_of_a_mask_are_those_of_its_bits() -> None:
    keep = torch.tensor([[True, False, True], [False, False, True]])
    mask = Mask.of(keep, "weight", shape=(2, 3), uses=5)
    assert mask.bits == bytes([0b10100100])
    assert (mask.flops, mask.whole_flops) == (15, 30)
    with pytest.raises(ExportError, match="kept must be what its bits keep, 3, but is 2"):
        replace(mask, kept=2).with_bits(mask.bits)
    padded = bytes([0b10100101])
    told = replace(mask, kept=4, digest=hashlib.sha256(padded).hexdigest()[:16])
    with pytest.raises(ExportError, match="must fill its last byte with zeros"):
        told.with_bits(padded)
    with pytest.raises(ValueError, match="must keep a weight at least, but keeps none"):
        Mask.of(torch.zeros(2, 3, dtype=torch.bool), "weight", shape=(2, 3), uses=5)
    with pytest.raises(ValueError, match=r"a kernel mask must have shape \(2, 3\), not \(2,\)"):
        Mask.of(torch.ones(2, dtype=torch.bool), "kernel", shape=(2, 3), uses=5)


def test_a_record_says_how_dense_its_architecture_is() -> None:
    architecture = sparse(0.3)
    left = total = 0
    for mask in architecture.masks.values():
        left, total = left + int(mask.tensor().sum()), total + mask.tensor().numel()
    assert density_of(json.loads(json.dumps(architecture.to_dict()))) == left / total
    assert architecture.density == left / total
    assert density_of(SPACE.dense.to_dict()) is None
    assert density_of(None) is None


class Standardised(nn.Conv2d):
    """Changes its weight before it is used, as weight standardisation does."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(images, self.weight - self.weight.mean(), self.bias)


def test_only_weights_that_a_layer_uses_as_they_are_may_be_masked() -> None:
    shared = nn.Linear(4, 4)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        Standardised(4, 4, 3),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)),
        nn.BatchNorm2d(4),
        nn.ConvTranspose2d(4, 4, 1),
        shared,
        nn.Linear(4, 4),
    )
    network.append(nn.Linear(4, 4))
    network[7].weight = shared.weight
    assert list(masked_weights(network)) == ["0.weight", "6.weight"]
