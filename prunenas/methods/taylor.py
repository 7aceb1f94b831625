"""First-order Taylor importance.

Molchanov, Mallya, Tyree, Frosio, Kautz, "Importance Estimation for Neural Network Pruning", CVPR
2019, section 3. Automatic: the dense network is trained as usual, and one threshold is set over the
scores of all its channels.

A channel's score is what the loss changes, to first order and squared, when the channel goes: with
a gate z = 1 on the channel, ``(dE/dz)^2``, E the cross-entropy of one batch of training images, and
the mean of that over a sample of batches. No gate is built: it would scale the inputs that other
layers read the channel from, so ``dE/dz = sum g * w`` over the weights w that read it in all
layers, with their gradients g. Behind ReLU, that is the paper's gate before it, for ReLU(z x) =
z ReLU(x). A residual stream's gate is shared by all layers that read it, as the paper sums
contributions.

``keep`` is the share of all ranked channels that stay. With a FLOPs budget the threshold is
bisected instead, and what it leaves of the budget is used up by the strongest channels that fit.

Differs from the paper: all channels are scored and cut at once, where the paper cuts some, trains
on and scores again. Normalisation works by its running statistics (eval mode), so that nothing in
the network changes. A group never loses its last channel; channels that a grouped layer cuts into
blocks go one from each. Groups that no convolution or linear layer reads stay whole. The paper's
section and its rule for streams are given from memory.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.backends import cudnn
from torch.nn import functional

from prunenas.architecture import Space
from prunenas.methods._base import Derivation, Inheritance, Method, refuse_ratios, share_kept
from prunenas.methods._ranking import ranked_channels, ranked_widths
from prunenas.methods._steps import Step, last_step
from prunenas.methods._weights import columns
from prunenas.methods.dense import Dense
from prunenas.training.health import within_memory
from prunenas.training.outputs import logits_of


@final
class Taylor(Method):
    """Channels whose removal changes the loss least, to first order, go, wherever they are."""

    kind: ClassVar[Literal["predefined", "automatic"]] = "automatic"
    takes_ratios: ClassVar[bool] = False
    granularity: ClassVar[Literal["channel", "block"]] = "channel"
    source: ClassVar[str] = (
        "Molchanov et al. 2019, Importance Estimation for Neural Network Pruning, CVPR"
    )

    keep: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of the network's channels to keep; a FLOPs budget takes its place.",
        json_schema_extra={"search": {"low": 0.1, "high": 0.9}, "replaced_by_budget": True},
    )
    batches: int = Field(
        30,
        ge=1,
        description="Batches of training images to score by, of the recipe's size; at most all.",
        json_schema_extra={"search": {"low": 10, "high": 100}},
    )

    def derive(
        self,
        dense: Dense,
        *,
        ratios: Mapping[str, float] | None = None,
        flops: int | None = None,
        fixed: Collection[str] = (),
        seed: int = 0,
    ) -> Derivation:
        """Train, score all channels, set the threshold; see `Method.derive`.

        The seed draws the batches.
        """
        del fixed  # no ratios are given
        refuse_ratios("taylor", ratios)
        space = dense.space
        held = self.held(space)
        trained = dense.train()
        network = dense.network()
        network.load_state_dict(trained.state)
        batches = dense.data.train.batches(dense.recipe.batch_size, seed=seed)

        def steps(begun: Step | None) -> Iterator[Step]:
            done = 0 if begun is None else begun.done
            totals = {} if begun is None else dict(begun.tensors)
            total = min(self.batches, math.ceil(len(dense.data.train) / dense.recipe.batch_size))
            network.to(dense.device)
            for batch in islice(batches, done, self.batches):
                for name, score in gate_importance(space, network, [batch]).items():
                    totals[name] = totals[name] + score if name in totals else score
                done += 1
                yield Step(done, max(total, done), totals)

        last = within_memory(
            lambda: last_step(
                dense,
                steps,
                key={"method": "taylor", "batches": self.batches, "seed": seed},
                what="taylor",
            ),
            torch.device(dense.device),
        )
        every = {name: total / last.done for name, total in last.tensors.items()}
        scores = {name: score for name, score in every.items() if name not in held}
        threshold, widths = ranked_widths(space, scores, keep=self.keep, flops=flops)
        kept = ranked_channels(space, scores, widths)
        architecture = space.architecture(widths=widths, kept=kept)
        return Derivation(
            architecture,
            notes={
                "threshold": threshold,
                "channels_kept": share_kept(architecture, space.dense),
                "dense_accuracy": trained.validation.accuracy,
                "groups_unread": [g.name for g in space.groups if g.name not in every],
            },
            inherit=lambda: Inheritance(kept, space.inherit(trained.state, kept)),
        )


def gate_importance(
    space: Space, network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """Return the mean over batches of each channel's squared gate gradient.

    Args:
        space: Of the network.
        network: The trained dense network, on the device it is to run on; put into eval mode, else
            left as it is.
        batches: Images ``(N, C, H, W)`` and labels ``(N,)``; at least one.

    Returns:
        float64 of shape ``(group width,)`` for each free group that a layer reads, on the CPU.
    """
    device = next(network.parameters()).device
    network.eval()
    totals = {
        group.name: torch.zeros(group.width, dtype=torch.float64, device=device)
        for group in space.groups
        if space.consumers(group.name)
    }
    read = [group for group in space.groups if group.name in totals]
    count = 0
    # Convolutions that sum in the same order every time: equal seeds, equal scores.
    with cudnn.flags(enabled=True, deterministic=True):
        for images, labels in batches:
            network.zero_grad()
            logits, _ = logits_of(network(images.to(device)), images=len(labels))
            loss = functional.cross_entropy(logits, labels.to(device))
            loss.backward()  # type: ignore[no-untyped-call]
            for group in read:
                gate = torch.zeros_like(totals[group.name])
                for products in columns(space, group, network, gradients=True):
                    gate += products.sum(dim=1, dtype=torch.float64)
                totals[group.name] += gate.square()
            count += 1
    network.zero_grad()
    return {name: (total / count).cpu() for name, total in totals.items()}
