"""Records of a study that never ran: for tests of what is drawn and written from records."""

from datetime import UTC, datetime, timedelta
from typing import Any

DENSE_WIDTHS = {"features.0": 16, "features.3": 32, "features.7": 64, "features.10": 64}
DENSE = {"flops": 3_137_000, "params": 60_858, "accuracy": 0.981}
BEGIN = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)


def record(
    number: int,
    accuracy: float | None,
    flops_ratio: float | None,
    *,
    method: str = "l1_norm",
    state: str = "complete",
    reason: str | None = None,
    epochs: int = 4,
    widths: dict[str, int] | None = None,
) -> dict[str, Any]:
    """What ``Record.to_dict`` gives, with curves that rise to ``accuracy``."""
    started = BEGIN + timedelta(seconds=20 * number)
    architecture = None
    if flops_ratio is not None:
        share = flops_ratio**0.5
        widths = widths or {name: max(1, round(w * share)) for name, w in DENSE_WIDTHS.items()}
        architecture = {"source": "vgg_mini", "arguments": {}, "widths": widths}
    curve = []
    if accuracy is not None:
        for epoch in range(1, epochs + 1):
            short = 0.5**epoch
            curve.append(
                {
                    "epoch": epoch,
                    "train_loss": 2.3 * short,
                    "train_accuracy": accuracy * (1 - 0.8 * short),
                    "validation_loss": 2.3 * short + 0.05,
                    "validation_accuracy": accuracy * (1 - 0.9 * short * (epoch < epochs)),
                    "lr": 0.1 if epoch <= epochs // 2 else 0.01,
                }
            )
    return {
        "number": number,
        "study": "quickstart",
        "method": method,
        "parameters": {f"ratio.{name}": 0.5 for name in DENSE_WIDTHS},
        "ratios": dict.fromkeys(DENSE_WIDTHS, 0.5),
        "state": state,
        "reason": reason,
        "architecture": architecture,
        "digest": None if architecture is None else f"{number:016x}",
        "accuracy": accuracy,
        "flops": None if flops_ratio is None else round(DENSE["flops"] * flops_ratio),
        "flops_ratio": flops_ratio,
        "params": None if flops_ratio is None else round(DENSE["params"] * flops_ratio),
        "epochs": len(curve),
        "seconds": 12.5,
        "curve": curve,
        "seeds": {"split": 0, "initialisation": number},
        "versions": {"prunenas": "0.1.0", "torch": "2.15.0"},
        "started": started.isoformat(),
        "finished": (started + timedelta(seconds=12.5)).isoformat(),
    }


def study() -> list[dict[str, Any]]:
    """Five trials: four complete by two methods, one failed."""
    return [
        record(0, 0.962, 0.31),
        record(1, 0.975, 0.62, method="network_slimming"),
        record(2, None, 0.45, state="failed", reason="non-finite loss"),
        record(3, 0.941, 0.12),
        record(4, 0.950, 0.55),
    ]


def front(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records that no other is better than, by brute force, by ascending FLOPs."""
    done = [each for each in records if each["state"] == "complete"]
    kept = [
        one
        for one in done
        if not any(
            other["accuracy"] >= one["accuracy"]
            and other["flops"] <= one["flops"]
            and (other["accuracy"], other["flops"]) != (one["accuracy"], one["flops"])
            for other in done
        )
    ]
    return sorted(kept, key=lambda each: int(each["flops"]))
