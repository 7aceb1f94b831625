"""One candidate, from proposal to record."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from prunenas.architecture import Architecture, build, count_flops, drop, masked
from prunenas.errors import (
    BudgetError,
    DataError,
    PrunenasError,
    StudyError,
    TraceError,
    TrainingError,
    refuse_to_hide_ctrl_c,
)
from prunenas.federated import round_seconds, time_model
from prunenas.latency import Latency, activations_of
from prunenas.methods import Dense
from prunenas.training import EpochMetrics, point
from prunenas.training.shared import Job, Trainings
from prunenas.trial.federated import federated_way
from prunenas.trial.record import Candidate, Outcome, Record, blank_record, now


def run_trial(
    candidate: Candidate,
    dense: Dense,
    *,
    derived: Callable[[Architecture, Record, int], None] | None = None,
    report: Callable[[EpochMetrics], bool | str | None] | None = None,
    checkpoint: Path | None = None,
    trainings: Trainings | None = None,
    measure: Callable[[Architecture], Latency] | None = None,
) -> Outcome:
    """Derive an architecture, count it, train it from scratch, and write down what came of it.

    Whatever goes wrong with this candidate alone ends in the record with its reason: non-finite
    loss, a dead network, an exhausted memory, a budget no widths meet.

    Args:
        candidate: What was proposed.
        dense: The dense network, its data, recipe and device.
        derived: Told of the architecture, its record so far and its epochs before training begins.
        report: Told of each epoch; its answer may be "stop".
        checkpoint: Where the training is kept and taken up again, see ``training.train``; one that
            is shared has a checkpoint of its own.
        trainings: Where trainings are shared with other trials; None trains this one anew.
        measure: Measures its latency; needed where the candidate has a limit to it.

    Raises:
        DataError: The data can't be read, which every other trial would meet too.
        StudyError: Nor can the file system: it is full, or gone.
    """
    clock = time.monotonic()
    blank = blank_record(candidate)

    def ended(record: Record, **changes: Any) -> Record:
        return replace(
            record, seconds=round(time.monotonic() - clock, 3), finished=now(), **changes
        )

    record, curve = blank, list[dict[str, float]]()
    try:
        derivation = candidate.method.derive(
            dense,
            ratios=candidate.ratios,
            flops=candidate.flops,
            fixed=candidate.fixed,
            seed=candidate.seeds["method"],
        )
        architecture = derivation.architecture
        epochs = dense.epochs_for(architecture.flops)
        widths = dense.space.dense.widths
        record = replace(
            blank,
            ratios={group: width / widths[group] for group, width in architecture.widths.items()},
            architecture=architecture.to_dict(),
            digest=architecture.digest,
            flops=architecture.flops,
            flops_ratio=architecture.flops / dense.space.dense.flops,
            params=architecture.params,
            notes=dict(derivation.notes),
            peak_activations=activations_of(architecture),
            round_seconds=_round_seconds(architecture, dense),
        )
        latency = measure(architecture) if measure is not None else None
        if latency is not None:
            record = replace(record, latency=latency.to_dict())
            if candidate.latency_ms is not None and latency.median > candidate.latency_ms:
                raise BudgetError(
                    f"takes {latency.median:.3g} ms, more than latency_ms: "
                    f"{candidate.latency_ms:g} ({latency.protocol})"
                )
        if derived is not None:
            derived(architecture, record, epochs)
        seed = candidate.seeds["training"]

        def tell(metrics: EpochMetrics) -> bool | str | None:
            curve.append(point(metrics))
            return report(metrics) if report is not None else None

        job = job_of(architecture, dense, epochs=epochs, seed=seed)
        shared = (trainings or Trainings()).train(
            job, trial=candidate.number, report=tell, checkpoint=checkpoint
        )
        training = shared.training
    except BudgetError as error:
        return Outcome(ended(record, state="infeasible", reason=str(error)), None)
    except TrainingError as error:
        return Outcome(ended(record, reason=error.reason, curve=curve, epochs=len(curve)), None)
    except (DataError, OSError) as error:
        raise halted(f"trial {candidate.number}", error) from error
    except PrunenasError as error:
        return Outcome(ended(record, reason=str(error)), None)
    except Exception as error:  # a candidate's own trouble must not end the study
        refuse_to_hide_ctrl_c(error)
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return Outcome(ended(record, reason=reason, curve=curve, epochs=len(curve)), None)
    record = ended(
        record,
        state="stopped" if training.stopped else "complete",
        reason=f"stopped after epoch {len(training.curve)} of {epochs}"
        if training.stopped
        else None,
        accuracy=training.validation.accuracy,
        epochs=len(training.curve),
        curve=[point(metrics) for metrics in training.curve],
        reused=shared.by,
    )
    return Outcome(record, shared.weights)


def job_of(architecture: Architecture, dense: Dense, *, epochs: int, seed: int) -> Job:
    """Return the training of an architecture, from the weights that the recipe says.

    Args:
        architecture: With its masks.
        dense: The dense network; its data, recipe and device are the training's.
        epochs: Length of the training.
        seed: Of fresh weights, batch order, augmentation and dropout.
    """
    recipe = dense.recipe
    epoch = recipe.rewind_epochs if recipe.initial == "rewound" else 0
    initial = None if recipe.initial == "fresh" else {"dense": dense.key(None), "epoch": epoch}
    way = None
    if recipe.protocol == "federated":
        way = federated_way(
            architecture, dense, seed=seed, check=lambda: _counted(architecture, seed)
        )

    def make() -> nn.Module:
        network = _counted(architecture, seed)
        if initial is not None:
            network.load_state_dict(dense.weights_at(epoch))
            drop(masked(network))
        return network

    return Job(
        architecture=architecture,
        make=make,
        data=dense.data,
        recipe=recipe,
        epochs=epochs,
        seed=seed,
        device=dense.device,
        initial=initial,
        way=way,
    )


def _round_seconds(architecture: Architecture, dense: Dense) -> float | None:
    """Modelled seconds of a round with an architecture; None without a federation."""
    if dense.federation is None:
        return None
    return round_seconds(architecture, time_model(dense.federation, dense.space))


def halted(what: str, error: DataError | OSError) -> DataError | StudyError:
    """What ends a study rather than a trial: trouble with data or files that all would have."""
    advice = "What is finished is kept; the same command goes on from there"
    if isinstance(error, DataError):
        return DataError(f"{what} can't go on: {error}. {advice}")
    where = f": {error.filename}" if error.filename else ""
    return StudyError(f"{what} can't go on: {error.strerror or error}{where}. {advice}")


def _counted(architecture: Architecture, seed: int) -> nn.Module:
    """The network with fresh weights, once fvcore agrees with the architecture's FLOPs."""
    # Trusted: tracing this space has already run the source's code.
    network = build(architecture, seed=seed, trust=True)
    counted = count_flops(network, architecture.input_shape)
    if counted != architecture.whole_flops:
        raise TraceError(f"fvcore counts {counted:,} FLOPs, not {architecture.whole_flops:,}")
    return network
