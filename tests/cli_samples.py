"""Hand-made records and studies for the tests of the command line."""

from typing import Any

from prunenas.search.view import StudyView
from prunenas.trial import Record

DENSE_FLOPS = 3_725_952
ARCHITECTURE = {"source": "vgg_mini"}  # what tables never look into
MASKED = {  # 30 of 100 weights
    "source": "vgg_mini",
    "masks": {
        "a.weight": {
            "granularity": "weight",
            "shape": [10, 8],
            "uses": 4,
            "kept": 20,
            "digest": "0" * 16,
        },
        "b.weight": {
            "granularity": "filter",
            "shape": [2, 10],
            "uses": 1,
            "kept": 1,
            "digest": "1" * 16,
        },
    },
}


def record(number: int, **changes: Any) -> Record:
    """Return a complete trial; ``changes`` replace its fields."""
    ratio = changes.get("flops_ratio", 0.5)
    values: dict[str, Any] = {
        "number": number,
        "study": "demo",
        "method": "l1_norm",
        "parameters": {"ratio": 0.5},
        "ratios": {"features.0": 0.5},
        "state": "complete",
        "reason": None,
        "architecture": ARCHITECTURE,
        "digest": f"{number:016x}",
        "accuracy": 0.9,
        "flops": None if ratio is None else round(ratio * DENSE_FLOPS),
        "flops_ratio": ratio,
        "params": 30_000,
        "epochs": 4,
        "seconds": 8.0,
        "curve": [],
        "notes": {},
        "seeds": {"weights": 0},
        "versions": {"prunenas": "0.1.0"},
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:00:08+00:00",
    }
    return Record(**{**values, **changes})


def infeasible(number: int) -> Record:
    """Return a trial that was told at once."""
    nothing = dict.fromkeys(
        ("accuracy", "flops", "flops_ratio", "params", "digest", "architecture")
    )
    return record(
        number,
        state="infeasible",
        reason="no widths meet\nthe budget",
        epochs=0,
        seconds=0.0,
        **nothing,
    )


def view(*records: Record, front: tuple[Record, ...] = (), **changes: Any) -> StudyView:
    """Return a study of 16 trials with these records."""
    counts: dict[str, int] = {}
    for each in records:
        counts[each.state] = counts.get(each.state, 0) + 1
    values: dict[str, Any] = {
        "name": "demo",
        "text": "name: demo\n",
        "objective": {"maximize": "accuracy", "minimize": "flops"},
        "directions": ("maximize", "minimize"),
        "trials_total": 16,
        "records": records,
        "counts": counts,
        "front": front,
        "dense_flops": DENSE_FLOPS,
        "dense_params": 61_050,
        "dense_accuracy": 0.975,
        "dense_widths": {"features.0": 16},
        "finished": False,
        "storage": "sqlite:///demo.db",
        "identity": "0123456789abcdef",
        "settings": {},
    }
    return StudyView(**{**values, **changes})
