"""``prunenas export``: architectures out of a study, into folders of their own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunenas.cli.options import Device, Json, Storage, StudyName, Tracking, trial_option
from prunenas.errors import DataError
from prunenas.places import STUDIES

if TYPE_CHECKING:
    from prunenas.architecture import Architecture
    from prunenas.data import Data
    from prunenas.search import StudyView
    from prunenas.trial import Record


def export(
    study: StudyName,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="The folder that exports are written into.", show_default=False
        ),
    ],
    trials: Annotated[
        list[int] | None,
        trial_option("This trial's architecture, into OUT/trial_NUMBER. Repeatable."),
    ] = None,
    flops_ratio: Annotated[
        float | None,
        typer.Option(
            "--flops-ratio",
            metavar="SHARE",
            help="The most accurate one within this share of the dense FLOPs, into OUT/best_SHARE.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="The whole front, each into OUT/trial_NUMBER.")
    ] = False,
    weights: Annotated[
        bool, typer.Option("--weights", help="Trained weights too, as model.safetensors.")
    ] = False,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="The weights as onnx (ONNX) or pt2 (torch.export) too. Repeatable.",
            show_default=False,
        ),
    ] = None,
    register: Annotated[
        str | None,
        typer.Option(
            "--register",
            metavar="NAME",
            help="Make it a new version of this model in MLflow's registry.",
            show_default=False,
        ),
    ] = None,
    alias: Annotated[
        str | None,
        typer.Option(
            "--alias",
            metavar="ALIAS",
            help="What the registered version is called from now on.",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite exports that are there already.")
    ] = False,
    storage: Storage = STUDIES,
    tracking: Tracking = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Export the best architectures of a study, ready to load.

    Without a choice it is the most accurate one, into OUT/best: by the mean of fresh seeds where
    the study has repeats. An export loads with prunenas.load(FOLDER), in any process and without
    the study, or with its own modeling.py, without prunenas. It is checked in a fresh process as it
    is written. Trained weights are those the study kept of its front; where there are none, they
    are trained again.

    \b
    prunenas export quickstart exports
    prunenas export quickstart exports --flops-ratio 0.3 --weights
    prunenas export quickstart exports --weights --format onnx --register digits --alias best
    prunenas export quickstart exports --all
    """
    from prunenas.cli import console, units
    from prunenas.cli.choice import accuracy, choose
    from prunenas.export import Verifier, check_format, write_export
    from prunenas.search import open_study, trained_weights, whole_architecture

    if sum((bool(trials), flops_ratio is not None, everything)) > 1:
        raise typer.BadParameter("only one of --trial, --flops-ratio and --all makes the choice")
    if flops_ratio is not None and not 0 < flops_ratio <= 1:
        raise typer.BadParameter(
            f"must be in (0, 1], but is {flops_ratio}", param_hint="'--flops-ratio'"
        )
    if formats and not weights:
        raise typer.BadParameter("a format holds weights: add --weights", param_hint="'--format'")
    if alias is not None and register is None:
        raise typer.BadParameter("an alias is of a registered model: add --register NAME")
    for name in formats or ():
        check_format(name)
    view = open_study(storage, study)
    chosen = choose(view, trials or (), flops_ratio, everything)
    if alias is not None and len(chosen) > 1:
        raise typer.BadParameter(f"an alias means one version, but {len(chosen)} are exported")
    data = _data(view)
    written: list[dict[str, Any]] = []
    with Verifier() as verifier:
        for name, record in chosen:
            architecture = whole_architecture(view, record)
            folder = write_export(
                out / name,
                architecture,
                dense_flops=view.dense_flops,
                provenance=provenance(view, record, data),
                weights=trained_weights(view, record, device=device) if weights else None,
                training=_training(view, record, data) if weights and data else None,
                formats=formats or (),
                picture=_picture(view, record, architecture),
                replace=replace,
                verifier=verifier,
            )
            entry: dict[str, Any] = {
                "folder": str(folder),
                "trial": record.number,
                "digest": record.digest,
            }
            line = (
                f"{folder}: trial {record.number}, accuracy {accuracy(view, record)}, "
                f"{units.share(record.flops_ratio)} of dense FLOPs"
            )
            if architecture.masks:
                entry["density"] = architecture.density
                line += f", density {units.share(architecture.density)}"
            if register is not None:
                version = _register(folder, register, view, record, alias, tracking)
                entry["registered"] = version
                line += f", registered as {version}"
            written.append(entry)
            if not json:
                typer.echo(line)
    if json:
        console.show_json(written)


