"""ThiNet.

Luo, Wu, Lin, "ThiNet: A Filter Level Pruning Method for Deep Neural Network Compression", ICCV
2017, section 3. Predefined: how many channels each layer keeps is given; the criterion says which,
from what the *next* layer makes of them, so nothing is trained before the weights are asked for.

Layer by layer, front to back, in the network pruned so far: at sampled positions (an image, a
place, an output channel) the next layer's output without its bias is a sum ``y = sum_c x_c`` over
the channels it reads. Channels are taken away greedily: each step adds the one to the set T of
those that go that leaves the least ``sum (sum_{c in T} x_c)^2``. Then the next layer's weights that
read a kept channel c are multiplied by ``w_c``, the least squares of ``y`` on the kept ``x``. With
``finetune_epochs`` the network is trained after each layer, as the paper does for one or two
epochs.

All of it follows from ``X'X`` (C x C for C channels), to which batches of samples are added: a
greedy step costs C operations and not C x M for M samples, and memory doesn't grow with M.

Differs from the paper: a group that several layers read (a residual stream, features that are
concatenated) goes by the sum of their errors, and each of them has factors of its own; the paper
leaves such layers whole (name them in `whole` to have it so). The other branch of an addition or
concatenation is no part of the error. Channels that a grouped layer cuts into blocks go in equal
numbers from each. Channel selections keep the channels their architecture names. Where samples
don't decide on factors, those nearest to 1 are taken. Fine-tuning is off by default; its learning
rate is ours (the paper's is not confirmed).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from prunenas.architecture import ChannelGroup
from prunenas.errors import MethodError
from prunenas.methods._base import Derivation, Inheritance, Method, share_kept
from prunenas.methods._front_to_back import finetune, front_to_back
from prunenas.methods._least_squares import refit
from prunenas.methods._reading import Reader, readers, watched
from prunenas.methods._sampling import MEMORY, Gigabytes, Sample, batch_size, draw, in_bytes
from prunenas.methods.dense import Dense


@final
class ThiNet(Method):
    """Each group keeps the channels from which the next layer's output can be rebuilt best."""

    kind: ClassVar[Literal["predefined", "automatic"]] = "predefined"
    takes_ratios: ClassVar[bool] = True
    granularity: ClassVar[Literal["channel", "block"]] = "channel"
    source: ClassVar[str] = (
        "Luo et al. 2017, ThiNet: A Filter Level Pruning Method for Deep Neural Network "
        "Compression, ICCV"
    )

    images_per_class: int = Field(
        10,
        ge=1,
        description="Training images of each class that are looked at. The paper's is 10.",
        json_schema_extra={"search": {"low": 5, "high": 50}},
    )
    positions: int = Field(
        10,
        ge=1,
        description="Outputs of the next layer that are looked at in each image; the paper's: 10.",
        json_schema_extra={"search": {"low": 5, "high": 50}},
    )
    finetune_epochs: int = Field(
        0,
        ge=0,
        description="Epochs of training after each group that is cut; the paper's are 1 or 2.",
        json_schema_extra={"search": {"low": 0, "high": 2}},
    )
    finetune_lr: float = Field(
        1e-3,
        gt=0,
        description="Learning rate of that training, constant.",
        json_schema_extra={"search": {"low": 1e-4, "high": 1e-2, "log": True}},
    )
    memory: Gigabytes = MEMORY / 1e9

    def derive(
        self,
        dense: Dense,
        *,
        ratios: Mapping[str, float] | None = None,
        flops: int | None = None,
        fixed: Collection[str] = (),
        seed: int = 0,
    ) -> Derivation:
        """Keep the given share of each group, scaled onto the budget; see `Method.derive`.

        Without ratios all groups keep the same share: all, or what the budget allows.
        """
        asked: float | Mapping[str, float] = 1.0 if ratios is None else ratios
        architecture = self.proportioned(dense.space, asked, flops=flops, fixed=fixed)

        def inherit() -> Inheritance:
            sample = self._sample(dense, seed)
            random = torch.Generator().manual_seed(seed)

            def cut(
                network: nn.Module, group: ChannelGroup, width: int, given: Tensor | None
            ) -> Tensor:
                reading = readers(dense.space, group, network)
                grams = sampled_grams(network, reading, sample, self.positions, random)
                total = torch.stack(grams).sum(dim=0) if grams else _nothing(group)
                kept = given if given is not None else keep(total, width, group.divisor)
                for reader, gram in zip(reading, grams, strict=True):
                    factors = torch.zeros(group.width, dtype=gram.dtype, device=gram.device)
                    factors[kept] = rescaling(gram, kept)
                    reader.scale(factors)
                return kept

            def after(network: nn.Module, kept: Mapping[str, Tensor]) -> None:
                recipe = dense.recipe.model_copy(
                    update={
                        "epochs": self.finetune_epochs,
                        "lr": self.finetune_lr,
                        "schedule": "constant",
                        "warmup_epochs": 0,
                    }
                )
                finetune(dense, network, kept, recipe, seed)

            return front_to_back(
                dense,
                architecture,
                cut,
                after if self.finetune_epochs else None,
                random=random,
                key={"method": "thinet", **self.model_dump(exclude={"whole"}), "seed": seed},
                what="thinet",
            )

        return Derivation(
            architecture,
            notes={"channels_kept": share_kept(architecture, dense.space.dense)},
            inherit=inherit,
        )

    def _sample(self, dense: Dense, seed: int) -> Sample:
        count = self.images_per_class * dense.data.classes
        return Sample(dense.data.train, count, self.images_per_class, seed, in_bytes(self.memory))


