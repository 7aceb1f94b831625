"""One client's part of a training split, as the batches of each round of federated training."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from prunenas.data._base import IndexedSplit, generator
from prunenas.data.clients import Partition, partition
from prunenas.errors import DataError


@dataclass(frozen=True, eq=False)
class ClientSplit:
    """A client's images, read in passes without end.

    Attributes:
        split: The training split that they are of.
        client: The client's number, from 0; its passes are shuffled by it.
        indices: Of its images in ``split``, int64 ``(n,)``, one at least.
    """

    split: IndexedSplit
    client: int
    indices: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    def batches_from(
        self, round: int, updates: int, batch_size: int, seed: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one round, which depend on the arguments and the client alone.

        The client's images are read pass after pass, each shuffled by ``(seed, client, pass)``. A
        round takes up the passes where the round before it left them, whether or not the client
        took part in that one, so that over the rounds each image is seen equally often, to within
        one pass. A batch across the end of a pass may hold an image twice.

        Args:
            round: From 0; federations count theirs from 1.
            updates: Batches in a round, at least 1; the same in all rounds.
            batch_size: Images in a batch, at least 1; a client with fewer has them all in each
                batch, one alone too, which batch normalisation can't be trained on.
            seed: Of the shuffles.

        Yields:
            ``updates`` batches: images, float32 ``(N, C, H, W)``, normalised, and labels, int64
            ``(N,)``, on the split's device.

        Raises:
            DataError: An argument out of its range, or a damaged image file.
        """
        for argument, value, least in (
            ("round", round, 0),
            ("updates", updates, 1),
            ("batch_size", batch_size, 1),
        ):
            if value < least:
                raise DataError(f"{argument} must be at least {least}, got {value}")
        count = len(self)
        size = min(batch_size, count)
        start, stop = round * updates * size, (round + 1) * updates * size
        first = start // count
        orders = torch.cat(
            [
                torch.randperm(count, generator=generator("client", seed, self.client, number))
                for number in range(first, (stop - 1) // count + 1)
            ]
        )
        for batch in torch.split(orders[start - first * count : stop - first * count], size):
            yield self.split.at(self.indices[batch])


def client_splits(
    split: IndexedSplit, clients: int, how: Partition, seed: int
) -> tuple[ClientSplit, ...]:
    """Deal out a training split; see :func:`prunenas.data.clients.partition`.

    Raises:
        DataError: As there.
    """
    parts = partition(split.labels, split.users, clients, how, seed)
    return tuple(ClientSplit(split, client, part) for client, part in enumerate(parts))
