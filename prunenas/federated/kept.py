"""Federated trainings that nobody does twice: kept under everything they depend on."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from prunenas.cache import Cache
from prunenas.federated.history import FederatedRun, History
from prunenas.federated.packing import Packing
from prunenas.federated.run import Watch, federate, identity
from prunenas.federated.setting import Setting
from prunenas.federated.state import prunable_weights
from prunenas.training.causes import own_code, users_code, versions

KIND = "federated"  # of the cache's entries
_ROOMS = ("architecture", "data", "models", "training", "federated")


def kept_run(
    setting: Setting,
    cache: Cache,
    *,
    watch: Watch = lambda point: None,
    rounds: Callable[[int], None] = lambda done: None,
) -> FederatedRun:
    """Train as `federate` does, or read what came of the same training before.

    Whoever needs a training that another process works on waits for it; one that was interrupted
    is taken up at its checkpoint. One that ``watch`` ends early is not kept, but its checkpoint is.

    Args:
        setting: All that decides what comes of it.
        cache: Where results are kept.
        watch: As for `federate`; told of a training that is read as well.
        rounds: As for `federate`.

    Raises:
        FederatedError, DataError, TrainingError: It can't begin, or can't go on.
    """
    key = run_key(setting)
    with cache.lock(KIND, key):
        entry = cache.get(KIND, key)
        if entry is not None:
            run = _read(entry.tensors, entry.meta, setting)
            stop = next((p.round for p in run.history.points if watch(p)), None)
            rounds(setting.federation.rounds)
            return run if stop is None else _cut(run, stop)
        checkpoint = cache.unfinished(KIND, key)
        run = federate(setting, watch=watch, rounds=rounds, checkpoint=checkpoint)
        if not run.stopped:
            cache.keep(KIND, key, _tensors(run), _meta(run, setting))
            checkpoint.unlink(missing_ok=True)
        return run


def run_key(setting: Setting) -> str:
    """Return what a training is kept under: its identity, and the code that decides figures."""
    source = setting.architecture.source
    return Cache.key(
        identity=identity(setting),
        code=own_code(_ROOMS),
        versions=versions(source),
        source=users_code(source),
    )


def _tensors(run: FederatedRun) -> dict[str, Tensor]:
    bits = Packing.of(run.masks).bits()
    return {
        **{f"mask:{name}": row for name, row in bits.items()},
        **{f"weight:{name}": value for name, value in run.weights.items()},
    }


def _meta(run: FederatedRun, setting: Setting) -> dict[str, Any]:
    return {
        "about": f"{type(setting.strategy).__name__} on {setting.architecture.source}, "
        f"{setting.federation.rounds} rounds of {setting.federation.clients} clients, "
        f"{setting.data.name}, seed {setting.seed}",
        "history": run.history.to_dict(),
        "mask_digest": run.mask_digest,
    }


def _read(tensors: Mapping[str, Tensor], meta: Mapping[str, Any], setting: Setting) -> FederatedRun:
    bits = {n.removeprefix("mask:"): t for n, t in tensors.items() if n.startswith("mask:")}
    prunable = prunable_weights(setting.network(), setting.time)
    shapes = {name: weight.shape for name, weight in prunable.items()}
    packing = Packing.from_bits(bits, shapes)
    weights = {n.removeprefix("weight:"): t for n, t in tensors.items() if n.startswith("weight:")}
    history = History.from_dict(meta["history"])
    return FederatedRun(history, packing.digest, dict(packing.masks), weights)


def _cut(run: FederatedRun, stop: int) -> FederatedRun:
    """The part of a run up to where it would have ended; its weights are the whole one's."""
    history = History(
        [report for report in run.history.reports if report.round <= stop],
        [point for point in run.history.points if point.round <= stop],
    )
    return FederatedRun(history, run.mask_digest, run.masks, run.weights, stopped=True)
