"""Small studies for the search tests: real digits, tiny networks, a second a trial."""

from pathlib import Path
from typing import Any

import tracked

from prunenas.search import StudyView
from prunenas.search.events import Event, TrialEpoch

NOWHERE = "http://127.0.0.1:9"
"""A tracking server that isn't there, for studies whose tracking nobody looks at: it takes a small
study half of its time."""

TEXT = """\
name: tiny
model: {{name: vgg_mini}}
data: {{name: digits, train_limit: 200}}
methods:
{methods}
objective: {objective}
train: {{epochs: {epochs}, batch_size: 50, lr: {lr}, augment: false}}
search: {{sampler: {sampler}, trials: {trials}, seed: 3{more}}}
"""

L1 = "  - {name: l1_norm, space: {widths: {per: group, ratio: {low: 0.25, high: 1.0, step: 0.25}}}}"
SLIMMING = "  - {name: network_slimming, space: {method: {keep: {low: 0.3, high: 0.8}}}}"


def write_study(
    folder: Path,
    *,
    methods: str = L1,
    objective: str = "{maximize: accuracy, minimize: flops}",
    epochs: int = 2,
    lr: float = 0.05,
    sampler: str = "tpe",
    trials: int = 4,
    more: str = "",
    repeats: int = 0,
) -> Path:
    """Write a study file, beside a database for MLflow; its path.

    ``more`` follows in the file's section ``search``.
    """
    database = folder / "mlflow.db"
    if not database.exists():
        database.write_bytes(tracked.fresh_database())
    path = folder / "tiny.yaml"
    path.write_text(
        TEXT.format(
            methods=methods,
            objective=objective,
            epochs=epochs,
            lr=lr,
            sampler=sampler,
            trials=trials,
            more=more + (f", repeats: {repeats}" if repeats else ""),
        )
    )
    return path


def figures(view: StudyView) -> list[dict[str, Any]]:
    """Records without what the clock decides."""
    return [
        {k: v for k, v in r.to_dict().items() if k not in ("started", "finished", "seconds")}
        for r in view.records
    ]


def results(view: StudyView) -> list[dict[str, Any]]:
    """Figures without whose training they come from, which of several workers was first."""
    return [{key: v for key, v in row.items() if key != "reused"} for row in figures(view)]


class Stop:
    """Interrupts as Ctrl-C does, at one moment of a study."""

    def __init__(self, trial: int, epoch: int) -> None:
        self.trial, self.epoch = trial, epoch

    def __call__(self, event: Event) -> None:
        if isinstance(event, TrialEpoch) and (event.number, event.epoch) == (
            self.trial,
            self.epoch,
        ):
            raise KeyboardInterrupt
