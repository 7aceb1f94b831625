"""Where dense networks come from: a source is a string that names a constructor.

=====================  ===========================================================================
``vgg_mini``           a constructor of ``prunenas.models``
``torchvision/NAME``   a classification network of torchvision, random weights
``timm/NAME``          any network of timm, random weights; needs ``pip install 'prunenas[timm]'``
``package.nets:build`` any callable that returns an ``nn.Module``. Importing its module runs the
                       module, so such a source is used only when the user wrote it (in a study or
                       on the command line), never out of a downloaded export unless trusted
=====================  ===========================================================================
"""

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from prunenas.errors import SourceError, unknown

Constructor = Callable[..., nn.Module]

# Without it these two warn that the default will change; True is what their papers do.
_TORCHVISION_ARGUMENTS = {
    "googlenet": {"init_weights": True},
    "inception_v3": {"init_weights": True},
}


def own_models() -> tuple[str, ...]:
    """Names of the constructors in ``prunenas.models``."""
    # Looked up by name, as a user's module would be: this floor lies below the models.
    return tuple(importlib.import_module("prunenas.models").__all__)


def torchvision_models() -> tuple[str, ...]:
    """Names of torchvision's classification networks."""
    from torchvision import models

    return tuple(models.list_models(module=models))


def timm_models() -> tuple[str, ...]:
    """Names of timm's networks; none where timm is not installed."""
    return tuple(_timm().list_models()) if find_spec("timm") else ()


def timm_input(source: str) -> tuple[int, ...]:
    """``(C, H, W)`` that a network of timm is made for."""
    config = _timm().get_pretrained_cfg(_timm_name(source))
    return (3, 224, 224) if config is None else tuple(config.input_size)


def check_source(source: str) -> None:
    """Raise SourceError unless ``source`` names a known network; imports no user module."""
    if ":" in source:
        module, _, name = source.partition(":")
        if not all(part.isidentifier() for part in [*module.split("."), *name.split(".")]):
            raise SourceError(
                f"a model source with a colon must be import.path:callable, but got {source!r}"
            )
    elif source.startswith("torchvision/"):
        name = source.removeprefix("torchvision/")
        if name not in torchvision_models():
            raise SourceError(unknown("torchvision model", name, torchvision_models()))
    elif source.startswith("timm/"):
        _timm_name(source)
    elif source not in own_models():
        raise SourceError(
            unknown("model", source, own_models())
            + ", torchvision/NAME, timm/NAME, or import.path:callable for a network of your own"
        )


def needs_trust(source: str) -> bool:
    """Whether building from ``source`` imports a module of the user's."""
    return ":" in source


def constructor(source: str, *, trust: bool = True) -> Constructor:
    """The callable that ``source`` names.

    Args:
        source: See the module's table.
        trust: Whether a module of the user's may be imported, which runs it.

    Raises:
        SourceError: The source is unknown, its module fails to import, or it needs trust.
    """
    check_source(source)
    if source.startswith("torchvision/"):
        return _torchvision(source.removeprefix("torchvision/"))
    if source.startswith("timm/"):
        return partial(_timm().create_model, _timm_name(source), pretrained=False)
    if ":" not in source:
        found: Constructor = getattr(importlib.import_module("prunenas.models"), source)
        return found
    if not trust:
        raise SourceError(
            f"model source {source!r} imports a module, which runs its code; "
            "pass trust=True (--trust) if you trust it"
        )
    return _imported(source)


def _torchvision(name: str) -> Constructor:
    from torchvision import models

    defaults = _TORCHVISION_ARGUMENTS.get(name, {})

    def construct(**arguments: Any) -> nn.Module:
        network: nn.Module = models.get_model(name, **{"weights": None, **defaults, **arguments})
        return network

    return construct


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise SourceError(
            "a model source timm/NAME needs timm; pip install 'prunenas[timm]' installs it"
        ) from error


def _timm_name(source: str) -> str:
    name, timm = source.removeprefix("timm/"), _timm()
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"; near it: {', '.join(close)}" if close else ""
        raise SourceError(f"timm {timm.__version__} has no model {name!r}{hint}")
    return name


def _imported(source: str) -> Constructor:
    module_name, _, path = source.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # the user's own module beside the study, as `python -m` finds it
        sys.path.insert(0, here)
    try:
        value: Any = importlib.import_module(module_name)
        for part in path.split("."):
            value = getattr(value, part)
    except Exception as error:  # a user's module may raise anything while it is imported
        raise SourceError(
            f"model source {source!r} can't be imported: {_one_line(error)}"
        ) from error
    if not callable(value):
        raise SourceError(
            f"model source {source!r} must be callable, but is {type(value).__name__}"
        )
    result: Constructor = value
    return result


def fill_arguments(
    source: str, arguments: Mapping[str, Any], *, classes: int, input_shape: tuple[int, ...]
) -> dict[str, Any]:
    """Add what the data decide to a constructor's arguments, where it takes them.

    ``num_classes``, ``in_channels`` (or ``in_chans``) and ``input_size`` are filled from the data
    set unless the user set them. Torchvision's constructors take ``num_classes``, timm's
    ``num_classes`` and ``in_chans``, and ``img_size`` where the network is made for one size.
    """
    filled = dict(arguments)
    if source.startswith("timm/"):
        given = {"num_classes": classes, "in_chans": input_shape[0]}
        config = _timm().get_pretrained_cfg(_timm_name(source))
        if config is not None and config.fixed_input_size:
            given["img_size"] = input_shape[-1]
        return {**given, **filled}
    if source.startswith("torchvision/"):
        filled.setdefault("num_classes", classes)
        return filled
    offered = {
        "num_classes": classes,
        "in_channels": input_shape[0],
        "in_chans": input_shape[0],
        "input_size": input_shape[-1],
    }
    parameters = inspect.signature(constructor(source)).parameters
    return {**{name: value for name, value in offered.items() if name in parameters}, **filled}


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
