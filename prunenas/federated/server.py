"""The server: tells tasks, checks and averages updates, lets the strategy change the masks.

It holds all weights, dropped ones with the values that they had when they went, and knows nothing
of how messages travel. The same updates give the same weights and masks, whatever order they come
in and wherever the clients are.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from prunenas.data import generator
from prunenas.errors import FederatedError
from prunenas.federated.federation import Federation
from prunenas.federated.history import RoundReport
from prunenas.federated.importance import Importance
from prunenas.federated.messages import Task, Update, nbytes
from prunenas.federated.packing import Packing
from prunenas.federated.refusals import norm, outliers, refusal, root
from prunenas.federated.state import masks_on, prunable_weights, travelling
from prunenas.federated.strategies import Moment, Strategy
from prunenas.federated.time import TimeModel


class Server:
    """The server of one federated training.

    Args:
        network: Fresh, on the device that the server computes on; masks on its layers hold for all
            strategies that don't find their own.
        strategy: Decides the masks.
        federation: The settings.
        time: What a round takes.
        seed: Of the choice of clients, and of the strategy.
    """

    def __init__(
        self,
        network: nn.Module,
        strategy: Strategy,
        federation: Federation,
        time: TimeModel,
        seed: int,
    ) -> None:
        self.strategy = strategy
        self.federation = federation
        self.time = time
        self.seed = seed
        self.round = 0
        self._weights = {
            name: value.detach().clone() for name, value in travelling(network).items()
        }
        self._prunable = tuple(prunable_weights(network, time))
        prunable = {name: self._weights[name] for name in self._prunable}
        self._importance = Importance(n for n, p in network.named_parameters() if p.requires_grad)
        masks = masks_on(network, self._prunable)
        self.packing = Packing.of(strategy.first_masks(prunable, masks, seed))
        self._pruned_initially = strategy.initial_pruning is None
        self._norm: float | None = None  # the median of the last round's
        self._begin_round()

    @property
    def finished(self) -> bool:
        """Whether all rounds are done."""
        return self.round >= self.federation.rounds

    @property
    def settled(self) -> bool:
        """Whether clients hold nothing that later rounds depend on: a good moment to stop."""
        return not self.strategy.accumulates or self._importance.since == self.round + 1

    @property
    def masks(self) -> dict[str, Tensor]:
        """The masks of all prunable weights, bool, on the CPU."""
        return dict(self.packing.masks)

    def network_state(self) -> dict[str, Tensor]:
        """Return the network's weights and buffers as clients have them, dropped weights at 0."""
        state = {name: value.clone() for name, value in self._weights.items()}
        for name in self._prunable:
            mask = self.packing.masks[name].to(state[name].device)
            state[name].masked_fill_(~mask, 0.0)
        return state

    def pruner(self) -> int | None:
        """Return the client that is asked for initial pruning; None where that is done."""
        initial = self.strategy.initial_pruning
        return None if self._pruned_initially or initial is None else initial.client

    def chosen(self) -> tuple[int, ...]:
        """Return the clients of the next round, ascending."""
        everyone, wanted = self.federation.clients, self.federation.per_round
        if wanted == everyone:
            return tuple(range(everyone))
        random = generator("participants", self.seed, self.round + 1)
        return tuple(sorted(torch.randperm(everyone, generator=random)[:wanted].tolist()))

    def task(self, client: int) -> Task:
        """Return what a client is to do in the next round, or for initial pruning."""
        number = 0 if self.pruner() is not None else self.round + 1
        accumulates = self.strategy.accumulates and number > 0
        task = Task(
            round=number,
            lr=self.federation.lr_in(max(1, number)),
            weights=self._packed,
            mask_digest=self.packing.digest,
            masks=None if client in self._holders else self._bits,
            accumulate=accumulates,
            since=self._importance.since,
            upload=accumulates and self._reconfigures(number),
        )
        self._told[client] = task
        self._sent += nbytes(task)
        return task

    def lost_masks(self, client: int) -> None:
        """Note that a client has no masks, and no sums, so that its next task brings them."""
        self._holders.discard(client)
        self._importance.lost(client)

    def refusal(self, update: Update) -> str | None:
        """Return why an update can't be used, one line that names the client; None if it can."""
        most = self.federation.updates * self.federation.batch_size
        initial = self.strategy.initial_pruning
        if update.round == 0 and initial is not None:
            most = initial.passes * initial.batches * self.federation.batch_size
        return refusal(
            update,
            self._told.get(update.client),
            packing=self.packing,
            shapes={name: value.shape for name, value in self._weights.items()},
            most=most,
        )

    def begin(self, update: Update) -> RoundReport:
        """Take the answer to initial pruning.

        Raises:
            FederatedError: It can't be used.
        """
        if why := self.refusal(update):
            raise FederatedError(why)
        # At most: as if nothing were pruned until its end.
        steps = update.examples / self.federation.batch_size
        each = self.time.update_seconds(self.packing.counts(), self.federation.updates)
        report = self._report([update], {}, {}, reconfigured=True, seconds=steps * each)
        shapes = {name: self._weights[name].shape for name in self._prunable}
        packing = Packing.from_bits(update.masks or {}, shapes)
        for name, change in update.changes.items():
            packing.add(name, change.to(self._weights[name].device), self._weights[name], 1.0)
        self.packing, self._pruned_initially = packing, True
        self._begin_round(holders={update.client})
        return report

    def finish(
        self, updates: Sequence[Update], failed: Mapping[int, str] | None = None
    ) -> RoundReport:
        """Average updates, change the masks where it is time, and go on to the next round.

        Args:
            updates: Of the round's clients, in any order.
            failed: Why others gave none, by their numbers.

        Raises:
            FederatedError: Fewer clients than the quorum gave an update that can be used.
        """
        failed = dict(failed or {})
        used, refused, usual = self._usable(updates)
        if len(used) < self.federation.needed:
            troubles = [*refused.values(), *(f"client {c}: {w}" for c, w in failed.items())]
            raise FederatedError(
                f"round {self.round + 1} needs updates of {self.federation.needed} clients, but "
                f"has {len(used)}: {'; '.join(troubles) or 'none came'}"
            )
        number, self._norm = self.round + 1, usual
        if self.strategy.accumulates:
            self._importance.add(used, self.packing, self._told[used[0].client].lr, self._weights)
        change = self._averaged(used)
        reconfigures = self._reconfigures(number)
        report = self._report(used, failed, refused, reconfigured=reconfigures)
        self.round = number
        holders = {*self._holders, *(update.client for update in used)} - {*failed, *refused}
        before = self.packing.digest
        if reconfigures:
            self._reconfigure(change)
            self._importance.begin(number + 1)
        self._begin_round(holders if self.packing.digest == before else set())
        return report

    def state(self) -> dict[str, Any]:
        """Return all that a server of the same arguments goes on from, for ``torch.save``."""
        return {
            "round": self.round,
            "weights": dict(self._weights),
            "masks": self.packing.bits(),
            "pruned_initially": self._pruned_initially,
            "importance": self._importance.state(),
            "holders": sorted(self._holders),
            "norm": self._norm,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` returned."""
        self.round = state["round"]
        self._pruned_initially, self._norm = state["pruned_initially"], state["norm"]
        for name, value in self._weights.items():
            value.copy_(state["weights"][name])
        shapes = {name: self._weights[name].shape for name in self._prunable}
        self.packing = Packing.from_bits(state["masks"], shapes)
        self._importance.load(state["importance"], self._weights)
        self._begin_round(set(state["holders"]))

    def _begin_round(self, holders: set[int] | None = None) -> None:
        self._holders = holders or set()
        self._told: dict[int, Task] = {}
        self._sent = 0
        self._bits = self.packing.bits()
        self._packed = {
            name: self.packing.pack(name, value).cpu() for name, value in self._weights.items()
        }

    def _reconfigures(self, number: int) -> bool:
        return self.strategy.reconfigures_after(number, self.federation.rounds)

    def _usable(self, updates: Sequence[Update]) -> tuple[list[Update], dict[int, str], float]:
        """The updates that can be used, by client, why others can't, and their usual norm."""
        good: dict[int, Update] = {}
        refused: dict[int, str] = {}
        for update in sorted(updates, key=lambda each: each.client):
            why = self.refusal(update)
            if why is None and update.client in good:
                why = f"client {update.client}: answered twice"
            if why is None:
                good[update.client] = update
            else:
                refused[update.client] = why
        good = {client: update for client, update in good.items() if client not in refused}
        times = self.federation.norm_limit
        norms = {client: norm(update.changes.values()) for client, update in good.items()}
        refused |= outliers("the norm of its change", norms, times, self._norm)
        gradients = {c: root(u.squares.values()) for c, u in good.items() if u.squares is not None}
        refused |= outliers("the root of its squared gradients", gradients, times)
        used = [update for client, update in good.items() if client not in refused]
        return used, refused, median(norms[update.client] for update in used) if used else 0.0

    def _averaged(self, updates: Sequence[Update]) -> dict[str, Tensor]:
        """Add the mean change to the weights; what it is of prunable ones, where it is wanted."""
        total = sum(update.examples for update in updates)
        wanted = self._prunable if self._reconfigures(self.round + 1) else ()
        before = {name: self._weights[name].clone() for name in wanted}
        for name, weight in self._weights.items():
            for update in updates:
                change = update.changes[name].to(weight.device)
                self.packing.add(name, change, weight, update.examples / total)
        return {name: self._weights[name] - value for name, value in before.items()}

    def _reconfigure(self, change: Mapping[str, Tensor]) -> None:
        # On the CPU, wherever the server computes: strategies needn't know of devices.
        prunable = {name: self._weights[name].cpu() for name in self._prunable}
        squares = self._importance.squares
        masks = self.strategy.masks_after(
            Moment(
                round=self.round,
                rounds=self.federation.rounds,
                weights=prunable,
                change={name: each.cpu() for name, each in change.items()},
                lr=self.federation.lr_in(self.round),
                masks=self.packing.masks,
                squares={name: squares[name].cpu() for name in prunable if name in squares},
                others=self._importance.others(prunable),
                time=self.time,
            )
        )
        for name in prunable:
            weight = self._weights[name]
            back = (masks[name] & ~self.packing.masks[name]).to(weight.device)
            if bool(back.any()):
                weight[back] = self.strategy.regrown(weight[back])
        self.packing = Packing.of(masks)

    def _report(
        self,
        used: Sequence[Update],
        failed: Mapping[int, str],
        refused: Mapping[int, str],
        *,
        reconfigured: bool,
        seconds: float | None = None,
    ) -> RoundReport:
        kept = self.packing.counts()
        examples = sum(update.examples for update in used)
        if seconds is None:
            # A round takes as long as its slowest client; all are alike but for what is sent.
            besides = max(self._besides(update) for update in used)
            seconds = self.time.round_seconds(kept) + besides * self.time.seconds_per_byte
        return RoundReport(
            round=used[0].round,
            seconds=seconds,
            kept=kept,
            density=self.packing.density,
            sent=self._sent,
            received=sum(map(nbytes, used)),
            loss=sum(update.loss * update.examples for update in used) / examples,
            replied=tuple(update.client for update in used),
            failed=dict(failed),
            refused=dict(refused),
            reconfigured=reconfigured,
        )

    def _besides(self, update: Update) -> int:
        """Bytes that a client is sent or sends besides kept weights: masks, squared gradients."""
        task = self._told[update.client]
        parts = [*(task.masks or {}).values(), *(update.squares or {}).values()]
        return sum(part.numel() * part.element_size() for part in parts)
