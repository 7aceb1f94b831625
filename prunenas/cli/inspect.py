"""``prunenas inspect``: what of a network can vary, and what each part of it is worth."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunenas.cli.options import Json, Trust
from prunenas.errors import SourceError

if TYPE_CHECKING:
    from prunenas.architecture import Space
    from prunenas.export import ExportConfig

TORCHVISION_INPUT = (3, 224, 224)


def inspect(
    network: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|EXPORT",
            help="vgg_mini, torchvision/NAME, import.path:callable, or the folder of an export.",
            show_default=False,
        ),
    ],
    shape: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="C,H,W",
            help="Shape of one input; otherwise the model's own, 3,224,224 for torchvision's.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="An argument of the model's constructor; VALUE is JSON or a word. Repeatable.",
            show_default=False,
        ),
    ] = None,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Show a network's channel groups, widths, FLOPs and parameters.

    A channel group is the channels of one or several layers that can only be cut together. What a
    group saves is the share of the dense network's FLOPs that goes when this group alone is cut to
    its least width. Frozen channels can't vary; the reason is told.

    \b
    prunenas inspect vgg_mini
    prunenas inspect torchvision/resnet18 --input 3,32,32 --set num_classes=10
    prunenas inspect exports/best --json
    """
    from prunenas.architecture import needs_trust, trace
    from prunenas.cli import console
    from prunenas.cli.groups import as_dict, bare, report
    from prunenas.export import CONFIG_FILE, read_config

    if (Path(network) / CONFIG_FILE).exists() or Path(network).is_dir():
        _refuse_options(shape, settings)
        config = read_config(network)
        architecture = config.architecture
        if needs_trust(architecture.source) and not trust:
            console.note(
                f"{network}: its groups take running {architecture.source!r}; --trust does that"
            )
            values = {**bare(architecture), "export": _export(config)}
            console.show_json(values) if json else console.show(*report(None, architecture, config))
            return
        space = trace(
            architecture.source,
            arguments=architecture.arguments,
            input_shape=architecture.input_shape,
        )
    else:
        config = None
        space = _traced(network, shape, settings or [])
        architecture = space.dense
    if json:
        console.show_json(
            {**as_dict(space, architecture), "export": _export(config) if config else None}
        )
    else:
        console.show(*report(space, architecture, config))


def _refuse_options(shape: str | None, settings: list[str] | None) -> None:
    for name, value in (("--input", shape), ("--set", settings)):
        if value:
            raise typer.BadParameter("an export says it itself", param_hint=f"'{name}'")


def _traced(source: str, shape: str | None, settings: list[str]) -> "Space":
    from prunenas.architecture import check_source, fill_arguments, trace

    check_source(source)
    arguments = dict(_setting(text) for text in settings)
    if shape is None:
        return trace(source, arguments=arguments, input_shape=_own_shape(source, arguments))
    sizes = _shape(shape)
    if not source.startswith("torchvision/"):
        given = "num_classes" in arguments
        arguments = fill_arguments(source, arguments, classes=0, input_shape=sizes)
        if not given:  # no data set decides it here: the constructor's default does
            arguments.pop("num_classes", None)
    return trace(source, arguments=arguments, input_shape=sizes)


def _shape(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise typer.BadParameter(
            f"must be sizes with commas such as 3,32,32, but got {text!r}", param_hint="'--input'"
        )
    return tuple(int(part) for part in parts)


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise typer.BadParameter(
            f"must be NAME=VALUE such as num_classes=10, but got {text!r}", param_hint="'--set'"
        )
    try:
        return name, json_module.loads(value)
    except json_module.JSONDecodeError:
        return name, value


def _own_shape(source: str, arguments: dict[str, Any]) -> tuple[int, ...]:
    import inspect as signatures

    from prunenas import models

    if source.startswith("torchvision/"):
        return TORCHVISION_INPUT
    if ":" in source:
        raise SourceError(f"the input shape of {source!r} is not known: say it with --input C,H,W")
    parameters = signatures.signature(getattr(models, source)).parameters
    channels, size = (
        int(arguments.get(name, parameters[name].default)) for name in ("in_channels", "input_size")
    )
    return channels, size, size


def _export(config: "ExportConfig") -> dict[str, Any]:
    return {
        "flops_ratio": config.flops_ratio,
        "weights": config.weights_sha256 is not None,
        "provenance": dict(config.provenance),
    }