def _picture(view: "StudyView", record: "Record", architecture: "Architecture") -> bytes:
    from prunenas.architecture import weights_kept
    from prunenas.pictures import densities_picture, widths_picture

    title = f"trial {record.number}"
    if architecture.masks:
        return densities_picture(weights_kept(architecture.to_dict()), title=title)
    # Groups that a removed branch took along have no width any more.
    widths = {**dict.fromkeys(view.dense_widths, 0), **architecture.widths}
    return widths_picture(widths, view.dense_widths, title=title)


def provenance(view: "StudyView", record: "Record", data: "Data | None") -> dict[str, Any]:
    """Return where an architecture comes from, for its config.

    ``data`` is what it was trained on, where that is here: it knows the number of images, and the
    pixels' mean and standard deviation.
    """
    known: dict[str, Any] = {}
    repeats = next(
        (
            {key: row[key] for key in ("mean", "standard_error", "n", "seeds", "accuracies")}
            for row in (each.to_dict() for each in view.repeats if each.record == record)
            if row["n"]
        ),
        None,
    )
    if data is not None:
        known = {
            "images": {"train": len(data.train), "validation": len(data.validation)},
            "mean": list(data.mean),
            "std": list(data.std),
            "crop_pct": 1.0,  # the small sets are seen whole, at their own size
        }
    if data is not None and data.name == "image_folder":
        known |= {"crop_pct": 224 / 256, "interpolation": "bilinear"}
    return {
        "study": view.name,
        "trial": record.number,
        "method": record.method,
        "parameters": record.parameters,
        "ratios": record.ratios,
        "notes": record.notes,
        "accuracy": record.accuracy,
        "split": "validation",
        **({} if repeats is None else {"repeats": repeats}),
        "data": view.settings["data"]["name"],
        **known,
        "epochs": record.epochs,
        "seeds": record.seeds,
        "versions": record.versions,
        "finished": record.finished,
    }


def _training(view: "StudyView", record: "Record", data: "Data") -> dict[str, Any]:
    """How the weights that a study kept were trained."""
    recipe = view.settings["train"]
    return {
        "data": view.settings["data"],
        "recipe": recipe,
        "protocol": recipe["protocol"],
        "seed": record.seeds["training"],
        "epochs": record.epochs,
        "train_images": len(data.train),
        "validation": {"accuracy": record.accuracy, "n": len(data.validation)},
        "test": None,  # read once, for a network that is trained to be reported
        "versions": record.versions,
        "finished": record.finished,
    }


def _data(view: "StudyView") -> "Data | None":
    """What the study trained on, where it is here: numbers of images are not in its records."""
    from prunenas.data import load
    from prunenas.spec import DataSection

    try:
        return load(**DataSection.model_validate(view.settings["data"]).model_dump(), device="cpu")
    except DataError:
        return None


def _register(
    folder: Path,
    name: str,
    view: "StudyView",
    record: "Record",
    alias: str | None,
    tracking: str | None,
) -> str:
    from prunenas.architecture import density_of
    from prunenas.tracking import register

    figures = {
        "accuracy": record.accuracy,
        "flops": record.flops,
        "flops_ratio": record.flops_ratio,
        "params": record.params,
        "density": density_of(record.architecture),
    }
    version = register(
        folder,
        name,
        experiment=f"{view.settings['model']['name']} on {view.settings['data']['name']}",
        params={"method": record.method, "hyperparameters": record.parameters},
        metrics={name: value for name, value in figures.items() if value is not None},
        tags={
            "prunenas.study": view.name,
            "prunenas.trial": record.number,
            "prunenas.digest": record.digest,
        },
        alias=alias,
        identity=view.identity,
        uri=tracking,
    )
    return f"{name} version {version.version}" + (f" ({alias})" if alias else "")
