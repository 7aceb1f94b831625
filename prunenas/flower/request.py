"""What a run is asked to do: Flower's run config, and what a node's own config adds to it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import torch

from prunenas.architecture import fill_arguments, needs_trust, trace
from prunenas.data import load
from prunenas.errors import FederatedError, unknown
from prunenas.federated import Client, Setting, time_model
from prunenas.federated.run import identity
from prunenas.spec import federated_of


@dataclass(frozen=True)
class Request:
    """One federated training, for server and clients alike.

    Attributes:
        study: Text of the run file.
        strategy: Which of its strategies, by its title.
        seed: Of the run.
        output: The server's folder: its checkpoint, and in the end what became of the training.
        density: What prunefl found with this seed, for a strategy that takes it over; 0 for others.
        timeout: Seconds that the clients of a round have for their answers.
        wait: Seconds that the server waits for all clients to be there before it begins.
    """

    study: str
    strategy: str
    seed: int
    output: str
    density: float = 0.0
    timeout: float = 600.0
    wait: float = 60.0

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """Read a run config.

        Raises:
            FederatedError: A value is missing or of another kind.
        """
        values: dict[str, Any] = {}
        for name, kind in cls.__annotations__.items():
            value = config.get(name)
            if kind is float and type(value) is int:
                value = float(value)
            if type(value) is not kind:
                raise FederatedError(
                    f"the run config's {name!r} must be {kind.__name__}, but is {value!r:.40}"
                )
            values[name] = value
        return cls(**values)

    def toml(self) -> str:
        """Return it as lines of TOML, for ``flwr run --run-config FILE``."""
        # JSON's strings and numbers are TOML's too.
        return "".join(f"{name} = {json.dumps(each)}\n" for name, each in asdict(self).items())


@dataclass(frozen=True)
class Place:
    """A client's own view of a request.

    Attributes:
        request: With the study that this node was told of, or its own.
        trusted: Whether the study is the node's own file; code of a model source is imported only
            then, never because a message names it.
        root: The data set's folder on this node; the study's without it.
    """

    request: Request
    trusted: bool = False
    root: str | None = None

    @classmethod
    def of(cls, run: Mapping[str, Any], node: Mapping[str, Any]) -> Self:
        """Read a run config and a node config, which may name a ``run-file`` and a ``data-root``.

        Raises:
            FederatedError: They can't be read.
        """
        request = Request.of(run)
        path, root = node.get("run-file"), node.get("data-root")
        if path is not None:
            try:
                request = replace(request, study=Path(str(path)).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise FederatedError(f"the node's run file can't be read: {error}") from None
        return cls(request, path is not None, None if root is None else str(root))

    @property
    def setting(self) -> Setting:
        """All that decides the training; made once in a process."""
        return _setting(self)

    @property
    def clients(self) -> tuple[Client, ...]:
        """All clients as they are before the first round; made once in a process."""
        return _clients(self)

    @property
    def digest(self) -> str:
        """Of the training, as server and clients must agree on it; not of what computes it."""
        return identity(replace(self.setting, device=torch.device("cpu")))


@lru_cache(maxsize=1)
def _setting(place: Place) -> Setting:
    request = place.request
    study = federated_of(request.study, "study")
    model = study.model
    if needs_trust(model.name) and not place.trusted:
        raise FederatedError(
            "a model that a message names must be prunenas', torchvision's or timm's, but is "
            f"{model.name!r}; a node's own `run-file` may name others"
        )
    entries = {entry.title: entry for entry in study.strategies}
    if request.strategy not in entries:
        raise FederatedError(unknown("strategy", request.strategy, entries))
    entry = entries[request.strategy]
    where = study.data.model_dump()
    if place.root is not None:
        where["root"] = place.root
    data = load(**where)
    arguments = fill_arguments(
        model.name, model.arguments, classes=data.classes, input_shape=data.input_shape
    )
    space = trace(model.name, arguments=arguments, input_shape=data.input_shape)
    federation = study.federation
    if entry.rounds is not None:
        federation = federation.model_copy(update={"rounds": entry.rounds})
    return Setting(
        architecture=space.dense,
        data=data,
        federation=federation,
        strategy=entry.strategy(request.density or None),
        time=time_model(federation, space),
        seed=request.seed,
    )


@lru_cache(maxsize=1)
def _clients(place: Place) -> tuple[Client, ...]:
    return place.setting.clients()
