"""Parameters and buffers that no layer holds: what follows channels, built, counted, inherited."""

import copy
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunenas.architecture import Architecture, Space, build, count_flops, trace
from prunenas.errors import ExportError, SourceError

INPUT = (3, 8, 8)


def space_of(name: str, **arguments: Any) -> Space:
    return trace(f"tensor_networks:{name}", arguments=arguments, input_shape=INPUT)


def random_dense(space: Space) -> nn.Module:
    """The dense network with random values everywhere, so that no wrong entry looks right."""
    network = build(space.dense, trust=True)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return network


def test_a_scale_a_shift_and_a_buffer_follow_their_stream_by_hand() -> None:
    space = space_of("Scaled")
    assert {g.name: g.layers for g in space.groups} == {
        "stem": ("stem", "outer"),
        "inner": ("inner",),
    }
    architecture = space.architecture(widths={"stem": 5, "inner": 7})
    assert architecture.tensors == {"scale": (5, 1, 1), "shift": (1, 5, 1, 1), "mean": (5,)}
    convolutions = (27 * 5 + 5) + (5 * 7 + 7) + (7 * 5 + 5)
    assert architecture.params == convolutions + 5 + 5 + (5 * 10 + 10)  # the buffer isn't trained
    network = build(architecture, seed=0, trust=True)
    assert sum(p.numel() for p in network.parameters()) == architecture.params
    assert torch.equal(network.get_parameter("scale"), torch.full((5, 1, 1), 0.1))
    assert count_flops(network, INPUT) == architecture.flops
    network(torch.randn(2, *INPUT)).sum().backward()
    assert network.get_parameter("scale").grad is not None


def test_inherited_tensors_compute_what_the_dense_network_computes_without_the_rest() -> None:
    space = space_of("Scaled")
    dense = random_dense(space)
    stem, inner = torch.tensor([0, 2, 3, 7]), torch.tensor([1, 4, 5, 6, 11])
    cut = build(space.architecture(widths={"stem": 4, "inner": 5}), seed=0, trust=True)
    cut.load_state_dict(space.inherit(dense.state_dict(), {"stem": stem, "inner": inner}))

    masked = copy.deepcopy(dense)
    gone, gone_inner = ([i for i in range(n) if i not in k] for n, k in ((8, stem), (12, inner)))
    with torch.no_grad():
        for name, tensor in masked.state_dict().items():
            if name.startswith(("stem.", "outer.")) or name == "mean":
                tensor[gone] = 0
            elif name == "shift":
                tensor[:, gone] = 0
            elif name.startswith("inner."):
                tensor[gone_inner] = 0
    images = torch.randn(3, *INPUT)
    torch.testing.assert_close(cut.eval()(images), masked.eval()(images))


def test_tokens_positions_and_a_norms_own_parameters_follow_the_embedding() -> None:
    space = space_of("Tokens")
    assert {g.name: g.layers for g in space.groups} == {
        "patches": ("patches", "second"),
        "first": ("first",),
    }
    architecture = space.architecture(widths={"patches": 5})
    assert architecture.tensors == {
        "token": (1, 1, 5),
        "position": (1, 5, 5),
        "gain": (5,),
        "offset": (5,),
    }
    network = build(architecture, seed=0, trust=True)
    assert network(torch.randn(2, *INPUT)).shape == (2, 10)
    dense = random_dense(space)
    kept = torch.tensor([0, 3, 4, 10, 11])
    inherited = space.inherit(dense.state_dict(), {"patches": kept})
    network.load_state_dict(inherited)
    for name, axis in (("token", 2), ("position", 2), ("gain", 0), ("offset", 0)):
        expected = dense.get_parameter(name).detach().index_select(axis, kept)
        assert torch.equal(inherited[name], expected), name


