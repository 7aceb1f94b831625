"""Studies that were never run: records by a formula, for pages and pictures of any size."""

import math
from typing import Any

from prunenas.methods import METHODS
from prunenas.search import StudyView
from prunenas.trial import Candidate, Record, blank_record

GROUPS = {"conv1": 16, "conv2": 32, "conv3": 64}
DENSE = 1_000_000


def record(number: int, *, method: str = "l1_norm", epochs: int = 8, **changes: Any) -> Record:
    """One trial; wider is more accurate, by a formula."""
    ratios = {name: 0.2 + 0.8 * ((number * (k + 3)) % 17) / 17 for k, name in enumerate(GROUPS)}
    share = math.prod(ratios.values())
    accuracy = 0.6 + 0.35 * share**0.3
    blank = blank_record(
        Candidate(
            number=number,
            study="made",
            method_name=method,
            method=METHODS[method](),
            parameters={f"{method}/ratio/{name}": value for name, value in ratios.items()},
            ratios=ratios,
            flops=None,
            seeds={"training": 0, "method": 0},
        )
    )
    values = {
        **blank.to_dict(),
        "state": "complete",
        "ratios": ratios,
        "architecture": {"widths": {}},
        "digest": f"{number:016x}",
        "accuracy": accuracy,
        "flops": int(share * DENSE),
        "flops_ratio": share,
        "params": int(share * 50_000),
        "epochs": epochs,
        "curve": [
            {
                "epoch": epoch,
                "train_loss": 1.0 / epoch,
                "train_accuracy": accuracy * (1 - 0.5**epoch),
                "validation_loss": 1.0 / epoch,
                "validation_accuracy": accuracy * (1 - 0.5**epoch),
                "lr": 0.1,
            }
            for epoch in range(1, epochs + 1)
        ],
        **changes,
    }
    return Record.from_dict(values)


def view(records: list[Record], **changes: Any) -> StudyView:
    """A study of these trials, with accuracy against FLOPs."""
    from prunenas.search.front import front_of

    given: dict[str, Any] = {
        "name": "made",
        "text": "name: made\n",
        "objective": {"maximize": "accuracy", "minimize": "flops"},
        "directions": ("maximize", "minimize"),
        "trials_total": len(records),
        "records": tuple(records),
        "counts": {"complete": len(records)},
        "front": tuple(front_of(records, ("flops",))),
        "dense_flops": DENSE,
        "dense_params": 50_000,
        "dense_accuracy": 0.93,
        "dense_widths": GROUPS,
        "finished": True,
        "storage": "sqlite:///made.db",
        "identity": "made",
        "settings": {
            "model": {"name": "vgg_mini"},
            "data": {"name": "digits"},
            "train": {"epochs": 8, "protocol": "scratch_e", "scratch_b_cap": None},
            "search": {"seed": 0},
        },
        **changes,
    }
    return StudyView(**given)
