"""What decides a training's figures, and whether its parts fit together."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunenas.architecture import Architecture
from prunenas.cache import Cache
from prunenas.data import Data, load
from prunenas.errors import DataError, TrainingError
from prunenas.training import Recipe
from prunenas.version import __version__


@dataclass(frozen=True)
class Plan:
    """All that decides the figures of one training.

    Attributes:
        architecture: What is trained.
        dense_flops: FLOPs of the dense network, for Scratch-B.
        data: What it is trained and tested on.
        recipe: How.
        seed: Of initialisation, batch order and augmentation.
        device: Where.
    """

    architecture: Architecture
    dense_flops: int
    data: Data
    recipe: Recipe
    seed: int
    device: torch.device

    def __post_init__(self) -> None:
        if self.recipe.initial != "fresh":
            raise TrainingError(
                "no dense network",
                f"initial: {self.recipe.initial} takes the dense network's weights, which only a "
                "study has. Give initial: fresh",
            )

        if self.recipe.protocol == "federated":
            raise TrainingError(
                "no federation",
                "protocol: federated trains by a study's federation, which an export has none of. "
                "Give protocol: scratch_e or scratch_b",
            )

    @property
    def epochs(self) -> int:
        """Epochs that the recipe's protocol comes to."""
        return self.recipe.epochs_for(dense_flops=self.dense_flops, flops=self.architecture.flops)

    @property
    def flops_ratio(self) -> float:
        """FLOPs as a share of the dense network's."""
        return self.architecture.flops / self.dense_flops

    @property
    def experiment(self) -> str:
        """Where MLflow shows it: with the studies of the same model on the same data set."""
        return f"{self.architecture.source} on {self.data.name}"

    @property
    def key(self) -> str:
        """Digest of everything the trained weights depend on."""
        return Cache.key(
            architecture=self.architecture.digest,
            data=self.data.digest,
            recipe=self.recipe.model_dump(mode="json"),
            epochs=self.epochs,
            seed=self.seed,
            device=self.device.type,
            version=__version__,
        )


def load_data(
    name: str,
    input_shape: tuple[int, ...],
    *,
    root: Path | None = None,
    download: bool = False,
    validation: float = 0.2,
    device: torch.device | str = "cpu",
) -> Data:
    """Load a data set as near as it comes to what a network takes.

    Grey images are repeated for a network that takes colours, and the images of a folder are made
    as large as it takes them.

    Args:
        name: A data set; what is not told here is as for ``prunenas.data.load``.
        input_shape: ``(C, H, W)`` of one input of the network.

    Raises:
        DataError: As ``load`` does.
    """
    folder = name == "image_folder"
    return load(
        name,
        root=root,
        download=download,
        validation=validation,
        channels=3 if input_shape[0] == 3 else 1 if folder and input_shape[0] == 1 else None,
        image_size=input_shape[-1],
        device=device,
    )


def check_fit(network: nn.Module, architecture: Architecture, data: Data, what: str) -> None:
    """See that a data set has the images and classes of a network.

    Args:
        network: The architecture, built, on the CPU; left in the mode it was in.
        architecture: The architecture.
        data: The data set.
        what: How errors name the network.

    Raises:
        DataError: It has others; both are named.
    """
    mode = network.training
    with torch.no_grad():
        answer: Any = network.eval()(torch.zeros(1, *architecture.input_shape))
    network.train(mode)
    classes = answer.shape[-1] if isinstance(answer, Tensor) else data.classes
    if (architecture.input_shape, classes) != (data.input_shape, data.classes):
        raise DataError(
            "a data set must have the network's input and classes, but "
            f"{what} takes {_size(architecture.input_shape)} and tells {classes} classes, "
            f"{data.name} has {_size(data.input_shape)} and {data.classes}"
        )


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
