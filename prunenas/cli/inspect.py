"""``prunenas inspect``: what of a network can vary, and what each part of it is worth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunenas.cli.options import Json, Trust, input_option, set_option, setting
from prunenas.errors import SourceError

if TYPE_CHECKING:
    from prunenas.architecture import Architecture, Space
    from prunenas.cli.groups import About
    from prunenas.export import ExportConfig

TORCHVISION_INPUT = (3, 224, 224)


def inspect(
    network: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|EXPORT",
            help="vgg_mini, torchvision/NAME, import.path:callable, the folder of an export, or an "
            "architecture of `prunenas list architectures`.",
            show_default=False,
        ),
    ],
    shape: Annotated[
        str | None,
        input_option("Shape of one input; otherwise the model's own, 3,224,224 for torchvision's."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        set_option("An argument of the model's constructor; VALUE is JSON or a word. Repeatable."),
    ] = None,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Show a network's channel groups, widths, FLOPs and parameters.

    A channel group is the channels of one or several layers that can only be cut together. Its
    FLOPs are those of the layers that make its channels; what it saves is the share of the dense
    network's FLOPs that goes when this group alone is cut to its least width. Frozen channels can't
    vary; the reason is told. An export is shown beside its dense network: what is kept of each
    group's width, and what is left of its FLOPs; and how many weights masks keep of each layer.

    \b
    prunenas inspect vgg_mini
    prunenas inspect torchvision/resnet18 --input 3,32,32 --set num_classes=10
    prunenas inspect exports/best --json
    prunenas inspect resnet56-b
    """
    from prunenas import architectures
    from prunenas.architecture import needs_trust, trace
    from prunenas.cli import console, masks
    from prunenas.cli.anatomy import anatomy
    from prunenas.cli.groups import About, report
    from prunenas.export import CONFIG_FILE, read_config

    space: Space | None
    told: dict[str, Any] = {"export": None, "architecture": None}
    if (Path(network) / CONFIG_FILE).exists() or Path(network).is_dir():
        refuse_options(shape, settings)
        config = read_config(network)
        architecture, about, told["export"] = config.architecture, _about(config), _export(config)
        if needs_trust(architecture.source) and not trust:
            console.note(
                f"{network}: its groups take running {architecture.source!r}; --trust does that"
            )
            space = None
        else:
            space = trace(
                architecture.source,
                arguments=architecture.arguments,
                input_shape=architecture.input_shape,
            )
    elif network in architectures.names():
        space, architecture, about = of_a_paper(network, shape, settings or [])
        told["architecture"] = network
    else:
        space, about = traced(network, shape, settings or []), About()
        architecture = space.dense
    parts = None if space is None else anatomy(space, architecture)
    if architecture.masks:
        told["masks"] = masks.plain(architecture)
    if json:
        details = {} if space is None or parts is None else parts.to_dict()
        details |= {} if space is None else {"dense_params": space.dense.params}
        console.show_json({**_bare(architecture), **details, **told})
    else:
        console.show(*report(parts, architecture, about))


def refuse_options(shape: str | None, settings: list[str] | None, what: str = "an export") -> None:
    """Refuse ``--input`` and ``--set`` where what is named says both itself."""
    for name, value in (("--input", shape), ("--set", settings)):
        if value:
            raise typer.BadParameter(f"{what} says it itself", param_hint=f"'{name}'")


def of_a_paper(
    name: str, shape: str | None, settings: list[str]
) -> tuple["Space", "Architecture", "About"]:
    """Return a paper's architecture in its dense network's space, and what is said of it."""
    from prunenas import architectures
    from prunenas.cli.groups import About

    found = architectures.describe(name)
    arguments = dict(setting(text, "num_classes=10") for text in settings)
    classes = arguments.pop("num_classes", None)
    if arguments:
        raise typer.BadParameter(
            f"only num_classes can be set of an architecture, but got {', '.join(arguments)}",
            param_hint="'--set'",
        )
    sizes = None if shape is None else _shape(shape)
    architecture, space = architectures.named(name, classes=classes, input_shape=sizes)
    about = About(
        architecture.flops / space.dense.flops,
        (f"{name}: {found.description}", f"from {found.source}"),
    )
    return space, architecture, about


def traced(source: str, shape: str | None, settings: list[str]) -> "Space":
    """Return the space of a model named on the command line."""
    from prunenas.architecture import check_source, fill_arguments, trace

    check_source(source)
    arguments = dict(setting(text, "num_classes=10") for text in settings)
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


def _own_shape(source: str, arguments: dict[str, Any]) -> tuple[int, ...]:
    import inspect as signatures

    from prunenas import models
    from prunenas.architecture import timm_input

    if source.startswith("torchvision/"):
        return TORCHVISION_INPUT
    if source.startswith("timm/"):
        return timm_input(source)
    if ":" in source:
        raise SourceError(f"the input shape of {source!r} is not known: say it with --input C,H,W")
    parameters = signatures.signature(getattr(models, source)).parameters
    channels, size = (
        int(arguments.get(name, parameters[name].default)) for name in ("in_channels", "input_size")
    )
    return channels, size, size


def _bare(architecture: "Architecture") -> dict[str, Any]:
    """Return what an architecture says of itself, without running its source."""
    return {
        "source": architecture.source,
        "arguments": dict(architecture.arguments),
        "input_shape": list(architecture.input_shape),
        "digest": architecture.digest,
        "flops": architecture.flops,
        "params": architecture.params,
        "widths": dict(architecture.widths),
    }


def _about(config: "ExportConfig") -> "About":
    from prunenas.cli.groups import About, origin
    from prunenas.cli.train import result
    from prunenas.export import data_name

    words = f"exported {'with' if config.weights_sha256 else 'without'} weights"
    found = origin(config.provenance)
    lines = [f"{words} · {found}" if found else words]
    if config.training is not None:
        lines.append(result(f"trained on {data_name(config.training)}", config.training))
    return About(config.flops_ratio, tuple(lines))


def _export(config: "ExportConfig") -> dict[str, Any]:
    return {
        "flops_ratio": config.flops_ratio,
        "weights": config.weights_sha256 is not None,
        "provenance": dict(config.provenance),
        "training": None if config.training is None else dict(config.training),
    }
