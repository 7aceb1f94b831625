"""Everything that decides a federated training, put together."""

from dataclasses import dataclass, field

import torch
from torch import nn

from prunenas.architecture import Architecture, Space, build, masked_weights
from prunenas.data import ClientSplit, Data, client_splits
from prunenas.errors import FederatedError
from prunenas.federated.client import Client
from prunenas.federated.federation import Federation, TimeSection
from prunenas.federated.presets import nominal, preset
from prunenas.federated.server import Server
from prunenas.federated.state import draws_random_numbers
from prunenas.federated.strategies import Strategy
from prunenas.federated.time import TimeModel

PRESET_OF = {
    "conv2": "femnist",
    "conv4": "celeba",
    "vgg11_prunefl": "cifar10",
    "torchvision/resnet18": "imagenet100",
}
"""The paper's networks, and the time model that its authors measured for each."""


@dataclass(frozen=True)
class Setting:
    """One federated training: equal ones give the same masks and weights, wherever they run.

    Attributes:
        architecture: Of the network; its masks hold for strategies that don't find their own.
        data: Its training split is spread over the clients; its validation split is the server's.
        federation: Who trains, and how.
        strategy: What decides the masks.
        time: What a round takes; weights that it doesn't name are never pruned.
        seed: Of everything: weights, partition, batches, choice of clients, strategy.
        device: Where server and clients compute.
    """

    architecture: Architecture
    data: Data
    federation: Federation
    strategy: Strategy
    time: TimeModel
    seed: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        initial = self.strategy.initial_pruning
        if initial is not None and initial.client >= self.federation.clients:
            raise FederatedError(
                f"initial pruning must be at one of {self.federation.clients} clients, 0 to "
                f"{self.federation.clients - 1}, but is at {initial.client}"
            )

    def network(self) -> nn.Module:
        """Return the network with the fresh weights that the seed gives it, on the device."""
        # Trusted: whoever made the architecture has already run the source's code.
        return build(self.architecture, seed=self.seed, trust=True).to(self.device)

    def server(self) -> Server:
        """Return a server before its first round."""
        return Server(self.network(), self.strategy, self.federation, self.time, self.seed)

    def clients(self) -> tuple[Client, ...]:
        """Return all clients before their first round.

        Raises:
            DataError: The training split can't be spread over them so.
            FederatedError: A client has too few images to train the network on.
        """
        federation = self.federation
        splits = client_splits(
            self.data.train, federation.clients, federation.partition.partition(), self.seed
        )
        stochastic = self._stochastic(min(splits, key=len))
        return tuple(
            Client(
                number,
                split,
                federation,
                self.seed,
                time=self.time,
                initial=self.strategy.initial_pruning,
                stochastic=stochastic,
            )
            for number, split in enumerate(splits)
        )

    def _stochastic(self, smallest: ClientSplit) -> bool:
        """Whether the network draws random numbers, tried on a batch as small as may come."""
        images, _ = next(smallest.batches_from(0, 1, min(2, self.federation.batch_size), self.seed))
        try:
            return draws_random_numbers(self.network(), images.to(self.device))
        except ValueError as error:  # so says torch's batch normalisation of one value a channel
            raise FederatedError(
                f"clients' batches must be large enough to train the network on, but client "
                f"{smallest.client} has batches of {len(images)}: {error}"
            ) from error


def time_model(federation: Federation, space: Space) -> TimeModel:
    """Return what a round of a federation takes with the dense network of a space.

    Raises:
        FederatedError: There is no such preset, or it is of another network.
    """
    network = build(space.dense, trust=True)
    weights = {name: tuple(weight.shape) for name, weight in masked_weights(network).items()}
    sizes = {name: weight.numel() for name, weight in masked_weights(network).items()}
    asked = federation.time
    if isinstance(asked, TimeSection):
        found = TimeModel(asked.constant, asked.layers, asked.seconds_per_byte)
        if strange := sorted(found.layers.keys() - weights.keys()):
            raise FederatedError(
                f"a time model must be of the network's layers, but {space.source} has no "
                f"{strange[0]}; `prunenas profile` measures one for it"
            )
        if federation.bandwidth is None:
            return found
        return found.at_bandwidth(federation.bandwidth)
    name = PRESET_OF.get(space.source) if asked == "auto" else asked
    if name is not None:
        return preset(name, weights, updates=federation.updates, bandwidth=federation.bandwidth)
    made = space.layer_flops()
    uses = {each: made.get(each.removesuffix(".weight"), 0) // sizes[each] for each in sizes}
    return nominal(uses, sizes, updates=federation.updates, bandwidth=federation.bandwidth)


def round_seconds(architecture: Architecture, time: TimeModel) -> float:
    """Return what a round takes with an architecture, by the time model of its dense network.

    Raises:
        FederatedError: The architecture has no such layers.
    """
    network = build(architecture, trust=True)
    sizes = {name: weight.numel() for name, weight in masked_weights(network).items()}
    kept = {name: mask.weights for name, mask in architecture.masks.items()}
    return time.round_seconds({name: kept.get(name, sizes.get(name, 0)) for name in time.layers})
