"""Work of methods besides training: done once, told, and taken up where it was stopped."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from methods_networks import dense

from prunenas.methods import METHODS, Dense, Derivation, _steps
from prunenas.methods._steps import KIND, Step, last_step

STEPPING: dict[str, dict[str, Any]] = {
    "thinet": {"finetune_epochs": 1},
    "channel_regression": {"images": 40},
    "taylor": {"batches": 3},
    "netadapt": {"step": 0.1, "images": 32},
}
"""The methods that work step by step besides training, quick but with several steps."""

ROUNDS: dict[str, dict[str, Any]] = {"prunefl": {"initial": {"batches": 1, "passes": 11}}}
"""Methods whose steps are a federation's rounds, kept and taken up by the federated training."""


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step is written."""
    monkeypatch.setattr(_steps, "PATIENCE", 0.0)
    monkeypatch.setattr(_steps, "SHARE", 0.0)


def derived(method: str, source: Dense) -> Derivation:
    return METHODS[method](**STEPPING[method]).derive(source, flops=source.space.dense.flops // 2)


def test_all_methods_that_tell_of_steps_are_here(tmp_path: Path) -> None:
    told: set[str] = set()
    source = replace(dense("vgg_mini", tmp_path), progress=lambda what, *step: told.add(what))
    for method in METHODS:
        quick = STEPPING.get(method, ROUNDS.get(method, {}))
        found = METHODS[method](**quick).derive(source, flops=source.space.dense.flops // 2)
        found.weights()
    assert told == {*STEPPING, *ROUNDS}


@pytest.mark.parametrize("method", STEPPING)
@pytest.mark.usefixtures("patient")
def test_interrupted_work_goes_on_to_the_same_end(method: str, tmp_path: Path) -> None:
    done: list[int] = []

    def interrupt(what: str, step: int, total: int, accuracy: float | None) -> None:
        done.append(step)
        if step == 2:
            raise KeyboardInterrupt

    source = dense("vgg_mini", tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        derived(method, replace(source, progress=interrupt)).weights()
    begun = [item for item in source.cache.items() if item.unfinished]
    assert [item.kind for item in begun] == [KIND]
    resumed = replace(source, progress=lambda what, step, *rest: done.append(step))
    broken = derived(method, resumed)
    weights = broken.weights()
    assert done == list(range(1, len(done) + 1))  # no step twice
    whole = derived(method, dense("vgg_mini", tmp_path / "whole"))
    assert broken.architecture == whole.architecture
    assert broken.notes == whole.notes
    expected = whole.weights()
    assert weights is not None
    assert expected is not None
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    assert not [item for item in source.cache.items() if item.unfinished]


@pytest.mark.parametrize("method", STEPPING)
def test_nothing_is_worked_out_twice(method: str, tmp_path: Path) -> None:
    source = dense("vgg_mini", tmp_path)
    first = derived(method, source)
    weights, kept = first.weights(), first.kept()
    told: list[int] = []
    again = derived(method, replace(source, progress=lambda what, done, *rest: told.append(done)))
    assert again.architecture == first.architecture
    assert again.notes == first.notes
    read = again.weights()
    assert weights is not None
    assert read is not None
    assert all(torch.equal(read[name], weights[name]) for name in weights)
    chosen = again.kept()
    assert kept is not None
    assert chosen is not None
    assert all(torch.equal(chosen[name], kept[name]) for name in kept)
    assert told == []


@pytest.mark.parametrize("method", STEPPING)
def test_other_hyperparameters_or_seeds_are_other_work(method: str, tmp_path: Path) -> None:
    source = dense("vgg_mini", tmp_path)
    budget = source.space.dense.flops // 2
    quick = STEPPING[method]
    other = {
        "thinet": {"positions": 5},
        "channel_regression": {"positions": 5},
        "taylor": {"batches": 2},
        "netadapt": {"step": 0.2},
    }[method]
    for hyperparameters, seed in ((quick, 0), ({**quick, **other}, 0), (quick, 1)):
        METHODS[method](**hyperparameters).derive(source, flops=budget, seed=seed).weights()
    assert len(source.cache.keys(KIND)) == 3


def counting(begun: Step | None) -> Iterator[Step]:
    for done in range(1 if begun is None else begun.done + 1, 5):
        yield Step(done, 4, {"sum": torch.tensor(done)}, {"text": str(done)}, done / 4)


@pytest.mark.usefixtures("patient")
def test_a_damaged_pause_is_begun_anew(tmp_path: Path) -> None:
    source = dense("vgg_mini", tmp_path)

    def interrupt(what: str, step: int, total: int, accuracy: float | None) -> None:
        assert accuracy == step / total
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        last_step(replace(source, progress=interrupt), counting, key={"a": 1}, what="counting")
    (item,) = source.cache.items()
    assert item.about == "counting of vgg_mini on digits"
    content = bytearray(item.path.read_bytes())
    content[-1] ^= 1
    item.path.write_bytes(bytes(content))
    told: list[int] = []
    anew = replace(source, progress=lambda what, done, *rest: told.append(done))
    last = last_step(anew, counting, key={"a": 1}, what="counting")
    assert told == [1, 2, 3, 4]
    assert last.values == {"text": "4"}


def test_quick_work_writes_no_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_steps, "PATIENCE", 3600.0)
    source = dense("vgg_mini", tmp_path)

    def interrupt(what: str, step: int, total: int, accuracy: float | None) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        last_step(replace(source, progress=interrupt), counting, key={"a": 1}, what="counting")
    assert source.cache.items() == []
