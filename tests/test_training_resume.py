"""A training that was interrupted ends as one that wasn't, bit for bit."""

import hashlib
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_digits import Tensors, digits, same_state, small_network

from prunenas.training import EpochMetrics, Recipe, Training, train

DATA = digits(193, 64)
RECIPE = Recipe(epochs=4, batch_size=64, momentum=0.9, schedule="cosine")


class Interrupting(Tensors):
    """Ctrl-C in the second batch of epoch 2."""

    def batches(
        self, batch_size: int, *, seed: int | None = None, epoch: int = 0, augment: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        given = super().batches(batch_size, seed=seed, epoch=epoch, augment=augment)
        for index, batch in enumerate(given):
            if (epoch, index) == (2, 1):
                raise KeyboardInterrupt
            yield batch


def interrupted(path: Path, recipe: Recipe = RECIPE, *, seed: int = 0, **hooks: Any) -> None:
    train_split = DATA.train
    assert isinstance(train_split, Tensors)
    data = replace(DATA, train=Interrupting(train_split.images, train_split.labels))
    with pytest.raises(KeyboardInterrupt):
        train(small_network(dropout=0.2), data, recipe, seed=seed, checkpoint=path, **hooks)
    assert path.is_file()


def figures(training: Training) -> list[tuple[object, ...]]:
    return [(e.epoch, e.train, e.validation, e.lr) for e in training.curve]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"schedule": "step", "nesterov": True},
        {"precision": "bfloat16"},
        {"schedule": "one_cycle", "memory_format": "contiguous", "decay_all": False},
    ],
)
def test_resumed_equals_uninterrupted(tmp_path: Path, fields: dict[str, object]) -> None:
    recipe = RECIPE.model_validate({**RECIPE.model_dump(), **fields})
    whole, resumed = small_network(dropout=0.2), small_network(dropout=0.2)
    expected = train(whole, DATA, recipe, seed=1)
    interrupted(tmp_path / "a.pt", recipe, seed=1)
    torch.manual_seed(99)  # whatever else drew random numbers in between
    training = train(resumed, DATA, recipe, seed=1, checkpoint=tmp_path / "a.pt")
    assert same_state(whole, resumed)
    assert figures(training) == figures(expected)


def test_what_is_done_after_each_epoch_is_resumed_with_the_best_one(tmp_path: Path) -> None:
    def fade(network: nn.Module, epoch: int) -> None:
        with torch.no_grad():  # the first epochs are the best, but not the very first
            for parameter in network.parameters():
                parameter.mul_((1.0, 1.0, 0.3, 0.1)[epoch - 1])

    hooks: dict[str, Any] = {"after_epoch": fade, "keep_best": True}
    whole, resumed = small_network(dropout=0.2), small_network(dropout=0.2)
    expected = train(whole, DATA, RECIPE, seed=1, **hooks)
    interrupted(tmp_path / "a.pt", seed=1, **hooks)
    training = train(resumed, DATA, RECIPE, seed=1, checkpoint=tmp_path / "a.pt", **hooks)
    assert same_state(whole, resumed)
    assert figures(training) == figures(expected)
    assert (
        training.validation == max(training.curve, key=lambda e: e.validation.accuracy).validation
    )


def test_the_very_network_that_was_interrupted_can_go_on(tmp_path: Path) -> None:
    whole, network = small_network(), small_network()
    train(whole, DATA, RECIPE, seed=0)

    def interrupt(epoch: EpochMetrics) -> None:
        if epoch.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(network, DATA, RECIPE, seed=0, report=interrupt, checkpoint=tmp_path / "a.pt")
    train(network, DATA, RECIPE, seed=0, checkpoint=tmp_path / "a.pt")
    assert same_state(whole, network)


def test_report_hears_of_earlier_epochs_again(tmp_path: Path) -> None:
    interrupted(tmp_path / "a.pt")
    heard: list[int] = []
    train(
        small_network(dropout=0.2),
        DATA,
        RECIPE,
        seed=0,
        checkpoint=tmp_path / "a.pt",
        report=lambda epoch: heard.append(epoch.epoch),
    )
    assert heard == [1, 2, 3, 4]


def test_a_finished_training_is_only_read_back(tmp_path: Path) -> None:
    first, again = small_network(), small_network(seed=1)
    training = train(first, DATA, RECIPE, seed=0, checkpoint=tmp_path / "a.pt", keep_end=True)
    assert train(again, DATA, RECIPE, seed=0, checkpoint=tmp_path / "a.pt") == training
    assert same_state(first, again)


@pytest.mark.parametrize(
    "change", ["seed", "recipe", "epochs", "data", "penalty", "after_epoch", "keep_best"]
)
def test_another_trainings_checkpoint_is_not_taken_up(tmp_path: Path, change: str) -> None:
    interrupted(tmp_path / "a.pt")
    recipe = RECIPE.model_copy(update={"lr": 0.05}) if change == "recipe" else RECIPE
    data = replace(DATA, digest="other") if change == "data" else DATA
    seed = 1 if change == "seed" else 0
    epochs = 5 if change == "epochs" else None
    hooks: dict[str, Any] = {
        "penalty": {"penalty": lambda network, lr: None},
        "after_epoch": {"after_epoch": lambda network, epoch: None},
        "keep_best": {"keep_best": True},
    }.get(change, {})
    fresh, given = small_network(dropout=0.2), small_network(dropout=0.2)
    train(fresh, data, recipe, epochs=epochs, seed=seed, **hooks)
    heard: list[float] = []
    train(
        given,
        data,
        recipe,
        epochs=epochs,
        seed=seed,
        checkpoint=tmp_path / "a.pt",
        report=lambda epoch: heard.append(epoch.seconds),
        **hooks,
    )
    assert same_state(fresh, given)
    assert len(heard) == (epochs or 4)


def test_a_checkpoint_of_other_shapes_is_not_taken_up(tmp_path: Path) -> None:
    interrupted(tmp_path / "a.pt")
    narrow = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    training = train(narrow, DATA, RECIPE, seed=0, checkpoint=tmp_path / "a.pt")
    assert len(training.curve) == 4


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "nonsense"])
def test_a_damaged_checkpoint_means_starting_anew(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.pt"
    interrupted(path)
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    kept = {"truncated": content[:-100], "empty": b"", "nonsense": b"no checkpoint" * 9}
    path.write_bytes(kept.get(damage, content))
    fresh, given = small_network(dropout=0.2), small_network(dropout=0.2)
    train(fresh, DATA, RECIPE, seed=0)
    train(given, DATA, RECIPE, seed=0, checkpoint=path)
    assert same_state(fresh, given)


def test_nothing_is_left_beside_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.pt"
    train(small_network(), DATA, RECIPE, epochs=2, seed=0, checkpoint=path, keep_end=True)
    assert list(path.parent.iterdir()) == [path]


def test_reading_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    """A file with a right checksum whose pickle calls a function is another's, not ours."""

    class Runs:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return (Path.touch, (tmp_path / "ran",))

    payload = pickle.dumps(Runs(), protocol=2)
    path = tmp_path / "a.pt"
    path.write_bytes(hashlib.sha256(payload).digest() + payload)
    training = train(small_network(), DATA, RECIPE, seed=0, checkpoint=path)
    assert len(training.curve) == 4
    assert not (tmp_path / "ran").exists()
