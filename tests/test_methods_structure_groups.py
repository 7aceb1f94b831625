"""Sparse structure selection on a ResNeXt: groups go, and branches that have none left."""

from pathlib import Path

import pytest
import torch
from methods_networks import RECIPE, digits, space
from resnext_networks import GROUPED, STEM, resnext
from tiny_studies import NOWHERE, write_study
from torch import Tensor, nn

import prunenas
from prunenas.architecture import Architecture, Space, build, count_flops
from prunenas.architecture.paths import grouped_paths
from prunenas.cache import Cache
from prunenas.errors import BudgetError
from prunenas.export import write_export
from prunenas.methods import Dense
from prunenas.methods._factors import fold, path_structures, put_on, read
from prunenas.methods._structure_cuts import Cut, without_groups
from prunenas.methods.sparse_structure import SparseStructure
from prunenas.search import run_study
from prunenas.spec import load_study

STILL = RECIPE.model_copy(update={"lr": 1e-12})
SHAPE = (1, 8, 8)
# The first branch keeps its groups 1 and 2, the second has none, the third all; the stem's largest
# is its last.
FACTORS = {
    STEM: [0.0, 0.0, 0.0, 0.0],
    GROUPED[0]: [0.0, 0.7, 0.9, 0.0],
    GROUPED[1]: [0.0, 0.0, 0.0, 0.0],
    GROUPED[2]: [0.4, 0.5, 0.6, 0.8],
}


def factors() -> dict[str, Tensor]:
    return {layer: torch.tensor(values, dtype=torch.float64) for layer, values in FACTORS.items()}


def cut(flops: int | None = None) -> Cut:
    return without_groups(resnext(), factors(), resnext().blocks, flops)


def conv(network: nn.Module, layer: str) -> nn.Conv2d:
    found = network.get_submodule(layer)
    assert isinstance(found, nn.Conv2d)
    return found


def test_a_branch_without_a_group_goes_and_everything_is_counted_as_fvcore_counts() -> None:
    architecture = cut().architecture
    assert list(architecture.removed) == ["blocks.1"]
    network = build(architecture, trust=True)
    assert count_flops(network, SHAPE) == architecture.flops
    assert sum(p.numel() for p in network.parameters()) == architecture.params
    assert [conv(network, layer).groups for layer in (STEM, GROUPED[0], GROUPED[2])] == [1, 2, 4]
    assert conv(network, GROUPED[0]).in_channels == 4
    again = Architecture.from_dict(architecture.to_dict())
    assert again == architecture
    assert again.digest == architecture.digest
    assert again.digest not in (
        resnext().dense.digest,
        resnext().without(["blocks.1"]).dense.digest,
    )


