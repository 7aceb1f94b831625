"""One training of an export, from its start to what is written of it.

The test split is read here and nowhere else, once, after the last epoch.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from prunenas.architecture import build
from prunenas.cache import Cache
from prunenas.errors import ExportError
from prunenas.export import (
    CONFIG_FILE,
    ExportConfig,
    data_name,
    examine,
    read_config,
    update_export,
    write_export,
)
from prunenas.places import HOME
from prunenas.retraining.plan import Plan, check_fit
from prunenas.tracking import SafeTraining, TrainingTracker
from prunenas.training import EpochMetrics, evaluate, point, train
from prunenas.version import versions

KIND = "retraining"  # of the locks and checkpoints


@dataclass(frozen=True)
class Watcher:
    """Who hears of a training.

    Attributes:
        begun: Told once before the first epoch, and whether earlier ones are taken up again.
        epoch: Told of each epoch; of those before an interruption again, first.
        warn: Told of trouble that does not end the training, one line each.
    """

    begun: Callable[[bool], None]
    epoch: Callable[[EpochMetrics], None]
    warn: Callable[[str], None]


def retrain(
    folder: Path,
    plan: Plan,
    watcher: Watcher,
    *,
    provenance: Mapping[str, Any] | None = None,
    tracking: str | None = None,
    trust: bool = False,
    replace: bool = False,
    home: Path = HOME,
) -> dict[str, Any]:
    """Train an export's architecture from scratch, and write weights and figures into the export.

    Interrupted at any point, the same call goes on at the last finished epoch and ends with the
    same weights. A training that the export has already is not repeated.

    Args:
        folder: The export; written before the training where there is none.
        plan: What is trained, on what, how.
        watcher: Told how it goes.
        provenance: Where the architecture comes from, for an export that is written.
        tracking: MLflow's tracking URI; None takes what ``mlflow.yml`` says.
        trust: Whether the network's source may be a module of the user's.
        replace: Whether weights that the export has give way, those of the same training too.
        home: Folder for checkpoints.

    Returns:
        What the export says of its training: ``test`` and ``validation`` (``accuracy``, ``n``; None
        of a split without images), ``epochs``, ``curve``, ``seconds`` and all that decided them.

    Raises:
        ExportError: The folder has another architecture, or weights of another training, or can't
            be written.
        DataError: The data set does not fit the network.
        TrainingError: The training can't go on, with its reason.
    """
    examine(plan.architecture, trust=trust)  # before the training, not when it is written
    network = build(plan.architecture, seed=plan.seed, trust=trust)
    check_fit(network, plan.architecture, plan.data, str(folder))
    with Cache(home / "cache").lock(KIND, plan.key):
        config = _export(folder, plan, provenance or {}, replace)
        checkpoint = home / "checkpoints" / KIND / f"{plan.key}.pt"
        resumed = checkpoint.exists()
        tracker = SafeTraining(TrainingTracker(tracking, experiment=plan.experiment), watcher.warn)
        training = finished(config, plan)
        if training is not None and not replace:
            _opened(plan, folder, tracker, anew=False)
            _ended(plan, folder, tracker, training)
            return training
        refuse_other_weights(folder, config, replace)
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        watcher.begun(resumed)
        _opened(plan, folder, tracker, anew=replace and not resumed)
        try:
            training = _trained(network, plan, watcher, tracker, checkpoint)
            # Again: another process may have trained this export with another seed meanwhile.
            refuse_other_weights(folder, read_config(folder), replace)
            update_export(folder, weights=_on_cpu(network), training=training)
        except BaseException as error:
            tracker.close("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise
        checkpoint.unlink(missing_ok=True)
        _ended(plan, folder, tracker, training)
    return training


def finished(config: ExportConfig, plan: Plan) -> dict[str, Any] | None:
    """Return what an export says of this very training; None where it has not been done."""
    training = config.training
    if training is None or training.get("key") != plan.key or config.weights_sha256 is None:
        return None
    return dict(training)


def refuse_other_weights(folder: Path, config: ExportConfig, replace: bool) -> None:
    """Say that an export has weights which a training would overwrite.

    Raises:
        ExportError: It has, and they are not to give way.
    """
    if config.weights_sha256 is not None and not replace:
        told = config.training
        origin = f" trained on {data_name(told)} with seed {told['seed']}" if told else ""
        raise ExportError(
            f"{folder}: has other weights already{origin}; "
            "--replace overwrites them, --out FOLDER leaves them"
        )


def _export(folder: Path, plan: Plan, provenance: Mapping[str, Any], replace: bool) -> ExportConfig:
    """The export of the plan's architecture, made where there is none."""
    if folder.exists():
        config = read_config(folder)
        if config.architecture == plan.architecture:
            return config
        if not replace:
            raise ExportError(
                f"{folder}: holds another architecture, {config.architecture.source} of "
                f"{config.architecture.flops:,} FLOPs; choose another folder, or replace it "
                "(--replace)"
            )
    write_export(
        folder,
        plan.architecture,
        dense_flops=plan.dense_flops,
        provenance=provenance,
        replace=replace,
    )
    return read_config(folder)