def test_a_parameter_that_the_constructor_sizes_by_itself_is_left_as_it_is() -> None:
    space = space_of("FollowsByItself")
    assert [group.name for group in space.groups] == ["stem", "inner"]
    network = build(space.architecture(widths={"stem": 3}), seed=0, trust=True)
    assert network.get_parameter("scale").shape == (3, 1, 1)


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("WritesTheShapeOut", {}, "does not run at another width"),
        ("Mixes", {}, "(matmul) combines its channels with 'scale' of fixed size"),
        ("Tied", {}, "(mul) combines its channels with 'scale', which has two names"),
        ("Untrained", {"how": "buffer"}, "'wave', a pattern that no training changes"),
        ("Untrained", {"how": "unsaved"}, "'wave', which the state dict leaves out"),
        ("Untrained", {"how": "parameter"}, "'wave', a pattern that no training changes"),
        ("Unsaved", {}, "'mean', which the state dict leaves out"),
    ],
)
def test_channels_that_meet_what_can_not_be_cut_are_frozen(
    name: str, arguments: dict[str, Any], reason: str
) -> None:
    space = space_of(name, **arguments)
    assert [group.name for group in space.groups] == ["inner"]
    assert any(reason in group.reason for group in space.frozen), space.frozen
    assert space.dense.tensors == {}
    assert "tensors" not in space.dense.to_dict()


def test_a_parameter_with_channels_on_three_axes_freezes_them() -> None:
    space = space_of("ThreeAxes")
    assert [group.name for group in space.groups] == ["last"]
    assert "on three axes" in next(g.reason for g in space.frozen if g.name == "a")


# --- the value ---------------------------------------------------------------------------------


def test_shapes_are_part_of_the_value_and_of_its_digest() -> None:
    space = space_of("Scaled")
    architecture = space.architecture(widths={"stem": 5})
    again = Architecture.from_dict(json.loads(json.dumps(architecture.to_dict())))
    assert again == architecture
    assert again.tensors == architecture.tensors
    with pytest.raises(TypeError):
        architecture.tensors["new"] = (1,)
    other = {**architecture.to_dict(), "tensors": {"scale": [4, 1, 1]}}
    assert Architecture.from_dict(other) != architecture


@pytest.mark.parametrize(
    "tensors",
    [
        [],
        {"a": 3},
        {"a": []},
        {"a": [0]},
        {"a": [True]},
        {"a": [1 << 30]},
        {"a": [1] * 9},
        {3: [1]},
    ],
)
def test_shapes_that_are_none_are_refused(tensors: Any) -> None:
    plain = space_of("Scaled").dense.to_dict()
    with pytest.raises(ExportError, match=r"tensor.* must "):
        Architecture.from_dict({**plain, "tensors": tensors})


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"missing": [3]}, "makes no parameter or buffer 'missing'"),
        ({"scale": [9, 1, 1]}, "makes 'scale' of 8×1×1 where the architecture has 9×1×1"),
        ({"scale": [8]}, "makes 'scale' of 8×1×1 where the architecture has 8"),
    ],
)
def test_a_tensor_that_the_constructor_does_not_make_is_refused(
    tensors: dict[str, Any], message: str
) -> None:
    plain = space_of("Scaled").dense.to_dict()
    with pytest.raises(SourceError, match=message):
        build(Architecture.from_dict({**plain, "tensors": tensors}), trust=True)


# --- families ----------------------------------------------------------------------------------


def test_convnexts_stages_vary_with_their_layer_scales() -> None:
    space = trace("torchvision/convnext_tiny", input_shape=(3, 32, 32))
    widths = {group.name: group.width for group in space.groups}
    assert [widths[name] for name in ("features.0.0", "features.2.1", "features.4.1")] == [
        96,
        192,
        384,
    ]
    assert [group.name for group in space.frozen] == ["classifier.2"]
    architecture = space.architecture(0.5)
    network = build(architecture, seed=0)
    scales: dict[str, Tensor] = {
        name: p for name, p in network.named_parameters() if name.endswith("layer_scale")
    }
    assert len(scales) == len(architecture.tensors) == 18
    assert {tuple(scale.shape) for scale in scales.values()} == {
        (width, 1, 1) for width in (48, 96, 192, 384)
    }
    assert all((scale == 1e-6).all() for scale in scales.values())


def test_timms_vision_transformer_varies_in_embedding_and_mlp() -> None:
    pytest.importorskip("timm")
    arguments = {"model_name": "vit_tiny_patch16_224", "img_size": 32, "depth": 2}
    space = trace("timm:create_model", arguments=arguments, input_shape=(3, 32, 32))
    names = [group.name for group in space.groups]
    assert names == ["patch_embed.proj", "blocks.0.mlp.fc1", "blocks.1.mlp.fc1"]
    architecture = space.architecture(widths={"patch_embed.proj": 100})
    assert architecture.tensors == {"cls_token": (1, 1, 100), "pos_embed": (1, 5, 100)}
    network = build(architecture, seed=0, trust=True)
    assert count_flops(network, (3, 32, 32)) == architecture.flops
