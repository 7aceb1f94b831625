"""The papers' architectures: predefined target architectures, ready to be trained as baselines.

Each is a YAML file beside this one: the dense network, the widths that differ from it, and the
residual branches that are gone. Groups are named as ``prunenas inspect`` names them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from prunenas.architecture import Architecture, Space, fill_arguments, trace
from prunenas.errors import SourceError, unknown

_SUFFIX = ".yaml"


@dataclass(frozen=True)
class Description:
    """What a paper's architecture is.

    Attributes:
        name: What ``prunenas train`` and ``prunenas inspect`` call it.
        description: One line.
        source: The paper: authors, year, title, venue.
        model: Source of the dense network.
        arguments: The constructor's, but for what the data decide.
        input_shape: ``(C, H, W)`` in the paper.
        classes: In the paper.
        epochs: That the paper's code trains the dense network for.
        scratch_b_cap: Highest multiple of them that its Scratch-B takes; None without a bound.
        scratch_b: Epochs that Scratch-B comes to.
        widths: Of the channel groups that are narrower than the dense network's.
        removed: Residual branches that are taken out.
    """

    name: str
    description: str
    source: str
    model: str
    arguments: Mapping[str, Any]
    input_shape: tuple[int, ...]
    classes: int
    epochs: int
    scratch_b_cap: float | None
    scratch_b: int
    widths: Mapping[str, int]
    removed: tuple[str, ...]


def names() -> tuple[str, ...]:
    """Names of the papers' architectures, sorted."""
    found = (entry.name for entry in files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX)))


@cache
def describe(name: str) -> Description:
    """Read a paper's architecture; nothing is traced or built.

    Raises:
        SourceError: There is none of that name.
    """
    if name not in names():
        raise SourceError(unknown("architecture", name, names()))
    plain = yaml.safe_load(files(__name__).joinpath(name + _SUFFIX).read_text(encoding="utf-8"))
    arguments = dict(plain["model"])
    return Description(
        name=name,
        description=plain["description"],
        source=plain["source"],
        model=arguments.pop("name"),
        arguments=arguments,
        input_shape=tuple(plain["input_shape"]),
        classes=plain["classes"],
        **plain["schedule"],
        widths=plain.get("widths", {}),
        removed=tuple(plain.get("removed", ())),
    )


def named(
    name: str, *, classes: int | None = None, input_shape: tuple[int, ...] | None = None
) -> tuple[Architecture, Space]:
    """A paper's architecture, and the space of the dense network it comes from.

    Args:
        name: One of ``names()``.
        classes: Of the data it is for; None for the paper's.
        input_shape: ``(C, H, W)`` of the data it is for; None for the paper's.

    Raises:
        SourceError: There is none of that name, or its network takes no such images.
        TraceError: Its network takes no such images.
    """
    paper = describe(name)
    shape = input_shape or paper.input_shape
    arguments = fill_arguments(
        paper.model, paper.arguments, classes=classes or paper.classes, input_shape=shape
    )
    space = trace(paper.model, arguments=arguments, input_shape=shape)
    pruned = space.without(paper.removed).architecture(widths=paper.widths)
    return pruned, space