def test_it_computes_what_the_network_does_with_its_factors() -> None:
    """As long as the layers behind a silent branch make nothing of nothing."""
    here = resnext()
    whole = build(here.dense, seed=1, trust=True).eval()
    found = path_structures(here, whole)
    put_on(whole, found)
    holder = whole.get_submodule("structure_factors").get_parameter("value")
    values = {**FACTORS, STEM: [0.3, 0.0, 0.0, 0.0]}
    with torch.no_grad():
        holder.copy_(torch.tensor([v for part in found for v in values[part.name]]))
    trained = read(whole.state_dict(), found)
    left = without_groups(here, trained, here.blocks, None)
    folded = build(here.dense, seed=1, trust=True)
    fold(folded, found, trained)
    small = build(left.architecture, trust=True).eval()
    small.load_state_dict(left.inherit(folded.state_dict()))
    images = torch.rand(4, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(small(images), whole(images), rtol=1e-5, atol=1e-6)


def by_hand(space: Space, gone: list[tuple[str, int]]) -> int:
    """Multiply-adds, from the sizes of the layers."""
    left = {paths.layer: paths.count for paths in grouped_paths(space)}
    for layer, _ in gone:
        left[layer] -= 1
    places, stem = 64, left[STEM]
    total = places * (9 * 2 * stem + stem * 2 * 3 * 9 + stem * 3 * 12) + 16 * 10
    for layer, (before, after) in zip(GROUPED, [(12, 12), (12, 16), (16, 16)], strict=True):
        width = 2 * left[layer]
        total += places * (before * width + 9 * 2 * width + width * after)
        total += places * before * after * (before != after)  # its projection stays
    return total


def test_a_budget_is_met_by_as_few_as_can_be() -> None:
    values = torch.rand(16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    given = dict(zip((STEM, *GROUPED), values.split(4), strict=True))
    order = sorted(
        (float(value), layer, index)
        for layer, own in given.items()
        for index, value in enumerate(own)
        if layer != STEM or index != int(own.argmax())
    )
    paths = [(layer, index) for _, layer, index in order]
    costs = [by_hand(resnext(), paths[:count]) for count in range(len(paths) + 1)]
    assert len(costs) == 16
    assert costs == sorted(set(costs), reverse=True)
    blocks = resnext().blocks
    for count, cost in enumerate(costs):
        architecture = without_groups(resnext(), given, blocks, cost).architecture
        assert architecture.flops == cost
        assert count_flops(build(architecture, trust=True), SHAPE) == cost
        if count:  # nor is more taken out than the budget asks for
            looser = without_groups(resnext(), given, blocks, costs[count - 1] - 1).architecture
            assert looser == architecture
    assert set(architecture.removed) == {"blocks.0", "blocks.1", "blocks.2"}
    with pytest.raises(BudgetError, match=f"{costs[-1]:,}"):
        without_groups(resnext(), given, blocks, costs[-1] - 1)


def dense(here: Space, folder: Path) -> Dense:
    return Dense(here, digits(), STILL, Cache(folder), seed=0)


@pytest.mark.parametrize(
    ("network", "kind"),
    [("resnet20", "blocks"), ("vgg_mini", "channels"), ("grouped", "channels")],
)
def test_auto_takes_what_the_paper_takes(network: str, kind: str, tmp_path: Path) -> None:
    derived = SparseStructure().derive(dense(space(network), tmp_path))
    assert derived.notes["structures"] == kind
    assert derived.architecture == space(network).dense


def test_auto_takes_groups_of_a_resnext(tmp_path: Path) -> None:
    derived = SparseStructure().derive(dense(resnext(), tmp_path))
    assert derived.notes["structures"] == "groups"
    assert derived.notes["factors"] == 16
    assert derived.architecture == resnext().dense


def test_branches_without_groups_are_inherited_and_told_and_whole_ones_stay(
    tmp_path: Path,
) -> None:
    source = dense(resnext(), tmp_path)
    stem = [(STEM, index) for index in range(3)]
    least = by_hand(resnext(), stem + [(layer, i) for layer in GROUPED for i in range(4)])
    derived = SparseStructure().derive(source, flops=least)
    assert derived.notes["blocks_removed"] == ["blocks.0", "blocks.1", "blocks.2"]
    assert derived.architecture.flops == least
    weights = derived.weights()
    assert weights is not None
    build(derived.architecture, trust=True).load_state_dict(weights)

    others = stem + [(layer, i) for layer in GROUPED if layer != GROUPED[1] for i in range(4)]
    held = SparseStructure(whole=("blocks.1",))
    assert held.derive(source, flops=by_hand(resnext(), others)).notes["blocks_removed"] == [
        "blocks.0",
        "blocks.2",
    ]
    with pytest.raises(BudgetError):
        held.derive(source, flops=by_hand(resnext(), others) - 1)


def test_it_is_exported_and_loaded(tmp_path: Path) -> None:
    architecture = cut().architecture
    network = build(architecture, seed=3, trust=True).eval()
    folder = write_export(
        tmp_path / "cut",
        architecture,
        weights=network.state_dict(),
        dense_flops=resnext().dense.flops,
        provenance={},
    )
    loaded = prunenas.load(folder, trust=True).eval()
    images = torch.rand(2, *SHAPE)
    with torch.no_grad():
        assert torch.equal(loaded(images), network(images))
    assert count_flops(loaded, SHAPE) == architecture.flops


@pytest.mark.slow
def test_a_study_records_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets of few FLOPs take whole branches."""
    monkeypatch.chdir(tmp_path)
    method = "  - {name: sparse_structure, space: {method: {structures: {choices: [auto]}}}}"
    objective = "{maximize: accuracy, flops_ratio: 0.3}"
    path = write_study(tmp_path, methods=method, objective=objective, trials=1)
    text = path.read_text().replace("{name: vgg_mini}", "{name: 'resnext_networks:ResNeXt'}")
    path.write_text(text.replace("search: {", "search: {starts: false, "))
    store = "sqlite:///s.db"
    view = run_study(load_study(path), storage=store, tracking=NOWHERE, device="cpu")
    (record,) = view.records
    assert record.state == "complete", record.reason
    assert record.notes["structures"] == "groups"
    assert record.notes["blocks_removed"]
    assert record.architecture is not None
    architecture = Architecture.from_dict(record.architecture)
    assert architecture.digest == record.digest
    assert list(architecture.removed) == record.notes["blocks_removed"]
    assert count_flops(build(architecture, trust=True), SHAPE) == record.flops
