"""What tracing finds in small networks with one hard case each; expectations by hand."""

import pytest
import torch
from torchvision import models

from prunenas.architecture import Space, build, count_flops, trace
from prunenas.errors import SourceError, TraceError, WidthError

INPUT = (3, 8, 8)


def space_of(name: str) -> Space:
    return trace(f"architecture_networks:{name}", input_shape=INPUT)


def runs(space: Space, **widths: int) -> None:
    """Build at these widths; shapes, FLOPs and gradients must be right."""
    architecture = space.architecture(widths=widths)
    network = build(architecture, seed=0, trust=True)
    assert count_flops(network, INPUT) == architecture.flops
    output = network(torch.randn(2, *INPUT))
    output.sum().backward()
    assert output.shape[0] == 2


def test_a_size_written_out_in_the_forward_pass_freezes_that_group_alone() -> None:
    space = space_of("Literal")
    assert [group.name for group in space.groups] == ["first"]
    frozen = {group.name: group.reason for group in space.frozen}
    assert frozen["second"].startswith("the network does not run at another width")
    runs(space, first=3)


def test_adding_to_a_concatenation_splits_the_group() -> None:
    space = space_of("AddedToConcatenation")
    assert {g.name: (g.width, g.layers) for g in space.groups} == {
        "a": (6, ("a", "c")),
        "b": (4, ("b", "c")),
    }
    layers = {layer.name: layer.sizes for layer in space.architecture(widths={"a": 2}).layers}
    assert layers["c"] == (3, 2 + 4, 1)
    assert layers["head"] == (6, 10)
    runs(space, a=2, b=1)


def test_zero_padding_adds_a_fixed_number_of_channels() -> None:
    space = space_of("PaddedShortcut")
    assert [(g.name, g.width, g.layers) for g in space.groups] == [
        ("narrow", 8, ("narrow", "wide"))
    ]
    layers = {layer.name: layer.sizes for layer in space.architecture(widths={"narrow": 3}).layers}
    assert layers["wide"] == (3, 4 + 3 + 4, 1)
    assert layers["norm"] == (11,)
    runs(space, narrow=3)


def test_an_operator_without_a_rule_freezes_its_channels_by_name() -> None:
    space = space_of("Unruled")
    assert [group.name for group in space.groups] == ["second"]
    assert "(sort) does to its channels what no rule describes" in space.frozen[0].reason
    runs(space, second=2)
    with pytest.raises(WidthError, match=r"'first' of .* can't vary: the forward pass \(sort\)"):
        space.widths({"first": 0.5})


def test_shared_transposed_and_channels_last_layers() -> None:
    space = space_of("SharedAndTransposed")
    groups = {g.name: (g.width, g.divisor, g.layers) for g in space.groups}
    assert groups == {
        "stem": (12, 1, ("stem", "twice")),
        "up": (8, 4, ("up",)),
        "mix": (6, 1, ("mix",)),
    }
    runs(space, stem=5, up=4, mix=2)


def test_a_constructor_that_reads_its_weights_is_traced_with_memory() -> None:
    space = space_of("ReadsItsWeights")
    assert [group.name for group in space.groups] == ["first"]
    runs(space, first=2)


def test_depthwise_follow_and_stages_count_feature_map_sizes() -> None:
    space = trace("torchvision/mobilenet_v3_small", input_shape=(3, 64, 64))
    assert all(group.divisor == 1 for group in space.groups)
    stages = [group.stage for group in space.groups]
    assert stages == sorted(stages)  # squeeze-and-excitation stays within its stage
    assert stages[0] == 0


def test_auxiliary_heads_vary_in_train_mode_and_do_not_count() -> None:
    space = trace(
        "torchvision/googlenet",
        arguments={"num_classes": 10, "init_weights": False},
        input_shape=(3, 64, 64),
    )
    plain = trace(
        "torchvision/googlenet",
        arguments={"num_classes": 10, "init_weights": False, "aux_logits": False},
        input_shape=(3, 64, 64),
    )
    aux = [group.name for group in space.groups if group.name.startswith("aux")]
    assert aux == ["aux1.conv.conv", "aux1.fc1", "aux2.conv.conv", "aux2.fc1"]
    assert space.dense.flops == plain.dense.flops
    assert space.dense.params > plain.dense.params
    architecture = space.architecture(0.5)
    network = build(architecture, seed=0)
    outputs = network(torch.randn(2, 3, 64, 64))
    assert type(outputs).__name__ == "GoogLeNetOutputs"
    sum(output.sum() for output in outputs).backward()
    assert [tuple(output.shape) for output in outputs] == [(2, 10)] * 3
    assert count_flops(network, (3, 64, 64)) == architecture.flops


@pytest.mark.slow
def test_an_auxiliary_head_that_needs_a_large_input_varies_too() -> None:
    shape = (3, 299, 299)
    space = trace(
        "torchvision/inception_v3",
        arguments={"num_classes": 10, "init_weights": False},
        input_shape=shape,
    )
    names = [group.name for group in space.groups]
    assert [name for name in names if "Aux" in name] == [
        "AuxLogits.conv0.conv",
        "AuxLogits.conv1.conv",
    ]
    architecture = space.architecture(0.25)
    network = build(architecture, seed=0)
    assert count_flops(network, shape) == architecture.flops
    outputs = network.train()(torch.randn(2, *shape))
    assert type(outputs).__name__ == "InceptionOutputs"
    assert [tuple(output.shape) for output in outputs] == [(2, 10)] * 2


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("architecture_networks:NothingVaries", TraceError, "has no channels that can vary"),
        (
            "architecture_networks:DependsOnValues",
            TraceError,
            "can't be traced on an input of 3×8×8",
        ),
        (
            "architecture_networks:not_a_module",
            SourceError,
            "must return an nn.Module, but got int",
        ),
        ("architecture_networks:missing", SourceError, "has no attribute 'missing'"),
        ("no_such_module:build", SourceError, "No module named 'no_such_module'"),
        ("not a module:build", SourceError, "must be import.path:callable"),
        ("vgg_minni", SourceError, "unknown model 'vgg_minni' (did you mean 'vgg_mini'?)"),
        ("torchvision/resnet19", SourceError, "did you mean 'resnet1"),
        ("math:pi", SourceError, "must be callable, but is float"),
    ],
)
def test_what_is_refused_says_why(source: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        trace(source, input_shape=INPUT)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_refused_arguments_are_named() -> None:
    with pytest.raises(SourceError, match=r"refuses \(num_clases=3\)"):
        trace("torchvision/resnet18", arguments={"num_clases": 3}, input_shape=INPUT)


def test_an_input_too_small_for_the_network_is_refused() -> None:
    with pytest.raises(TraceError, match="input of 3×8×8"):
        trace("torchvision/alexnet", input_shape=INPUT)


TRANSFORMERS = ("vit_", "swin", "maxvit")
NETWORKS = [
    name
    for name in models.list_models(module=models)
    if not name.startswith(TRANSFORMERS) or name in ("vit_b_32", "swin_t", "swin_v2_t", "maxvit_t")
]
"""Torchvision's classification networks: every CNN, and one transformer of each kind."""


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_torchvision_classification_network_is_traced(name: str) -> None:
    large = name.startswith(TRANSFORMERS)
    side = 299 if name == "inception_v3" else 256 if "v2_t" in name else 224 if large else 64
    space = trace(f"torchvision/{name}", input_shape=(3, side, side))
    assert 0 < space.architecture(0.5).flops < space.dense.flops
    assert all(group.reason for group in space.frozen)
