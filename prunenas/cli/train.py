"""``prunenas train``: an architecture, trained for real, its weights into its export."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunenas.cli.options import Device, Json, Tracking, Trust, set_option, setting
from prunenas.cli.run import Interrupted
from prunenas.errors import ExportError, unknown

if TYPE_CHECKING:
    from prunenas.architecture import Architecture
    from prunenas.cli.epochs import Lines, Screen
    from prunenas.data import Data
    from prunenas.retraining import Plan


def train(
    what: Annotated[
        str,
        typer.Argument(
            metavar="EXPORT|ARCHITECTURE",
            help="The folder of an export, or an architecture of `prunenas list architectures`.",
            show_default=False,
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data", metavar="NAME", help="A data set of `prunenas list data`.", show_default=False
        ),
    ],
    root: Annotated[
        Path | None,
        typer.Option(
            "--root",
            metavar="FOLDER",
            help="Folder of the data set's files; data without it.",
            show_default=False,
        ),
    ] = None,
    download: Annotated[
        bool,
        typer.Option("--download", help="Download the data set's files where they are missing."),
    ] = False,
    validation: Annotated[
        float,
        typer.Option(
            "--validation",
            metavar="SHARE",
            help="Share of the training images held out; 0 trains on all of them.",
        ),
    ] = 0.2,
    recipe: Annotated[
        Path | None,
        typer.Option(
            "--recipe",
            metavar="FILE",
            help="How to train: a YAML file with the keys of a study's train, or a study.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        set_option("One key of the recipe, such as lr=0.05; VALUE is JSON or a word. Repeatable."),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            metavar="NUMBER",
            help="Epochs, of the dense network under scratch_b; the paper's, or 160, where nothing "
            "says otherwise.",
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            metavar="NAME",
            help="scratch_e: these epochs; scratch_b: as much computation as they cost the dense "
            "network.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option("--seed", metavar="NUMBER", min=0, help="Of weights, order and augmentation."),
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="The export to write; without it the one that is trained.",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite weights that are there already.")
    ] = False,
    tracking: Tracking = None,
    device: Device = "auto",
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Train an architecture for real; its export gets the weights.

    It starts from random weights, by the recipe that you say. The test split is read once, after
    the last epoch, and the accuracy on it is in the export too. A training that was interrupted
    keeps its finished epochs, one that was killed those of its last checkpoint: the same line goes
    on with it, and ends with the same weights. One that is finished is shown, not run again. An
    architecture of a paper needs --out.

    \b
    prunenas train exports/best --data mnist5k --epochs 30
    prunenas train exports/best --data mnist5k --recipe studies/quickstart.yaml --protocol scratch_b
    prunenas train resnet56-b --data cifar10 --download --set lr=0.05 --out exports/resnet56-b
    """
    from prunenas.cli import console
    from prunenas.retraining import Plan, Watcher, load_data, retrain
    from prunenas.search.workshop import device_named
    from prunenas.spec import load_recipe

    begun = _begun(what, out)
    overrides = _overrides(settings or [], epochs, protocol)
    how = load_recipe(recipe, overrides, defaults=begun.defaults)
    chosen = device_named(device)
    images = load_data(
        data,
        begun.input_shape,
        root=root,
        download=download,
        validation=validation,
        device=chosen,
    )
    architecture, dense_flops = begun.architecture(images)
    provenance = {**begun.provenance, "mean": list(images.mean), "std": list(images.std)}
    folder = out or Path(what)
    plan = Plan(architecture, dense_flops, images, how, seed, chosen)
    watcher = _watcher(plan, folder, json)
    try:
        with watcher:
            training = retrain(
                folder,
                plan,
                Watcher(watcher.begun, watcher.epoch, watcher.warn),
                provenance=provenance,
                tracking=tracking,
                trust=trust,
                replace=replace,
            )
    except KeyboardInterrupt:
        raise Interrupted("finished epochs are kept, the same command goes on with them") from None
    if not watcher.told:
        console.note(
            f"{folder}: this training is done already; another --seed makes another one, "
            "--replace repeats it"
        )
    if json:
        console.show_json(
            {
                "folder": str(folder),
                "digest": architecture.digest,
                "flops": architecture.flops,
                "flops_ratio": architecture.flops / dense_flops,
                "params": architecture.params,
                "training": training,
            }
        )
    else:
        typer.echo(result(str(folder), training))


