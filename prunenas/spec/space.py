"""Search spaces: which widths and which hyperparameters a study varies, and between what bounds."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PrivateAttr, model_validator

from prunenas.architecture import ChannelGroup
from prunenas.spec.document import Document, Place

Ratio = Annotated[float, Field(gt=0, le=1)]


class Section(BaseModel):
    """Base of what users write: frozen, and a key it doesn't know is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ShareRange(Section):
    """The shares that may be kept: of channels (ratios), or of weights (densities)."""

    low: Ratio = Field(description="Smallest share, in (0, 1]")
    high: Ratio = Field(description="Largest share, in (0, 1], at least `low`")
    step: float | None = Field(
        default=None, gt=0, description="Distance between shares; any share without it"
    )
    log: bool = Field(default=False, description="Draw on a logarithmic scale; not with `step`")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _check_range(self.low, self.high, self.step, self.log)
        return self


class Domain(Section):
    """The values one hyperparameter of a method may take.

    ``low`` and ``high``, or ``choices``, or nothing: then it is the range that the method itself
    declares for the field.
    """

    low: float | None = Field(default=None, description="Smallest value")
    high: float | None = Field(default=None, description="Largest value, at least `low`")
    step: float | None = Field(
        default=None, gt=0, description="Distance between values; any value without it"
    )
    log: bool = Field(default=False, description="Draw on a logarithmic scale; not with `step`")
    choices: tuple[JsonValue, ...] | None = Field(
        default=None, min_length=1, description="The values, instead of `low` and `high`"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.choices is not None:
            if self.log or not (self.low is self.high is self.step is None):
                raise ValueError("choices stand alone, without low, high, step and log")
            if len(set(map(repr, self.choices))) < len(self.choices):
                raise ValueError(f"choices must differ, but are {list(self.choices)}")
            if any(isinstance(choice, list | dict) for choice in self.choices):
                raise ValueError("choices must be numbers, texts, true or false")
        elif self.low is not None and self.high is not None:
            _check_range(self.low, self.high, self.step, self.log)
        elif not self.is_default:
            raise ValueError("low and high must both be given, or choices, or nothing at all")
        return self

    @property
    def is_default(self) -> bool:
        """Whether nothing is said, so that the method's own range holds."""
        bounds = (self.low, self.high, self.step, self.choices)
        return not self.log and all(bound is None for bound in bounds)


class Widths(Section):
    """Which ratios are searched, and which are tied together."""

    per: Literal["group", "stage", "network"] = Field(
        description="What gets a ratio of its own: every channel group, every stage "
        "(groups at one resolution), or the whole network"
    )
    ratio: ShareRange = Field(description="The ratios that are tried")
    fixed: dict[str, Ratio] = Field(
        default_factory=dict,
        description="Ratios of groups that are not searched, by name; names may have `*` and `?`, "
        "and where several match a group the last holds",
    )

    def fixed_ratios(self, groups: Iterable[ChannelGroup]) -> dict[str, float]:
        """Return the ratio of every group that is not searched, by the group's name."""
        return _fixed(self.fixed, (group.name for group in groups))

    def knobs(self, groups: Iterable[ChannelGroup]) -> dict[str, tuple[str, ...]]:
        """Return what is searched: each knob's name, and the groups whose ratio it sets.

        A knob is called by its group, ``stage 2``, or ``network``; fixed groups hang on none.
        """
        return _knobs(self.per, self.fixed, {group.name: group.stage for group in groups})

    def ratios(
        self, groups: Iterable[ChannelGroup], settings: Mapping[str, float]
    ) -> dict[str, float]:
        """Return every group's ratio, given one for each knob by its name."""
        stages = {group.name: group.stage for group in groups}
        return _settled(self.per, self.fixed, stages, settings)


class Densities(Section):
    """Which layers' densities are searched, and which are tied together."""

    per: Literal["layer", "stage", "network"] = Field(
        description="What gets a density of its own: every layer that loses weights, every stage "
        "(layers at one resolution), or the whole network"
    )
    density: ShareRange = Field(description="The densities that are tried")
    fixed: dict[str, Ratio] = Field(
        default_factory=dict,
        description="Densities of layers that are not searched, by name; names may have `*` and "
        "`?`, and where several match a layer the last holds",
    )

    def fixed_densities(self, layers: Iterable[str]) -> dict[str, float]:
        """Return the density of every layer that is not searched, by the layer's name."""
        return _fixed(self.fixed, layers)

    def knobs(self, layers: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
        """Return what is searched: each knob's name, and the layers whose density it sets.

        Args:
            layers: Those that lose weights, each with its stage; see ``Method.density_layers``.

        A knob is called by its layer, ``stage 2``, or ``network``; fixed layers hang on none.
        """
        return _knobs(self.per, self.fixed, layers)

    def densities(
        self, layers: Mapping[str, int], settings: Mapping[str, float]
    ) -> dict[str, float]:
        """Return every layer's density, given one for each knob by its name."""
        return _settled(self.per, self.fixed, layers, settings)


class SearchSpace(Section):
    """What is searched for one method: a file of ``search_spaces/``, or written into a study."""

    widths: Widths | None = Field(
        default=None, description="Widths, for a method that follows given ratios"
    )
    densities: Densities | None = Field(
        default=None, description="Densities, for a method that drops weights layer by layer"
    )
    method: dict[str, Domain] = Field(
        default_factory=dict, description="The method's hyperparameters, each with its range"
    )

    _origin: tuple[Document, Place] | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if self.widths is not None and self.densities is not None:
            raise ValueError(
                "densities are of weights and widths of channels, and a method takes one of them, "
                "but both are given"
            )
        return self

    def locate(self, place: Place, text: str) -> str:
        """Return a mistake in this space as ``path:line: text``, or bare where it has no file."""
        if self._origin is None:
            return text
        document, base = self._origin
        return str(document.mistake((*base, *place), text))

    def came_from(self, document: Document, base: Place) -> Self:
        """Remember where this space was read, for mistakes that only a model brings out."""
        self._origin = (document, base)
        return self


def _fixed(patterns: Mapping[str, float], names: Iterable[str]) -> dict[str, float]:
    """The share of everything that a pattern matches; of several patterns the last holds."""
    return {
        name: share
        for name in names
        for pattern, share in patterns.items()
        if fnmatchcase(name, pattern)
    }


def _knobs(
    per: str, fixed: Mapping[str, float], stages: Mapping[str, int]
) -> dict[str, tuple[str, ...]]:
    """Each knob's name and what hangs on it, of things that have stages, by name."""
    held = _fixed(fixed, stages)
    knobs: dict[str, tuple[str, ...]] = {}
    for name, stage in stages.items():
        if name not in held:
            knob = {"stage": f"stage {stage}", "network": "network"}.get(per, name)
            knobs[knob] = (*knobs.get(knob, ()), name)
    return knobs


def _settled(
    per: str,
    fixed: Mapping[str, float],
    stages: Mapping[str, int],
    settings: Mapping[str, float],
) -> dict[str, float]:
    """The share of everything, fixed or by its knob."""
    found = _fixed(fixed, stages)
    for knob, names in _knobs(per, fixed, stages).items():
        found |= dict.fromkeys(names, settings[knob])
    return {name: found[name] for name in stages}


def _check_range(low: float, high: float, step: float | None, log: bool) -> None:
    if low > high:
        raise ValueError(f"`low <= high` must hold, but low is {low:g} and high is {high:g}")
    if log and step is not None:
        raise ValueError("step and log exclude each other, but both are given")
    if log and low <= 0:
        raise ValueError(f"`low > 0` must hold on a logarithmic scale, but low is {low:g}")
    if step is not None:
        # In decimals, as the user wrote them: 0.1 + 9 * 0.1 is not 1.0 in binary.
        span, unit = Decimal(str(high)) - Decimal(str(low)), Decimal(str(step))
        if span % unit:
            last = Decimal(str(low)) + span // unit * unit
            raise ValueError(
                f"high must be low plus whole steps, but {low:g} and steps of {step:g} "
                f"reach {float(last):g} and pass {high:g}"
            )