def sampled_grams(
    network: nn.Module,
    reading: Sequence[Reader],
    sample: Sample,
    positions: int,
    random: torch.Generator,
) -> list[Tensor]:
    """Return ``X'X`` of each reader, float64 of shape (C, C): a row of X is one sampled output.

    Raises:
        MethodError: They don't fit half of the sample's memory.
    """
    if not reading:
        return []
    need = sum(8 * reader.channels**2 for reader in reading)
    if need > sample.memory // 2:
        raise MethodError(
            f"ThiNet's sums over samples must fit half of its memory, "
            f"{sample.memory // 2:,} bytes, but {len(reading)} layers read "
            f"{reading[0].channels} channels, which takes {need:,}"
        )
    grams: dict[str, Tensor] = {}

    def see(reader: Reader, inputs: Tensor, output: Tensor) -> None:
        shape = (len(inputs), positions)
        places = draw(reader.places(output), shape, random, inputs)
        outputs = draw(reader.outputs, shape, random, inputs)
        rows = contributions(reader, inputs, output, places, outputs)
        zero = rows.new_zeros(reader.channels, reader.channels)
        grams.setdefault(reader.name, zero).addmm_(rows.T, rows)

    size = batch_size(network, next(sample.batches(1)), reading, positions, sample.memory)
    with torch.no_grad(), watched(reading, see):
        for images in sample.batches(size):
            network(images)
    zero = torch.zeros((), dtype=torch.float64)
    return [
        grams[reader.name]
        if reader.name in grams
        else zero.expand(reader.channels, reader.channels).clone()
        for reader in reading
    ]


def contributions(
    reader: Reader, inputs: Tensor, output: Tensor, places: Tensor, outputs: Tensor
) -> Tensor:
    """Return what each channel adds to sampled outputs: float64 of shape (N * P, C).

    Args:
        reader: A layer that reads the channels.
        inputs: Its input for N images.
        output: Its output for them.
        places: (N, P), see `Reader.places`.
        outputs: (N, P), which output channel at each place.
    """
    columns = reader.columns(inputs, output, places)
    rows: Tensor = (columns * reader.weight()[outputs]).sum(dim=3)
    return rows.flatten(0, 1).double()


def keep(gram: Tensor, width: int, divisor: int = 1) -> Tensor:
    """Return the channels that greedy removal leaves, sorted, int64 of shape ``(width,)``.

    Args:
        gram: ``X'X``, shape (C, C).
        width: Channels to keep, a multiple of ``divisor``.
        divisor: Equal blocks of channels that lose as many each. Of equals the last go first.
    """
    channels = len(gram)
    block = channels // divisor
    left = [block - width // divisor] * divisor  # how many each block still has to lose
    # Of T + c the error is that of T, plus these: twice what c shares with T, and c's own.
    rise = gram.diagonal().clone()
    gone = torch.zeros(channels, dtype=torch.bool, device=gram.device)
    barred = gone.clone()
    for _ in range(channels - width):
        candidates = rise.masked_fill(barred, torch.inf).flip(0)
        channel = channels - 1 - int(candidates.argmin())
        gone[channel] = barred[channel] = True
        rise += 2 * gram[channel]
        left[channel // block] -= 1
        if not left[channel // block]:
            start = channel // block * block
            barred[start : start + block] = True
    return (~gone).nonzero().flatten().cpu()


def rescaling(gram: Tensor, kept: Tensor) -> Tensor:
    """Return the factors of the kept channels, float64 of shape ``(len(kept),)``.

    They minimise ``|y - X[:, kept] w|`` for ``y = X.sum(1)``; nearest to 1 where many do.
    """
    whole = gram.sum(dim=1, keepdim=True)
    return refit(gram, whole, torch.ones_like(whole), kept).flatten()


def _nothing(group: ChannelGroup) -> Tensor:
    """No layer with weights reads the group: all choices are as good."""
    return torch.zeros(group.width, group.width, dtype=torch.float64)