def result(what: str, training: Mapping[str, Any]) -> str:
    """Word what came of a training, in one line.

    One that a study did has no test accuracy, because a search never reads that split, and its
    time is the trial's.
    """
    from prunenas.cli import units

    seconds = training.get("seconds")
    words = [
        _told(split, training[split])
        for split in ("test", "validation")
        if training[split] is not None
    ]
    if training["test"] is None and seconds is not None:
        words.insert(0, f"{training['data']} has no test images")
    spent = "" if seconds is None else f" in {units.duration(seconds)}"
    words.append(units.plural(training["epochs"], "epoch") + spent)
    return f"{what}: {', '.join(words)}"


def _told(split: str, measured: Mapping[str, Any]) -> str:
    from prunenas.cli import units

    return f"{split} accuracy {units.accuracy(measured['accuracy'])} (n={measured['n']:,})"


def _overrides(settings: list[str], epochs: int | None, protocol: str | None) -> dict[str, Any]:
    found = dict(setting(text, "lr=0.05") for text in settings)
    for name, value in (("epochs", epochs), ("protocol", protocol)):
        if value is None:
            continue
        if name in found:
            raise typer.BadParameter(f"--{name} says it already", param_hint=f"'--set {name}'")
        found[name] = value
    return found


@dataclass(frozen=True)
class _Begun:
    """What is to be trained, as far as it is known before the data set is.

    Attributes:
        input_shape: That the architecture takes, or took in its paper.
        provenance: Where it comes from.
        defaults: Keys of the recipe that its paper says.
        architecture: Makes the architecture for a data set; and the dense network's FLOPs.
    """

    input_shape: tuple[int, ...]
    provenance: dict[str, Any]
    defaults: dict[str, Any]
    architecture: Callable[["Data"], tuple["Architecture", int]]


def _begun(what: str, out: Path | None) -> _Begun:
    from prunenas import architectures
    from prunenas.export import CONFIG_FILE, read_config, read_masks

    if (Path(what) / CONFIG_FILE).exists() or Path(what).is_dir():
        config = read_config(what)
        architecture = read_masks(Path(what), config.architecture)
        known = architecture, round(architecture.flops / config.flops_ratio)
        shape = architecture.input_shape
        return _Begun(shape, dict(config.provenance), {}, lambda images: known)
    if what not in architectures.names():
        raise ExportError(
            f"{unknown('architecture', what, architectures.names())}, or the folder of an export"
        )
    if out is None:
        raise typer.BadParameter(
            f"{what} is not an export yet: say which folder it becomes", param_hint="'--out'"
        )
    about = architectures.describe(what)
    defaults: dict[str, Any] = {"epochs": about.epochs}
    if about.scratch_b_cap is not None:
        defaults["scratch_b_cap"] = about.scratch_b_cap

    def named(images: "Data") -> tuple["Architecture", int]:
        pruned, space = architectures.named(
            what, classes=images.classes, input_shape=images.input_shape
        )
        return pruned, space.dense.flops

    provenance = {"architecture": what, "source": about.source}
    return _Begun(about.input_shape, provenance, defaults, named)


def _watcher(plan: "Plan", folder: Path, json: bool) -> "Screen | Lines":
    from prunenas.cli.epochs import Course, Lines, Screen

    course = Course(plan, folder.name)
    if json:  # stdout is for the result alone
        return Lines(course, lambda line: print(line, file=sys.stderr, flush=True))
    if sys.stdout.isatty() and not os.environ.get("CI"):
        return Screen(course)
    return Lines(course)
