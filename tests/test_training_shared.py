"""A training that is read says what it would have said if it had been done."""

import hashlib
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_digits import digits

from prunenas.architecture import build, trace
from prunenas.cache import Cache
from prunenas.training import EpochMetrics, Recipe, causes
from prunenas.training.shared import KIND, Job, Shared, Trainings

RECIPE = Recipe(epochs=4, batch_size=64, lr=0.05, augment=False)
SPACE = trace("vgg_mini", arguments={"num_classes": 10}, input_shape=(1, 8, 8))


def job(ratio: float = 0.25, **changes: Any) -> Job:
    architecture, seed = SPACE.architecture(ratio), changes.get("seed", 0)
    values = {
        "architecture": architecture,
        "make": lambda: build(architecture, seed=seed, trust=True),
        "data": digits(),
        "recipe": RECIPE,
        "epochs": 4,
        "seed": 0,
        "device": "cpu",
    }
    return Job(**{**values, **changes})


def never() -> torch.nn.Module:
    raise AssertionError("a network was built for a training that is stored")


def figures(shared: Shared) -> tuple[Any, ...]:
    """Everything but what the clock decides and who did it."""
    training = shared.training
    curve = [replace(epoch, seconds=0.0) for epoch in training.curve]
    content = None
    if shared.weights is not None:
        content = hashlib.sha256(
            b"".join(value.numpy().tobytes() for _, value in sorted(shared.weights.items()))
        ).hexdigest()
    return training.validation, curve, training.stopped, content


def stop_at(epoch: int, told: list[int] | None = None) -> Callable[[EpochMetrics], bool]:
    def report(metrics: EpochMetrics) -> bool:
        if told is not None:
            told.append(metrics.epoch)
        return metrics.epoch >= epoch

    return report


def test_what_is_read_equals_what_is_trained_without_a_store(tmp_path: Path) -> None:
    alone = Trainings().train(job(), trial=0)
    cache = Cache(tmp_path)
    first = Trainings(cache, "one", "1").train(job(), trial=3)
    told: list[int] = []
    read = Trainings(cache, "two", "2").train(
        job(make=never), trial=0, report=lambda metrics: told.append(metrics.epoch)
    )
    assert figures(alone) == figures(first) == figures(read)
    assert told == [1, 2, 3, 4]
    assert (alone.by, first.by, read.by) == (None, None, "one/3")
    assert Trainings(cache, "one", "1").train(job(make=never), trial=7).by == "trial 3"
    # Interrupted between its training and its record, a trial finds its own.
    assert Trainings(cache, "one", "1").train(job(make=never), trial=3).by is None
    assert not list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_stop_ends_a_stored_training_where_it_would_have_ended(tmp_path: Path, epoch: int) -> None:
    trainings = Trainings(Cache(tmp_path), "one", "1")
    trainings.train(job(), trial=0)
    told: list[int] = []
    read = trainings.train(job(make=never), trial=1, report=stop_at(epoch, told))
    assert told == list(range(1, epoch + 1))
    assert figures(read) == figures(Trainings().train(job(), trial=1, report=stop_at(epoch)))
    assert read.training.stopped == (epoch < 4)
    assert (read.weights is None) == (epoch < 4)


def test_a_stopped_training_is_no_result_but_a_beginning(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    trainings = Trainings(cache, "one", "1")
    stopped = trainings.train(job(), trial=0, report=stop_at(3))
    assert figures(stopped) == figures(Trainings().train(job(), trial=0, report=stop_at(3)))
    assert cache.keys(KIND) == []
    assert [item.unfinished for item in cache.items()] == [True]
    # Whoever wants less of it gets less, whoever wants all of it trains the rest.
    for epoch in (2, 3):
        again = trainings.train(job(), trial=1, report=stop_at(epoch))
        assert figures(again) == figures(Trainings().train(job(), trial=1, report=stop_at(epoch)))
    assert figures(trainings.train(job(), trial=2)) == figures(Trainings().train(job(), trial=2))
    assert cache.keys(KIND) == [job().key()]
    assert [item.unfinished for item in cache.items()] == [False]


def test_a_damaged_result_is_told_and_computed_again(tmp_path: Path) -> None:
    warnings: list[str] = []
    cache = Cache(tmp_path, warnings.append)
    trainings = Trainings(cache, "one", "1")
    first = trainings.train(job(), trial=0)
    (path,) = tmp_path.rglob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-5] ^= 1  # one bit of a weight
    path.write_bytes(content)
    again = trainings.train(job(), trial=1)
    assert again.by is None
    assert figures(again) == figures(first)
    assert len(warnings) == 1
    assert "is damaged and is computed again" in warnings[0]
    assert trainings.train(job(make=never), trial=2).by == "trial 1"


def test_a_result_that_can_not_be_stored_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    warnings: list[str] = []
    cache = Cache(tmp_path, warnings.append)
    monkeypatch.setattr("prunenas.cache.save_file", full)
    shared = Trainings(cache, "one", "1").train(job(), trial=0)
    assert figures(shared) == figures(Trainings().train(job(), trial=0))
    assert len(warnings) == 1
    assert "No space left on device" in warnings[0]


def test_each_cause_makes_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = job().key()
    assert job().key() == base
    # The protocol and the recipe's own epochs have come to `epochs`; auto is float32 on a CPU.
    same = RECIPE.model_copy(
        update={"protocol": "scratch_b", "scratch_b_cap": 2.0, "epochs": 9, "precision": "float32"}
    )
    assert job(recipe=same).key() == base
    others = [
        job(0.5),
        job(seed=1),
        job(epochs=5),
        job(data=digits(train=300)),
        job(recipe=RECIPE.model_copy(update={"lr": 0.01})),
        job(recipe=RECIPE.model_copy(update={"augment": True})),
        job(recipe=RECIPE.model_copy(update={"precision": "bfloat16"})),
        job(recipe=RECIPE.model_copy(update={"memory_format": "contiguous"})),
    ]
    keys = {other.key() for other in others}
    monkeypatch.setattr(causes, "__version__", "0.0.1")
    keys.add(job().key())
    assert len(keys | {base}) == len(others) + 2


NET = """\
from torch import nn
from blocks import WIDTH

def build(num_classes: int = 10) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, WIDTH, 3), nn.{activation}(), nn.Conv2d(WIDTH, WIDTH, 3), nn.{activation}(),
        nn.Flatten(), nn.Linear(16 * WIDTH, num_classes),
    )
"""


def _key_of_own_network(folder: str) -> str:
    sys.path.insert(0, folder)
    space = trace("nets:build", arguments={}, input_shape=(1, 8, 8))
    return job(architecture=space.dense).key()


@pytest.mark.slow
def test_the_code_of_a_users_network_counts(tmp_path: Path) -> None:
    def key(folder: str, activation: str, more: str = "") -> str:
        place = tmp_path / folder
        place.mkdir()
        (place / "nets.py").write_text(NET.format(activation=activation))
        (place / "blocks.py").write_text(f"WIDTH = 4\n{more}")
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(_key_of_own_network, (str(place),))

    first = key("one", "ReLU")
    assert key("copy", "ReLU") == first  # the same code elsewhere
    assert len({first, key("other", "GELU"), key("imported", "ReLU", "# edited\n")}) == 3
