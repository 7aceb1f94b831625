"""Networks of many families, from the trace to a file another runtime runs; docs/networks.md.

Each network is traced, built at random widths, trained for a step, counted, exported, loaded in a
process without prunenas, and run by onnxruntime. What was found is the table in the docs:
``PRUNENAS_WRITE_DOCS=1 pytest -m slow tests/test_networks_table.py`` writes it.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from prunenas.architecture import Space, build, count_flops, fill_arguments, trace
from prunenas.export import Verifier, load, write_export

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parent.parent / "docs" / "networks.md"

# One network of each family, with the side of its square input: small where the network allows it.
TORCHVISION = {
    "alexnet": 64,
    "vgg11": 32,
    "vgg11_bn": 32,
    "resnet18": 32,
    "resnet50": 32,
    "resnext50_32x4d": 32,
    "wide_resnet50_2": 32,
    "densenet121": 32,
    "googlenet": 64,
    "inception_v3": 299,  # its auxiliary head needs maps of 17×17
    "squeezenet1_1": 64,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "mnasnet0_5": 32,
    "efficientnet_b0": 32,
    "efficientnet_v2_s": 32,
    "regnet_x_400mf": 32,
    "regnet_y_400mf": 32,
    "shufflenet_v2_x1_0": 32,
    "convnext_tiny": 32,
    "vit_b_32": 224,
    "swin_t": 64,
    "swin_v2_t": 64,
    "maxvit_t": 224,
}
TIMM = {
    "resnet18d": 32,
    "mobilenetv3_small_050": 32,
    "ghostnet_050": 64,
    "regnetz_b16": 32,
    "dla34": 32,
    "hrnet_w18_small": 64,
    "cspresnet50": 64,
    "repvgg_a0": 32,
    "xception41": 64,
    "convnext_atto": 64,
    "poolformer_s12": 64,
    "vit_tiny_patch16_224": 64,
    "mixer_s32_224": 64,
}
NETWORKS = {f"torchvision/{name}": side for name, side in TORCHVISION.items()} | {
    f"timm/{name}": side for name, side in TIMM.items()
}


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier() as started:
        yield started


@cache
def space_of(source: str) -> Space:
    shape = (3, NETWORKS[source], NETWORKS[source])
    arguments = fill_arguments(source, given_arguments(source), classes=10, input_shape=shape)
    return trace(source, arguments=arguments, input_shape=shape)


def given_arguments(source: str) -> dict[str, object]:
    """Arguments that a user would set on small images."""
    match source:
        case "torchvision/googlenet" | "torchvision/inception_v3":
            return {"init_weights": False}  # takes seconds; auxiliary heads stay on
        case "torchvision/vit_b_32" | "torchvision/maxvit_t":
            return {"image_size": NETWORKS[source]} if "vit_b" in source else {}
        case "timm/mixer_s32_224":
            return {"img_size": NETWORKS[source]}
    return {}


def random_widths(space: Space, seed: int) -> dict[str, int]:
    """From an eighth of the dense width up."""
    generator = np.random.default_rng(seed)
    widths = {}
    for group in space.groups:
        steps = group.width // group.divisor
        low = max(1, steps // 8)
        widths[group.name] = int(generator.integers(low, steps + 1)) * group.divisor
    return widths


@pytest.mark.parametrize("source", NETWORKS)
def test_from_trace_to_another_runtime(source: str, verifier: Verifier, tmp_path: Path) -> None:
    space = space_of(source)
    blocks = [block.name for block in space.blocks[1::3]]
    smaller = space.without(blocks)
    architecture = smaller.architecture(widths=random_widths(smaller, seed=0))
    network = build(architecture, seed=0)
    assert count_flops(network, space.input_shape) == architecture.flops
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == architecture.params

    images = torch.randn(4, *space.input_shape, generator=torch.Generator().manual_seed(0))
    outputs = network.train()(images)
    logits = outputs if isinstance(outputs, torch.Tensor) else sum(outputs)  # auxiliary heads
    assert logits.shape == (4, 10)
    logits.square().mean().backward()
    # A block whose branch is gone may hold a scale of it that nothing uses any more.
    left = tuple(f"{name.partition('#')[0]}." for name in blocks)
    without_gradient = [
        name for name, p in network.named_parameters() if p.requires_grad and p.grad is None
    ]
    assert [name for name in without_gradient if not name.startswith(left)] == []

    network.eval()
    folder = write_export(  # loads it without prunenas, counts it, compares its outputs, ONNX too
        tmp_path / "export",
        architecture,
        dense_flops=space.dense.flops,
        provenance={},
        weights=network.state_dict(),
        formats=["onnx"],
        verifier=verifier,
    )
    onnx.checker.check_model(str(folder / "model.onnx"))
    torch.testing.assert_close(load(folder)(images), network(images))


def test_the_table_in_the_docs_is_what_was_found() -> None:
    text = "\n".join(document())
    if os.environ.get("PRUNENAS_WRITE_DOCS"):
        DOCS.write_text(text, encoding="utf-8")
    assert DOCS.read_text(encoding="utf-8") == text, "PRUNENAS_WRITE_DOCS=1 writes it anew"


def document() -> Iterator[str]:
    yield "# Networks"
    yield ""
    yield (
        "What varies in networks of many families, as `prunenas inspect` finds it. Each row was "
        "traced, built at random"
    )
    yield (
        "widths without every third of its removable branches, run forward and backward in "
        "training mode, counted by"
    )
    yield (
        "fvcore (equal to the closed form), exported, loaded in a process without prunenas, and "
        "run by onnxruntime."
    )
    yield "The table is written by the test that does so (`tests/test_networks_table.py`)."
    yield ""
    yield (
        "*Varies* is the share of the dense FLOPs that some channel group's width decides over; "
        "*least* what is left of"
    )
    yield "them at the narrowest widths. Ten classes; inputs as given."
    for title, prefix in (("torchvision", "torchvision/"), ("timm", "timm/")):
        yield ""
        yield f"## {title}"
        yield ""
        yield (
            "| network | input | dense FLOPs | groups | varies | least | branches | what is "
            "frozen, and why |"
        )
        yield "|---|---|--:|--:|--:|--:|--:|---|"
        for source in NETWORKS:
            if source.startswith(prefix):
                yield row(source)
    yield ""


def row(source: str) -> str:
    space = space_of(source)
    narrowest = space.flops({group.name: group.divisor for group in space.groups})
    reasons = Counter(
        general(group.reason) for group in space.frozen if group.reason != "the network's output"
    )
    frozen = "; ".join(f"{reason} ({count})" for reason, count in reasons.items())
    side = NETWORKS[source]
    return (
        f"| {source} | 3×{side}×{side} | {space.dense.flops:,} | {len(space.groups)} "
        f"| {varying(space):.0%} | {narrowest / space.dense.flops:.1%} | {len(space.blocks)} "
        f"| {frozen or 'the output only'} |"
    )


def general(reason: str) -> str:
    """A reason without the layers and sizes, which `prunenas inspect` says."""
    reason = re.sub(r": \w*Error: .*", "", re.sub(r"layer '[^']*'", "a layer", reason))
    return re.sub(r"\d+", "N", re.sub(r"'[^']*'", "…", reason))


def varying(space: Space) -> float:
    """The share of the dense FLOPs in modules whose FLOPs some width changes."""
    dense = space.layer_flops()
    narrow = space.layer_flops({group.name: group.divisor for group in space.groups})
    return sum(dense[name] for name in dense if narrow[name] != dense[name]) / space.dense.flops
