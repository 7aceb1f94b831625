"""What a study's front is held against: fronts of other studies, and networks in export folders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prunenas.errors import StudyError
from prunenas.export import CONFIG_FILE, ExportConfig, data_name, read_config
from prunenas.search import open_study
from prunenas.search.view import StudyView
from prunenas.trial import Record

GUIDED = ("guided", "transferred guided")
"""Methods of exports that `prunenas guide` wrote; their series are called so."""


@dataclass(frozen=True)
class Baseline:
    """A trained network from elsewhere.

    Attributes:
        series: What its kind of mark means, for the legend.
        name: Which one it is.
        accuracy: In [0, 1].
        split: Which images that is of.
        flops: Fused multiply-adds for one input.
        params: Number of parameters.
        network: The dense network that it was cut from.
        own: Whether that is the study's dense network too, on inputs of the same size.
        widths: Channels by group.
        epochs: Of its training; None where it is not known.
        images: That it was trained on; None where it is not known.
    """

    series: str
    name: str
    accuracy: float
    split: Literal["validation", "test"]
    flops: int
    params: int
    network: str
    own: bool
    widths: Mapping[str, int]
    epochs: int | None = None
    images: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what pictures draw."""
        return {
            "series": self.series,
            "name": self.name,
            "accuracy": self.accuracy,
            "flops": self.flops,
        }


def baselines(view: StudyView, given: Sequence[str], *, storage: str) -> tuple[Baseline, ...]:
    """Read baselines of a study.

    Args:
        view: The study.
        given: Folders of exports, or names of studies, whose fronts are meant.
        storage: URL of the storage that these studies are in.

    Raises:
        ExportError: A folder is no export, or is damaged.
        StudyError: There is no such study; it is the study itself; it is about another data set; or
            a network has no accuracy yet.
    """
    found: list[Baseline] = []
    for what in dict.fromkeys(given):
        folder = Path(what)
        if folder.is_dir() or (folder / CONFIG_FILE).exists():
            found.append(_exported(view, what, read_config(folder)))
        else:
            found += _front(view, what, storage)
    return tuple(found)


def _front(view: StudyView, name: str, storage: str) -> list[Baseline]:
    try:
        other = open_study(storage, name)
    except StudyError as error:
        raise StudyError(f"{error}; or the folder of an export") from error
    if other.identity == view.identity:
        raise StudyError(f"a baseline of study {view.name!r} must be another one, but is {name!r}")
    _same_data(view, name, other.settings["data"])
    if not other.final_front:
        raise StudyError(f"study {name!r} has no front to compare with yet")
    model: Mapping[str, Any] = other.settings["model"]
    own = model == view.settings["model"] and other.dense_flops == view.dense_flops
    return [
        Baseline(
            series=f"study {name}",
            name=f"{name}, trial {record.number}, {record.method}",
            accuracy=record.accuracy or 0.0,
            split="validation",
            flops=record.flops or 0,
            params=record.params or 0,
            network=model["name"],
            own=own,
            widths=_widths(record),
            epochs=record.epochs,
        )
        for record in other.final_front
    ]


def _exported(view: StudyView, folder: str, config: ExportConfig) -> Baseline:
    about: Mapping[str, Any] = config.training or config.provenance
    accuracy, split = _measured(folder, config)
    _same_data(view, folder, about.get("data"))
    architecture = config.architecture
    dense = round(architecture.flops / config.flops_ratio)
    # A ratio is kept as a float: what it says of the dense network is exact but for its rounding.
    own = architecture.source == view.settings["model"]["name"] and (
        abs(dense - view.dense_flops) <= 1
    )
    method = config.provenance.get("method")
    return Baseline(
        series=method if method in GUIDED else f"export {Path(folder).name}",
        name=folder,
        accuracy=accuracy,
        split=split,
        flops=architecture.flops,
        params=architecture.params,
        network=architecture.source,
        own=own,
        widths=architecture.widths,
        epochs=about.get("epochs"),
        images=about.get("train_images"),
    )


def _measured(folder: str, config: ExportConfig) -> tuple[float, Literal["validation", "test"]]:
    """An export's accuracy on the validation split, or on the test split if only that is known."""
    training = config.training
    if training is not None:
        if training["validation"] is not None:
            return training["validation"]["accuracy"], "validation"
        if training["test"] is not None:
            return training["test"]["accuracy"], "test"
    accuracy = config.provenance.get("accuracy")
    if training is None and isinstance(accuracy, int | float):
        return float(accuracy), "validation"
    raise StudyError(
        f"a baseline must be trained, but {folder} has no accuracy: `prunenas train {folder}` "
        "gives it one"
    )


_BY_FOLDER = ("femnist", "image_folder")
"""Data sets that differ from folder to folder."""


def _same_data(view: StudyView, what: str, data: Any) -> None:
    """See that figures are of the same data set.

    Raises:
        StudyError: They are not; both are named.
    """
    own: Mapping[str, Any] = view.settings["data"]
    name = data_name({"data": data})
    root = data.get("root") if isinstance(data, Mapping) else own.get("root")
    folders = own["name"] == name in _BY_FOLDER and own.get("root") != root
    if own["name"] != name or folders:
        first, second = own["name"], name
        if folders:
            first, second = f"{first} {own.get('root')}", f"{second} {root}"
        raise StudyError(
            f"baselines must be of the study's data set, {first}, but {what} is of {second}"
        )


def _widths(record: Record) -> Mapping[str, int]:
    found: Mapping[str, int] = (record.architecture or {}).get("widths", {})
    return found
