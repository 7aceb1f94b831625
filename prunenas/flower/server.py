"""The server's side of the Flower app: ``prunenas.flower.server:app``."""

from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from prunenas.errors import PrunenasError
from prunenas.federated import History, RoundReport
from prunenas.federated.ending import ended, validated
from prunenas.flower.exchange import LOG, Exchange
from prunenas.flower.outcome import CHECKPOINT, OUTCOME, Outcome, Wire, write_trouble
from prunenas.flower.request import Place, Request
from prunenas.flower.roster import Roster
from prunenas.flower.strategy import FederatedStrategy
from prunenas.training.sealed import read_checkpoint, write_checkpoint

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, and leave the outcome in the folder that the run config names."""
    torch.set_num_threads(1)  # as in one process: figures depend on how sums are split
    request = Request.of(context.run_config)
    folder = Path(request.output)
    (folder / OUTCOME).unlink(missing_ok=True)
    try:
        Training(Exchange(grid), request).to_the_end()
    except PrunenasError as error:
        write_trouble(folder, str(error))
        raise


class Training:
    """The server's rounds, from the checkpoint of an earlier run where there is one.

    Args:
        exchange: Reaches the clients.
        request: What to do.
    """

    def __init__(self, exchange: Exchange, request: Request) -> None:
        # Trusted: whoever starts a SuperLink's server app decides what it runs.
        place = Place(request, trusted=True)
        self._setting = place.setting
        self._identity = place.digest
        self._folder = Path(request.output)
        self._wait = request.wait
        self._network = self._setting.network()
        self._server = self._setting.server()
        self._history = History()
        self._wire: list[Wire] = []
        clients = self._setting.federation.clients
        self._roster = Roster(exchange, clients, self._identity, request.timeout)
        self._exchange = exchange
        self._strategy = FederatedStrategy(
            self._server, self._roster, exchange, request.timeout, self._note
        )
        self._timeout = request.timeout

    def to_the_end(self) -> Outcome:
        """Do all rounds that are left, and write the outcome.

        Raises:
            FederatedError: Clients are missing, or a round had no quorum; what was reached is
                kept, and the next run goes on there.
        """
        self._resume()
        self._roster.wait(self._wait)
        left = self._setting.federation.rounds - self._server.round
        if left:
            self._strategy.prune()
            self._strategy.start(
                grid=self._exchange,
                initial_arrays=ArrayRecord(),
                num_rounds=left,
                timeout=self._timeout,
                evaluate_fn=self._after,
            )
        outcome = Outcome(ended(self._server, self._history), tuple(self._wire))
        outcome.write(self._folder, self._identity)
        (self._folder / CHECKPOINT).unlink(missing_ok=True)
        return outcome

    def _note(self, report: RoundReport, wire: tuple[int, int]) -> None:
        self._history.reports.append(report)
        self._wire.append(Wire(report.round, *wire))

    def _after(self, server_round: int, _: ArrayRecord) -> MetricRecord | None:
        """What Flower does after each round, and before the first: validate, and keep."""
        metrics = None
        if server_round and self._setting.federation.evaluates_after(self._server.round):
            point = validated(self._server, self._network, self._setting, self._history)
            self._history.points.append(point)
            metrics = MetricRecord({"accuracy": point.accuracy, "loss": point.loss})
        self._keep()
        return metrics

    def _keep(self) -> None:
        """Write a checkpoint, unless clients hold sums that a new run would not have."""
        if not self._server.settled:
            return
        values = {
            "server": self._server.state(),
            "history": self._history.to_dict(),
            "wire": [vars(each) for each in self._wire],
        }
        write_checkpoint(self._folder / CHECKPOINT, values, identity=self._identity)

    def _resume(self) -> None:
        values = read_checkpoint(self._folder / CHECKPOINT, identity=self._identity)
        if values is None:
            return
        self._server.load(values["server"])
        self._history = History.from_dict(values["history"])
        self._wire = [Wire(**each) for each in values["wire"]]
        LOG.info("Going on after round %s", self._server.round)
