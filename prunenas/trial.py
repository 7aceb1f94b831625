"""One candidate, from proposal to record.

A :class:`Record` is everything that is kept of a trial: it lives in the study's storage, MLflow is
a projection of it, and the command line shows it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from torch import Tensor, nn

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
from prunenas.methods import Dense, Method
from prunenas.training import EpochMetrics, point, scratch_epochs
from prunenas.training.shared import Job, Trainings
from prunenas.version import versions

State = Literal["complete", "failed", "infeasible", "stopped", "paused"]


@dataclass(frozen=True)
class Record:
    """What is kept of one trial; plain values only, so that it round-trips through JSON.

    Attributes:
        number: The trial's number within its study, from 0.
        study: The study's name.
        method: The pruning method's name.
        parameters: What Optuna proposed, by name.
        ratios: The share of channels kept for each group, each in (0, 1].
        state: ``complete`` (trained to the end), ``stopped`` (training ended early on purpose),
            ``infeasible`` (told at once, never trained), ``failed``, or ``paused`` (it may go on;
            no finished trial is).
        reason: Why the trial is not complete; ``None`` when it is, or is paused.
        architecture: :meth:`prunenas.Architecture.to_dict`; ``None`` when none was derived.
        digest: The architecture's digest.
        accuracy: Share in [0, 1] on the validation split after the last epoch.
        flops: Fused multiply-adds for one input.
        flops_ratio: ``flops`` as a share of the dense network's.
        params: Number of trainable parameters.
        epochs: Epochs of the training that the figures come from.
        seconds: Wall time of the whole trial.
        curve: One mapping for each epoch: ``epoch``, ``train_loss``, ``train_accuracy``,
            ``validation_loss``, ``validation_accuracy``, ``lr``.
        notes: The method's own figures, such as the threshold it found.
        seeds: Every seed the trial used, by purpose.
        versions: Versions of prunenas, Python and the libraries that decide figures.
        started: ISO 8601 time with zone.
        finished: ISO 8601 time with zone.
        reused: Whose training the figures come from, ``trial 3`` or ``STUDY/3``; None if the trial
            was trained itself.
        start: What the proposal is called, where it is one of the study's starts and not the
            sampler's.
    """

    number: int
    study: str
    method: str
    parameters: dict[str, Any]
    ratios: dict[str, float]
    state: State
    reason: str | None
    architecture: dict[str, Any] | None
    digest: str | None
    accuracy: float | None
    flops: int | None
    flops_ratio: float | None
    params: int | None
    epochs: int
    seconds: float
    curve: list[dict[str, float]]
    notes: dict[str, Any]
    seeds: dict[str, int]
    versions: dict[str, str]
    started: str
    finished: str
    reused: str | None = None
    start: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON values; a copy that shares nothing with the record."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote.

        Raises:
            StudyError: A field is missing or unknown, as in a record of another version.
        """
        names = {field.name for field in fields(cls)}
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        if missing := sorted(needed - values.keys()):
            raise StudyError(f"a trial's record must have {', '.join(missing)}")
        if strange := sorted(values.keys() - names):
            raise StudyError(f"a trial's record has unknown fields: {', '.join(strange)}")
        return cls(**values)


@dataclass(frozen=True)
class Candidate:
    """What is proposed for one trial.

    Attributes:
        number: The trial's number within its study, from 0.
        study: The study's name.
        method_name: The method's name in the study.
        method: The method with its hyperparameters.
        parameters: What Optuna proposed, by name.
        ratios: The share kept of each channel group, where the method follows given ratios; of
            each layer's weights, where it follows given densities.
        flops: A budget that the architecture must meet; None where the study has none.
        seeds: Seeds by purpose; ``training`` and ``method`` are used here.
        start: See :class:`Record`.
        fixed: Groups or layers whose ratio is not searched and holds under a budget too.
    """

    number: int
    study: str
    method_name: str
    method: Method
    parameters: Mapping[str, Any]
    ratios: Mapping[str, float] | None
    flops: int | None
    seeds: Mapping[str, int]
    start: str | None = None
    fixed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Outcome:
    """A trial's record, and the weights it ended with; None unless it is complete."""

    record: Record
    weights: dict[str, Tensor] | None


def run_trial(
    candidate: Candidate,
    dense: Dense,
    *,
    derived: Callable[[Architecture, int], None] | None = None,
    report: Callable[[EpochMetrics], bool | str | None] | None = None,
    checkpoint: Path | None = None,
    trainings: Trainings | None = None,
) -> Outcome:
    """Derive an architecture, count it, train it from scratch, and write down what came of it.

    Whatever goes wrong with this candidate alone ends in the record with its reason: non-finite
    loss, a dead network, an exhausted memory, a budget no widths meet.

    Args:
        candidate: What was proposed.
        dense: The dense network, its data, recipe and device.
        derived: Told of the architecture and its epochs before training begins.
        report: Told of each epoch; its answer may be "stop".
        checkpoint: Where the training is kept and taken up again, see ``training.train``; one that
            is shared has a checkpoint of its own.
        trainings: Where trainings are shared with other trials; None trains this one anew.

    Raises:
        DataError: The data can't be read, which every other trial would meet too.
        StudyError: Nor can the file system: it is full, or gone.
    """
    clock = time.monotonic()
    blank = blank_record(candidate)

    def ended(record: Record, **changes: Any) -> Record:
        return replace(
            record, seconds=round(time.monotonic() - clock, 3), finished=_now(), **changes
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
        epochs = scratch_epochs(
            dense.recipe.protocol,
            dense.recipe.epochs,
            dense_flops=dense.space.dense.flops,
            flops=architecture.flops,
            cap=dense.recipe.scratch_b_cap,
        )
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
        )
        if derived is not None:
            derived(architecture, epochs)
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
    )


def blank_record(candidate: Candidate) -> Record:
    """The record of a trial of which nothing is known yet: failed, if it stays like this."""
    now = _now()
    return Record(
        number=candidate.number,
        study=candidate.study,
        method=candidate.method_name,
        parameters=dict(candidate.parameters),
        ratios={},
        state="failed",
        reason=None,
        architecture=None,
        digest=None,
        accuracy=None,
        flops=None,
        flops_ratio=None,
        params=None,
        epochs=0,
        seconds=0.0,
        curve=[],
        notes={},
        seeds=dict(candidate.seeds),
        versions=versions(),
        started=now,
        finished=now,
        start=candidate.start,
    )


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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
