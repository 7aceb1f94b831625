"""What a method works out besides training: step by step, and never twice.

The outcome is kept in the dense network's cache, under everything it depends on. So is where the
work stands after a step, as soon as writing that is cheap beside the work it saves: whoever is
stopped, or killed, loses a small part and goes on from there.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from prunenas.methods.dense import Dense

KIND = "derivation"  # of the cache's entries

PATIENCE = 2.0  # seconds of work before the first writing
SHARE = 50  # seconds of work for each second of writing


@dataclass(frozen=True)
class Step:
    """Where the work stands; all that the next step needs.

    Attributes:
        done: Steps done.
        total: Steps in all, as far as is known.
        tensors: By name.
        values: JSON values.
        accuracy: What was reached, in [0, 1], where it was measured.
    """

    done: int
    total: int
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    accuracy: float | None = None


def last_step(
    dense: Dense,
    steps: Callable[[Step | None], Iterator[Step]],
    *,
    key: Mapping[str, Any],
    what: str,
) -> Step:
    """Return the last step of some work: done now, or kept from before.

    Args:
        dense: What the work is about, and whose cache and progress are used.
        steps: Given a step, yields those after it; given ``None``, all of them, one at least.
        key: JSON values that the outcome depends on besides the dense network: the method, its
            hyperparameters, seeds.
        what: The work's name, in reports.
    """
    cache, name = dense.cache, dense.key(key)
    with cache.lock(KIND, name):
        entry = cache.get(KIND, name)
        if entry is not None:
            return _read(entry.tensors, entry.meta)
        paused = cache.paused(KIND, name)
        begun = None if paused is None else _read(paused.tensors, paused.meta)
        about = f"{what} of {dense.space.dense.source} on {dense.data.name}"
        written, pause = time.monotonic(), PATIENCE
        for step in steps(begun):
            now = time.monotonic()
            if now - written >= pause and step.done < step.total:
                cache.pause(KIND, name, step.tensors, _meta(step, about))
                written = time.monotonic()
                pause = max(PATIENCE, SHARE * (written - now))
            if dense.progress is not None and step.done:
                dense.progress(what, step.done, step.total, step.accuracy)
        cache.keep(KIND, name, step.tensors, _meta(step, about))
        cache.resume(KIND, name)
        return step


def _meta(step: Step, about: str) -> dict[str, Any]:
    return {
        "about": about,
        "done": step.done,
        "total": step.total,
        "values": dict(step.values),
        "accuracy": step.accuracy,
    }


def _read(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Step:
    return Step(meta["done"], meta["total"], dict(tensors), meta["values"], meta["accuracy"])
