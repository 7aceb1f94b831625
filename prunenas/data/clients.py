"""Which client holds which training images: partitions, and what came of one in figures."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from prunenas.data._base import generator
from prunenas.errors import DataError, unknown

Kind = Literal["iid", "shards", "dirichlet", "users"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SHARDS = 2  # per client, as in McMahan et al. 2017

_DRAWS = 1000


@dataclass(frozen=True)
class Partition:
    """How training images are dealt out to clients.

    Attributes:
        kind: ``iid``: by chance, in equal parts. ``shards``: sorted by label and cut into pieces,
            of which each client gets a few (McMahan et al. 2017, "Communication-Efficient Learning
            of Deep Networks from Decentralized Data", section 3). ``dirichlet``: of each class, the
            clients' shares are drawn from a symmetric Dirichlet distribution (Li et al. 2022,
            "Federated Learning on Non-IID Data Silos", distribution-based label imbalance, who
            want 10 images at each client where this asks for one; Hsu, Qi and Brown 2019,
            "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
            Classification", draw each client's shares of the classes instead, for clients of equal
            size). ``users``: each client gets the images of whole users (PruneFL, Jiang et al.
            2023, which takes users in their order; here their order is drawn).
        alpha: Of ``dirichlet`` alone, above 0: the larger, the more alike are the clients.
        per_client: Of ``shards`` alone: pieces that each client gets; ``None`` for 2.
    """

    kind: Kind
    alpha: float | None = None
    per_client: int | None = None

    def check(self) -> None:
        """See that the three go together.

        Raises:
            DataError: They don't.
        """
        if self.kind not in KINDS:
            raise DataError(unknown("partition", self.kind, KINDS))
        if self.kind == "dirichlet" and not (self.alpha and 0 < self.alpha < math.inf):
            raise DataError(f"partition dirichlet needs an alpha above 0, got {self.alpha}")
        if self.kind == "shards" and not (self.per_client is None or self.per_client >= 1):
            raise DataError(
                f"partition shards needs per_client of 1 or more, got {self.per_client}"
            )
        for field, value, kind in (
            ("alpha", self.alpha, "dirichlet"),
            ("per_client", self.per_client, "shards"),
        ):
            if value is not None and self.kind != kind:
                raise DataError(f"{field} is of partition {kind} alone, got it with {self.kind}")


def partition(
    labels: Tensor, users: Tensor | None, clients: int, how: Partition, seed: int
) -> tuple[Tensor, ...]:
    """Deal out the training images: each belongs to one client, and no client is empty.

    Args:
        labels: int64 ``(N,)``, of any device.
        users: The same way, or ``None`` where the data set has none.
        clients: How many, 1 to N.
        how: The kind of partition.
        seed: What is left to chance; torch's global random numbers have no say.

    Returns:
        For each client the indices of its images, int64, sorted, on the CPU.

    Raises:
        DataError: ``how`` contradicts itself or asks for users that there are not, there are too
            few images or users for so many clients, or 1,000 draws from a Dirichlet distribution
            leave a client empty each time.
    """
    how.check()
    labels = labels.cpu()
    if not 1 <= clients <= len(labels):
        raise DataError(f"clients must number 1 to {len(labels)}, one an image, got {clients}")
    random = generator("partition", how.kind, seed)
    if how.kind == "iid":
        parts = torch.randperm(len(labels), generator=random).tensor_split(clients)
    elif how.kind == "shards":
        parts = _shards(labels, clients, how.per_client or SHARDS, random)
    elif how.kind == "dirichlet":
        assert how.alpha is not None  # checked above
        parts = _dirichlet(labels, clients, how.alpha, random)
    else:
        parts = _whole_users(users, clients, random)
    return tuple(part.sort().values for part in parts)


def _by_label(labels: Tensor, random: torch.Generator) -> Tensor:
    """All indices sorted by label, those of one label in random order."""
    order = torch.randperm(len(labels), generator=random)
    return order[labels[order].argsort(stable=True)]


def _shards(
    labels: Tensor, clients: int, per_client: int, random: torch.Generator
) -> tuple[Tensor, ...]:
    """Shards are contiguous in the labels' order; their sizes differ by at most one."""
    count = clients * per_client
    if count > len(labels):
        raise DataError(
            f"partition shards needs an image for each of clients × per_client shards, got "
            f"{clients} × {per_client} shards and {len(labels)} images"
        )
    shards = _by_label(labels, random).tensor_split(count)
    dealt = torch.randperm(count, generator=random).view(clients, per_client)
    return tuple(torch.cat([shards[shard] for shard in hand]) for hand in dealt.tolist())


