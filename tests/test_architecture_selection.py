"""Channel selection: the stream keeps its width, its readers lose inputs."""

import pytest
import torch
from torch import nn

from prunenas.architecture import Architecture, ChannelSelection, Space, build, count_flops, trace
from prunenas.errors import ExportError, WidthError

SOURCE = "test_architecture_selection:Selecting"
STREAM, INNER = 12, 10


class Selecting(nn.Module):
    """A stream of 12 channels that a pre-activation block and the head read in part."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STREAM, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(STREAM)
        self.selection = ChannelSelection(STREAM, STREAM)
        self.inner = nn.Conv2d(STREAM, INNER, 3, padding=1, bias=False)
        self.outer = nn.Conv2d(INNER, STREAM, 3, padding=1, bias=False)
        self.last = nn.BatchNorm2d(STREAM)
        self.relu = nn.ReLU()
        self.chosen = ChannelSelection(STREAM, STREAM)
        self.head = nn.Linear(STREAM, 7)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        stream = self.stem(images)
        stream = stream + self.outer(self.inner(self.relu(self.selection(self.norm(stream)))))
        return self.head(self.chosen(self.relu(self.last(stream))).mean((2, 3)))


@pytest.fixture(scope="module")
def space() -> Space:
    return trace(SOURCE, input_shape=(3, 8, 8))


def test_groups_are_what_selections_and_inner_layers_open(space: Space) -> None:
    assert {group.name: group.width for group in space.groups} == {
        "selection": STREAM,
        "inner": INNER,
        "chosen": STREAM,
    }
    (stream,) = (group for group in space.frozen if "stem" in group.layers)
    assert "reads it by index" in stream.reason


def test_flops_and_parameters_by_hand(space: Space) -> None:
    widths = {"selection": 5, "inner": 4, "chosen": 3}
    by_hand = 64 * 9 * (3 * STREAM + 5 * 4 + 4 * STREAM) + 3 * 7
    assert space.flops(widths) == by_hand
    network = build(space.architecture(widths=widths), trust=True)
    assert count_flops(network, (3, 8, 8)) == by_hand
    params = 9 * (3 * STREAM + 5 * 4 + 4 * STREAM) + 4 * STREAM + 3 * 7 + 7
    assert space.params(widths) == params == sum(p.numel() for p in network.parameters())


def test_inherited_selections_compute_what_the_zeroed_network_computes(space: Space) -> None:
    kept = {
        "selection": torch.tensor([0, 3, 4, 9, 11]),
        "inner": torch.tensor([1, 2, 5, 7]),
        "chosen": torch.tensor([2, 6, 7]),
    }
    widths = {group: len(indices) for group, indices in kept.items()}
    architecture = space.architecture(widths=widths, kept=kept)
    assert architecture.selections == {"selection": (0, 3, 4, 9, 11), "chosen": (2, 6, 7)}
    dense = build(space.dense, seed=0, trust=True).eval()
    with torch.no_grad():
        for norm in (dense.norm, dense.last):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    small = build(architecture, seed=1, trust=True).eval()
    assert small.selection.index.tolist() == [0, 3, 4, 9, 11]  # before any weights are loaded
    small.load_state_dict(space.inherit(dense.state_dict(), kept))
    gone = torch.ones(STREAM, dtype=torch.bool).scatter(0, kept["selection"], False)
    unread = torch.ones(STREAM, dtype=torch.bool).scatter(0, kept["chosen"], False)
    with torch.no_grad():  # what is not selected is not read
        dense.inner.weight[:, gone] = 0
        dense.outer.weight[:, [c for c in range(INNER) if c not in kept["inner"].tolist()]] = 0
        dense.head.weight[:, unread] = 0
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(small(images), dense(images))


def test_evenly_spaced_where_nothing_is_said(space: Space) -> None:
    architecture = space.architecture(widths={"selection": 4})
    assert architecture.selections == {}
    assert build(architecture, trust=True).selection.index.tolist() == [0, 3, 6, 9]
    said = space.architecture(
        widths={"selection": 4}, kept={"selection": torch.tensor([0, 3, 6, 9])}
    )
    assert said == architecture  # one way to say the same
    other = space.architecture(
        widths={"selection": 4}, kept={"selection": torch.tensor([0, 1, 2, 3])}
    )
    assert other != architecture
    assert space.selected(other)["selection"].tolist() == [0, 1, 2, 3]
    assert space.selected(architecture)["selection"].tolist() == [0, 3, 6, 9]


def test_a_selection_is_judged_by_the_normalisation_it_reads(space: Space) -> None:
    assert [(s.layer, s.start, s.repeat) for s in space.norms("selection")] == [("norm", 0, 1)]
    assert [(s.layer, s.start, s.repeat) for s in space.norms("chosen")] == [("last", 0, 1)]


def test_full_selection_costs_nothing_and_changes_nothing() -> None:
    selection = ChannelSelection(6, 6)
    maps = torch.randn(2, 6, 4, 4)
    assert selection(maps) is maps
    assert list(selection.parameters()) == []


def test_as_many_indices_as_the_width(space: Space) -> None:
    with pytest.raises(WidthError, match="as many channels must be kept of selection"):
        space.architecture(widths={"selection": 4}, kept={"selection": torch.tensor([1, 2])})


@pytest.mark.parametrize(
    "indices", [[0, 1], [0, 1, 2, 12], [0, 2, 1, 3], [0, 1, 1, 2], [-1, 0, 1, 2], [0, 1, 2, True]]
)
def test_a_file_with_wrong_indices_is_refused(space: Space, indices: list[int]) -> None:
    plain = space.architecture(
        widths={"selection": 4}, kept={"selection": torch.tensor([0, 1, 2, 3])}
    ).to_dict()
    plain["selections"] = {"selection": indices}
    with pytest.raises(ExportError, match=r"selections of selection must be 4 ascending indices"):
        Architecture.from_dict(plain)
    plain["selections"] = {"inner": [0]}
    with pytest.raises(ExportError, match="must name channel selection layers"):
        Architecture.from_dict(plain)
