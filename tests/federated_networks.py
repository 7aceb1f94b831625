"""Tiny networks on digits, and federations of them: the federated rooms' test bench."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from prunenas.architecture import Architecture, build, masked_weights, trace
from prunenas.data import Data, load
from prunenas.federated import (
    STRATEGIES,
    Client,
    Federation,
    LostMasks,
    RoundReport,
    Server,
    Setting,
    Strategy,
    Task,
    TimeModel,
    Update,
)

BYTE = 1e-7  # seconds


def perceptron(hidden: Sequence[int] = (12, 8)) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in zip((64, *hidden[:-1]), hidden, strict=True):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], 10))


def convolutional(dropout: float = 0.0, flat: bool = False) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Flatten(),
        nn.BatchNorm1d(96) if flat else nn.Identity(),
        nn.Linear(96, 10),
    )


@cache
def digits(train_limit: int | None = None) -> Data:
    return load("digits", validation=0.2, seed=0, train_limit=train_limit)


@cache
def _dense(source: str, arguments: tuple[tuple[str, Any], ...]) -> Architecture:
    return trace(source, arguments=dict(arguments), input_shape=(1, 8, 8)).dense


def setting(
    strategy: str | Strategy = "conventional",
    hyperparameters: Mapping[str, Any] | None = None,
    *,
    network: str = "perceptron",
    arguments: Mapping[str, Any] | None = None,
    seed: int = 0,
    seconds: float | Sequence[float] = 1e-4,
    constant: float = 1.0,
    only: Callable[[str], bool] = lambda name: True,
    train_limit: int | None = None,
    **federation: Any,
) -> Setting:
    """A federation of digits; ``seconds`` of a weight, one figure or one a layer."""
    if isinstance(strategy, str):
        strategy = STRATEGIES[strategy].model_validate(dict(hyperparameters or {}))
    given = tuple(sorted((arguments or {}).items()))
    architecture = _dense(f"federated_networks:{network}", given)
    weights = masked_weights(build(architecture, seed=0, trust=True))
    names = [name for name in weights if only(name)]
    each = [seconds] * len(names) if isinstance(seconds, float) else list(seconds)
    whole: dict[str, Any] = {
        "clients": 3,
        "rounds": 4,
        "updates": 2,
        "batch_size": 10,
        "evaluate_every": 2,
    }
    return Setting(
        architecture,
        digits(train_limit),
        Federation.model_validate({**whole, **federation}),
        strategy,
        TimeModel(constant, dict(zip(names, each, strict=True)), BYTE),
        seed,
    )


class Table:
    """Server, clients and one network for all of them, with every message on the table.

    Attributes:
        tasks: Of the last round, by client.
        updates: The same way.
    """

    def __init__(self, given: Setting) -> None:
        self.setting = given
        self.server = given.server()
        self.clients: list[Client] = list(given.clients())
        self.network = given.network()
        self.tasks: dict[int, Task] = {}
        self.updates: dict[int, Update] = {}

    def work(self, client: int) -> Update:
        """As over a wire: whoever has lost the masks says so, and is told again."""
        self.tasks[client] = self.server.task(client)
        try:
            return self.clients[client].work(self.tasks[client], self.network)
        except LostMasks:
            self.server.lost_masks(client)
            self.tasks[client] = self.server.task(client)
            return self.clients[client].work(self.tasks[client], self.network)

    def ask(self, clients: Iterable[int] | None = None) -> list[Update]:
        """Have the round's clients work."""
        chosen = self.server.chosen() if clients is None else clients
        self.tasks = {}
        self.updates = {client: self.work(client) for client in chosen}
        return list(self.updates.values())

    def play(self, rounds: int = 1) -> list[RoundReport]:
        """Some rounds, after initial pruning where there is one."""
        pruner = self.server.pruner()
        if pruner is not None:
            self.server.begin(self.work(pruner))
        return [self.server.finish(self.ask()) for _ in range(rounds)]


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def same_server(one: Server, other: Server) -> bool:
    return (
        one.round == other.round
        and same(one.masks, other.masks)
        and same(one.network_state(), other.network_state())
        and same(one.state()["weights"], other.state()["weights"])
    )
