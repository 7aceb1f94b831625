"""The ``federation:`` section: who trains together, on which parts of the data, and how."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from prunenas.data import Partition
from prunenas.data.clients import Kind

Loss = Literal["cross_entropy", "binary"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PartitionSection(_Section):
    """How the training images are spread over the clients: `prunenas.data.Partition`."""

    kind: Kind = Field(
        default="iid",
        description="iid: alike; shards: sorted by class and dealt out (McMahan et al. 2017); "
        "dirichlet: each class in random proportions; users: by who wrote them, where the data "
        "set says",
    )
    alpha: float | None = Field(
        default=None, gt=0, description="dirichlet: the smaller, the less alike; 0.5 without it"
    )
    per_client: int | None = Field(
        default=None, ge=1, strict=True, description="shards: how many a client gets; 2 without it"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name, owner in (("alpha", "dirichlet"), ("per_client", "shards")):
            if getattr(self, name) is not None and self.kind != owner:
                raise ValueError(f"{name} is for `kind: {owner}`, but kind is {self.kind}")
        return self

    def partition(self) -> Partition:
        """Return it as the data room takes it."""
        alpha = (self.alpha or 0.5) if self.kind == "dirichlet" else None
        per_client = (self.per_client or 2) if self.kind == "shards" else None
        return Partition(kind=self.kind, alpha=alpha, per_client=per_client)


class TimeSection(_Section):
    """What a round takes: the fields of `prunenas.federated.TimeModel`."""

    constant: float = Field(gt=0, description="Seconds of a round without any weights")
    layers: dict[str, Annotated[float, Field(gt=0)]] = Field(
        description="Seconds of a round for each weight that a layer keeps, by the weight's name; "
        "both ways of communication included"
    )
    seconds_per_byte: float = Field(gt=0, description="Of what is sent besides, one way")


def _partition(value: Any) -> Any:
    """``partition: iid`` for ``partition: {kind: iid}``."""
    return {"kind": value} if isinstance(value, str) else value


class Federation(_Section):
    """Everything that decides a federated training, but for network, data, strategy and seed.

    Clients train by plain stochastic gradient descent, without momentum and weight decay, and the
    server averages what they change, weighted by their numbers of images (McMahan et al. 2017,
    "Communication-Efficient Learning of Deep Networks from Decentralized Data", algorithm 1). The
    defaults are those of PruneFL's authors' configurations, but for the learning rate, which is
    each data set's own.

    >>> Federation(rounds=100, partition="iid").clients
    10
    """

    clients: int = Field(default=10, ge=1, strict=True, description="How many there are")
    partition: Annotated[PartitionSection, BeforeValidator(_partition)] = Field(
        default=PartitionSection(), description="How the training images are spread over them"
    )
    rounds: int = Field(ge=1, strict=True, description="Rounds of the whole training")
    participants: int | None = Field(
        default=None, ge=1, strict=True, description="Clients of one round; all without it"
    )
    updates: int = Field(default=5, ge=1, strict=True, description="Local steps in a round")
    batch_size: int = Field(default=20, ge=1, strict=True, description="Images in a local step")
    lr: float = Field(default=0.1, gt=0, description="Learning rate of the local steps")
    lr_half_life: float | None = Field(
        default=None, gt=0, description="Rounds after which it is half as large; constant without"
    )
    loss: Loss = Field(
        default="cross_entropy",
        description="cross_entropy; binary: binary cross-entropy of every logit, as the authors "
        "of PruneFL train conv2 and vgg11_prunefl",
    )
    evaluate_every: int = Field(
        default=10, ge=1, strict=True, description="Rounds between two validations"
    )
    time: str | TimeSection = Field(
        default="auto",
        description="What a round takes: a preset (femnist, cifar10, celeba, imagenet100), the "
        "file that `prunenas profile` wrote, or its values; auto: the preset of the paper's "
        "networks, a nominal device for others",
        json_schema_extra={"file": True},
    )
    bandwidth: float | None = Field(
        default=None, gt=0, description="Bytes a second, instead of the time model's"
    )
    quorum: float = Field(
        default=0.5, gt=0, le=1, description="Share of a round's clients that must answer"
    )
    norm_limit: float = Field(
        default=10.0,
        gt=1,
        description="An update is refused whose norm is so many times the median of its round",
    )

    @model_validator(mode="after")
    def _enough_clients(self) -> Self:
        if self.participants is not None and self.participants > self.clients:
            raise ValueError(
                f"`participants <= clients` must hold, but there are {self.participants} of "
                f"{self.clients}"
            )
        return self

    @property
    def per_round(self) -> int:
        """Clients of one round."""
        return self.participants or self.clients

    @property
    def needed(self) -> int:
        """Updates that a round needs."""
        return max(1, math.ceil(self.quorum * self.per_round))

    @property
    def evaluations(self) -> int:
        """How often the network is validated: after every `evaluate_every` rounds, and the last."""
        return math.ceil(self.rounds / self.evaluate_every)

    def lr_in(self, round_number: int) -> float:
        """Return the learning rate of a round, from 1."""
        if self.lr_half_life is None:
            return self.lr
        return float(self.lr * 0.5 ** ((round_number - 1) / self.lr_half_life))

    def evaluates_after(self, round_number: int) -> bool:
        """Whether the network is validated after a round."""
        return round_number % self.evaluate_every == 0 or round_number == self.rounds

    def settings(self) -> Mapping[str, Any]:
        """Return all of it in JSON values, defaults written out."""
        return self.model_dump(mode="json")