def _dirichlet(
    labels: Tensor, clients: int, alpha: float, random: torch.Generator
) -> tuple[Tensor, ...]:
    """Cut each class at the sums of the clients' shares, rounded to whole images."""
    dice = np.random.default_rng(random.initial_seed())  # torch's Dirichlet takes no generator
    members = torch.unique(labels, return_counts=True)[1].numpy()[:, None]  # (classes, 1)
    for _ in range(_DRAWS):
        shares = dice.dirichlet(np.full(clients, alpha), size=len(members))  # (classes, clients)
        cuts = np.rint(shares.cumsum(axis=1)[:, :-1] * members).astype(np.int64)
        counts = np.diff(cuts, axis=1, prepend=0, append=members)
        if counts.sum(axis=0).all():
            break
    else:
        raise DataError(
            f"partition dirichlet must leave no client empty, but with alpha {alpha:g} and "
            f"{clients} clients one was in each of {_DRAWS} draws; raise alpha, or lower clients"
        )
    pieces = torch.split(_by_label(labels, random), counts.flatten().tolist())
    return tuple(torch.cat(pieces[client::clients]) for client in range(clients))


def _whole_users(users: Tensor | None, clients: int, random: torch.Generator) -> tuple[Tensor, ...]:
    """Numbers of users differ by at most one between clients."""
    if users is None:
        others = ", ".join(sorted(set(KINDS) - {"users"}))
        raise DataError(f"partition users needs a data set that knows its users; known: {others}")
    names, place = torch.unique(users.cpu(), return_inverse=True)
    if len(names) < clients:
        raise DataError(
            f"partition users needs a user for each client, got {clients} clients and "
            f"{len(names)} users"
        )
    hands = torch.randperm(len(names), generator=random).tensor_split(clients)
    return tuple(torch.nonzero(torch.isin(place, hand)).flatten() for hand in hands)


@dataclass(frozen=True, eq=False)
class Statistics:
    """A partition in figures.

    Attributes:
        counts: Images of each class that each client has, int64 ``(clients, classes)``.
    """

    counts: Tensor

    @property
    def images(self) -> Tensor:
        """Images of each client, int64 ``(clients,)``."""
        return self.counts.sum(1)

    @property
    def classes(self) -> Tensor:
        """Classes that each client has an image of, int64 ``(clients,)``."""
        return self.counts.gt(0).sum(1)

    @property
    def distances(self) -> Tensor:
        """How far each client's labels are from all clients' together, float64 ``(clients,)``.

        The total variation distance of the two distributions of labels, half the sum over classes
        of ``|n_ck / n_c - n_k / n|``: 0 where they are the same, up to 1 where the client has
        classes alone that next to nobody else has.
        """
        own = self.counts.double() / self.images[:, None]
        whole = self.counts.sum(0).double() / self.counts.sum()
        return (own - whole).abs().sum(1) / 2

    @property
    def distance(self) -> float:
        """The mean of :attr:`distances` over clients, each of equal weight; in [0, 1)."""
        return float(self.distances.mean())


def statistics(parts: tuple[Tensor, ...], labels: Tensor, classes: int) -> Statistics:
    """Count what each client has.

    Args:
        parts: Indices of each client's images, as :func:`partition` returns them; none empty.
        labels: Of all images, int64 ``(N,)``, of any device.
        classes: Labels are 0 to ``classes - 1``.
    """
    labels = labels.cpu()
    counts = [torch.bincount(labels[part], minlength=classes) for part in parts]
    return Statistics(torch.stack(counts))
