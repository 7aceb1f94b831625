"""What retraining begins with: fresh weights, a lottery ticket, or weights that are rewound."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from methods_networks import RECIPE, dense
from torch import nn

from prunenas.architecture import Architecture, build, masked
from prunenas.cli import main
from prunenas.methods import METHODS, Dense
from prunenas.training import EpochMetrics, Recipe, train
from prunenas.trial import job_of


def sparse(source: Dense) -> Architecture:
    return METHODS["magnitude"](density=0.3).derive(source).architecture


def beginning(source: Dense, **recipe: object) -> tuple[nn.Module, str]:
    """The network that a retraining begins with, and what its result is stored under."""
    changed = replace(source, recipe=Recipe(**{**source.recipe.model_dump(), **recipe}))
    job = job_of(sparse(source), changed, epochs=2, seed=5)
    return job.make(), job.key()


def check(network: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """It has these weights where its masks keep them, and 0 elsewhere."""
    masks = {id(weight): mask for weight, mask in masked(network)}
    assert masks
    for name, value in network.named_parameters():
        mask = masks.get(id(value), torch.ones_like(value, dtype=torch.bool))
        assert torch.equal(value, state[name] * mask)


@pytest.fixture
def source(tmp_path: Path) -> Dense:
    recipe = Recipe(**{**RECIPE.model_dump(), "epochs": 3, "schedule": "cosine"})
    return dense("vgg_mini", tmp_path, recipe=recipe, seed=2)


def test_fresh_weights_are_those_of_the_seed(source: Dense) -> None:
    network, _ = beginning(source)
    again = build(sparse(source), seed=5, trust=True)
    assert all(
        torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True)
    )


def test_a_lottery_ticket_has_the_dense_networks_own_first_weights(source: Dense) -> None:
    network, _ = beginning(source, initial="original")
    check(network, build(source.space.dense, seed=2).state_dict())


def test_rewound_weights_are_those_after_some_epochs_of_the_whole_schedule(source: Dense) -> None:
    whole = build(source.space.dense, seed=2)

    def stop(metrics: EpochMetrics) -> bool:
        return metrics.epoch == 2

    train(whole, source.data, source.recipe, seed=2, report=stop)
    network, _ = beginning(source, initial="rewound", rewind_epochs=2)
    check(network, whole.state_dict())
    told: list[str] = []
    told_of = replace(source, report=lambda what, metrics: told.append(what))
    beginning(told_of, initial="rewound", rewind_epochs=2)
    assert told == []  # kept


def test_each_beginning_is_a_training_of_its_own(source: Dense) -> None:
    keys = {
        beginning(source)[1],
        beginning(source, initial="original")[1],
        beginning(source, initial="rewound", rewind_epochs=1)[1],
        beginning(source, initial="rewound", rewind_epochs=2)[1],
    }
    assert len(keys) == 4
    other = replace(source, seed=3)  # another dense network has other first weights
    assert beginning(other, initial="original")[1] not in keys


STUDY = """\
name: tickets
model: {name: vgg_mini}
data: {name: digits}
methods: [{name: METHOD}]
objective: {maximize: accuracy, flops_ratio: 0.5}
train:
  epochs: 2
  initial: original
search: {sampler: random, trials: 1}
"""


def test_channel_methods_have_no_tickets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("study.yaml")
    path.write_text(STUDY.replace("METHOD", "network_slimming"))
    assert main(["check", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: study.yaml:8: train.initial: original is for methods that drop")
    assert "network_slimming takes channels away" in line
    path.write_text(STUDY.replace("METHOD", "magnitude"))
    assert main(["check", str(path)]) == 0