def _trained(
    network: nn.Module, plan: Plan, watcher: Watcher, tracker: SafeTraining, checkpoint: Path
) -> dict[str, Any]:
    def report(metrics: EpochMetrics) -> None:
        watcher.epoch(metrics)
        tracker.epoch(_finite(metrics))

    done = train(
        network,
        plan.data,
        plan.recipe,
        epochs=plan.epochs,
        seed=plan.seed,
        device=plan.device,
        report=report,
        checkpoint=checkpoint,
        keep_end=True,
    )
    test = None
    if len(plan.data.test):
        measured = evaluate(
            network,
            plan.data.test,
            device=plan.device,
            precision=plan.recipe.precision,
            memory_format=plan.recipe.memory_format,
        )
        test = {"accuracy": measured.accuracy, "n": len(plan.data.test)}
    validation = None
    if len(plan.data.validation):
        validation = {"accuracy": done.validation.accuracy, "n": len(plan.data.validation)}
    return {
        "data": plan.data.name,
        "data_digest": plan.data.digest,
        "recipe": plan.recipe.model_dump(mode="json"),
        "protocol": plan.recipe.protocol,
        "epochs": plan.epochs,
        "seed": plan.seed,
        "device": plan.device.type,
        "train_images": len(plan.data.train),
        "mean": list(plan.data.mean),
        "std": list(plan.data.std),
        "validation": validation,
        "test": test,
        "curve": [_finite(metrics) for metrics in done.curve],
        "seconds": round(done.seconds, 3),
        "versions": versions(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "key": plan.key,
    }


def _opened(plan: Plan, folder: Path, tracker: SafeTraining, *, anew: bool) -> None:
    place = str(folder.absolute())
    tags: dict[str, Any] = {"prunenas.version": versions()}
    tracker.open(
        f"train {folder.name}",
        identity=Cache.key(training=plan.key, folder=place),
        parameters={
            "model": {"name": plan.architecture.source, "arguments": plan.architecture.arguments},
            "architecture": plan.architecture.digest,
            "flops_ratio": plan.flops_ratio,
            "data": {"name": plan.data.name, "digest": plan.data.digest},
            "train": plan.recipe.model_dump(mode="json", exclude={"epochs"}),
            "epochs": plan.epochs,
            "seed": plan.seed,
            "device": plan.device.type,
        },
        tags={**tags, "prunenas.architecture": plan.architecture.digest},
        anew=anew,
    )


def _ended(plan: Plan, folder: Path, tracker: SafeTraining, training: Mapping[str, Any]) -> None:
    figures = {
        "flops": plan.architecture.flops,
        "flops_ratio": plan.flops_ratio,
        "params": plan.architecture.params,
    }
    if plan.architecture.masks:
        figures["density"] = plan.architecture.density
    tracker.finish(training, figures, {CONFIG_FILE: (folder / CONFIG_FILE).read_bytes()})


def _finite(metrics: EpochMetrics) -> dict[str, float]:
    return {name: value for name, value in point(metrics).items() if math.isfinite(value)}


def _on_cpu(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in network.state_dict().items()}
