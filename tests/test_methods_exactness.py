"""The pruned network with inherited weights computes what the masked dense network computes.

For every method over real network families; the largest differences are the table in
``docs/methods.md``. Each test compares its own cell with what it measures, and writes it under
``PRUNENAS_WRITE_DOCS=1`` (``pytest -n 0``, once as it is and once with ``-m slow``).
"""

from pathlib import Path

import pytest
import torch
from exactness import (
    NETWORKS,
    ROWS,
    applies,
    distance,
    oracle,
    recorded,
    small,
)
from methods_networks import silence
from methods_page import compare_cell

from prunenas.methods import METHODS

QUICK = ("VGG", "ResNet-20 B", "PreResNet", "DenseNet-BC")

every_network = pytest.mark.parametrize(
    "network",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@every_network
@pytest.mark.parametrize("name", ROWS)
def test_inherited_weights_compute_what_the_mask_does(
    name: str, network: str, folder: Path
) -> None:
    if not applies(name, network):
        compare_cell(name, network, None)
        return
    row, source = ROWS[name], recorded(network, folder)
    derived = row.derive(source)
    assert derived.architecture.flops < source.space.dense.flops
    if derived.inherit is None:
        compare_cell(name, network, None)
        return
    inherited = derived.inherit()
    assert bool(derived.architecture.removed) == ("blocks" in row.removes)
    pruned, shape = small(derived, inherited.weights), source.space.input_shape
    whole = oracle(row, source, derived, inherited, folded=True)
    measured = distance(pruned, whole, shape, torch.float32)
    assert measured <= 1e-5
    # Weights pass from single to double precision unchanged.
    assert distance(pruned, whole, shape, torch.float64) <= 1e-9
    if inherited.rebuilt is not None:
        # Nothing reads a channel that is gone, so it doesn't matter what it holds: no mask.
        whole = source.network()
        whole.load_state_dict(inherited.rebuilt)
        assert distance(pruned, whole, shape, torch.float64) <= 1e-9
    if row.method == "sparse_structure":
        # Multiplied into weights, factors are rounded, which a deep network amplifies.
        whole = oracle(row, source, derived, inherited)
        measured = distance(pruned, whole, shape, torch.float32)
        compare_cell(name, network, measured, limit=1e-4)
    else:
        compare_cell(name, network, measured)


@every_network
def test_a_channel_for_another_would_be_seen(network: str, folder: Path) -> None:
    # What the comparison above is worth: one wrong channel in one group.
    row, source = ROWS["l1_norm"], recorded(network, folder)
    derived = row.derive(source)
    inherited = derived.inherit() if derived.inherit else pytest.fail("no weights")
    group = next(g for g in source.space.groups if 1 < len(inherited.kept[g.name]) < g.width)
    kept = inherited.kept[group.name]
    other = next(channel for channel in range(group.width) if channel not in kept)
    wrong = torch.cat((kept[kept != kept[0]], torch.tensor([other]))).sort().values
    pruned, whole = small(derived, inherited.weights), source.network()
    whole.load_state_dict(source.states[-1])
    silence(source.space, whole, {**inherited.kept, group.name: wrong})
    assert distance(pruned, whole, source.space.input_shape, torch.float32) > 1e-4


def test_every_method_has_a_row() -> None:
    cutting = {name for name, method in METHODS.items() if method.granularity != "weight"}
    assert {row.method for row in ROWS.values()} == cutting
