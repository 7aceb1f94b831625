"""Good starts: proposals that a study tries before the sampler's own.

A study that tries the classical answers first never ends worse than they are. Each start is a
proposal like any other, in the study's own search space, so that the sampler learns from it:
projected onto a budget where there is one, and counted among the trials.

==================  ========================================================================
``uniform R``       every layer keeps the same share (of weights, where only densities are
                    searched), such that the FLOPs come nearest to R of the
                    dense network's; ``uniform`` alone: R = 0.5, 0.25, 0.75, 0.125, or the
                    study's budget
``defaults``        each method at the hyperparameters it declares
``papers``          the papers' ready architectures of this network, those that the search space
                    has exactly; or one of them by name
==================  ========================================================================

``true`` is all of them, in this order and in at most half of the trials. The front of an earlier
study (``warm_start``) stands before them, in at most half of the trials too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prunenas import architectures
from prunenas.architecture import Space
from prunenas.errors import SpecError, StudyError
from prunenas.methods import sparse_flops
from prunenas.search.proposal import TARGET
from prunenas.search.view import StudyView
from prunenas.search.wishes import Wish, nearest
from prunenas.spec import Domain, ShareRange, Study
from prunenas.spec.study import MethodEntry
from prunenas.trial import Candidate, Record

_SHARES = (0.5, 0.25, 0.75, 0.125)
_GRID = 181  # ratios that are tried for a uniform start where the range has no steps
_NEAR = 0.2  # a start misses the FLOPs it is called by at most by this share of them


@dataclass(frozen=True)
class Start:
    """A proposal: what it is called, and Optuna's parameters."""

    name: str
    parameters: Mapping[str, Any]


def starts_of(study: Study, space: Space, earlier: StudyView | None = None) -> list[Start]:
    """A study's starts, in the order they are tried; of equal proposals the first.

    Args:
        study: What is searched.
        space: The channel groups of its dense network.
        earlier: The study that ``warm_start`` names.

    Raises:
        StudyError: The earlier study searched another network.
        SpecError: A start that is asked for by name is not in the search space.
    """
    half = study.search.trials // 2
    wanted = study.search.starts
    found = list(_earlier(study, space, earlier)) if earlier is not None else []
    found = _spread(_distinct(found), half)
    if wanted is True:
        kinds = ("uniform", "defaults", "papers")
        common = [start for kind in kinds for start in _kind(kind, study, space)]
        return _distinct([*found, *_distinct(common)[:half]])[: study.search.trials]
    for index, kind in enumerate(wanted or ()):
        named = list(_kind(kind, study, space))
        if not named:
            where = f"{study.path}: " if study.path else ""
            raise SpecError(
                [f"{where}search.starts[{index}]: the search space has no such start: {kind!r}"]
            )
        found += named
    return _distinct(found)[: study.search.trials]


def _kind(kind: str, study: Study, space: Space) -> Iterator[Start]:
    word, _, share = kind.partition(" ")
    if word == "uniform":
        yield from _uniform(study, space, (float(share),) if share else _shares(study))
    elif word == "defaults":
        yield from _defaults(study, space)
    else:
        yield from _papers(study, space, architectures.names() if word == "papers" else (word,))


def _shares(study: Study) -> tuple[float, ...]:
    objective = study.objective
    if objective.budget is not None:
        return (objective.budget,)
    low, high = objective.range or (0.0, 1.0)
    inside = tuple(share for share in _SHARES if low <= share <= high)
    return inside if len(inside) > 1 or not objective.range else (low, (low * high) ** 0.5, high)


def _uniform(study: Study, space: Space, shares: Sequence[float]) -> Iterator[Start]:
    entry = _even(study)
    if entry is None:
        return
    dense = space.dense.flops
    steps = _levels(entry)
    for share in shares:
        if study.objective.flops_ratio is not None:  # projected, whatever the ratio
            asked = nearest(study, space, entry, _always(share), share)
            if asked is not None:
                yield Start(f"uniform {share:g}", asked.parameters)
            continue
        tried = [(step, nearest(study, space, entry, _always(step), share)) for step in steps]
        costs = [
            (abs(_flops(space, candidate) / dense - share), -step, candidate)
            for step, candidate in tried
            if candidate is not None
        ]
        miss, _, best = min(costs, key=lambda row: row[:2])
        if miss <= _NEAR * share:
            yield Start(f"uniform {share:g}", best.parameters)


def _always(value: float) -> Wish:
    return lambda name: value


def _even(study: Study) -> MethodEntry | None:
    """The method that a uniform network is proposed by."""
    for entry in study.methods:
        if entry.name == "uniform":
            return entry
    entries = [entry for entry in study.methods if entry.kind.takes_ratios]
    entries += [entry for entry in study.methods if entry.space.densities is not None]
    return next(iter(entries), None)


def _levels(entry: MethodEntry) -> list[float]:
    """The ratios or densities that one knob may have, or many of them."""
    widths, densities = entry.space.widths, entry.space.densities
    domain: ShareRange | Domain | None = entry.searched.get("ratio")
    if widths is not None:
        domain = widths.ratio
    elif densities is not None:
        domain = densities.density
    if domain is None or domain.low is None or domain.high is None:
        return [1.0]
    span = domain.high - domain.low
    count = _GRID if domain.step is None else round(span / domain.step) + 1
    return [domain.low + span * index / max(1, count - 1) for index in range(count)]


def _flops(space: Space, candidate: Candidate) -> int:
    """FLOPs before any projection."""
    if candidate.ratios is None:
        return space.flops(space.widths(float(getattr(candidate.method, "ratio", 1.0))))
    if candidate.method.takes_densities:
        return sparse_flops(space, candidate.ratios)
    return space.flops(space.widths(candidate.ratios))


def _defaults(study: Study, space: Space) -> Iterator[Start]:
    for entry in study.methods:
        even = entry.space.widths or (entry.space.densities and entry is _even(study))
        if not entry.searched and even:
            continue  # nothing of its own: that is a uniform start
        fields = entry.kind.model_fields

        def default(name: str, fields: Mapping[str, Any] = fields) -> Any:
            if name.startswith("ratio/"):
                return 0.7  # of channels: about half of the FLOPs
            if name.startswith("density/"):
                name = "density"  # the same for all layers
            return None if fields[name].is_required() else fields[name].get_default()

        share = min(_shares(study), key=lambda share: abs(share - 0.5))
        asked = nearest(study, space, entry, default, share)
        if asked is not None:
            yield Start(f"defaults of {entry.name}", asked.parameters)


def _papers(study: Study, space: Space, names: Sequence[str]) -> Iterator[Start]:
    dense = dict(space.dense.widths)
    for name in names:
        paper = architectures.describe(name)
        given = study.model.arguments
        same = all(given.get(key) == value for key, value in paper.arguments.items())
        if paper.model != study.model.name or not same or paper.removed:
            continue  # a network without some of its blocks is in no space of widths
        widths = dense | dict(paper.widths)
        if widths.keys() != dense.keys() or any(widths[key] > dense[key] for key in dense):
            continue
        found = _of_widths(study, space, widths)
        if found is not None and found[1]:
            yield Start(name, found[0])


def _earlier(study: Study, space: Space, earlier: StudyView) -> Iterator[Start]:
    if dict(earlier.dense_widths) != dict(space.dense.widths):
        raise StudyError(
            f"warm_start: study {earlier.name!r} searched another dense network than "
            f"{study.model.name}"
        )
    for record in earlier.front:
        name = f"trial {record.number} of {earlier.name}"
        again = _again(study, space, record)
        if again is not None:
            yield Start(name, again)
            continue
        if record.architecture is not None and record.architecture.get("masks"):
            continue  # its widths say nothing of it
        widths = {
            group: max(1, round(ratio * earlier.dense_widths[group]))
            for group, ratio in record.ratios.items()
        }
        found = _of_widths(study, space, widths)
        if found is not None:
            yield Start(name if found[1] else f"near {name}", found[0])


def _again(study: Study, space: Space, record: Record) -> Mapping[str, Any] | None:
    """The very parameters of a record, where this study searches the same."""
    entry = next((entry for entry in study.methods if entry.name == record.method), None)
    if entry is None:
        return None
    known = {
        name.removeprefix(f"{record.method}/"): value
        for name, value in record.parameters.items()
        if name not in ("method", TARGET)
    }
    asked = nearest(study, space, entry, known.get, record.flops_ratio)
    if asked is None:
        return None
    local = {
        name.removeprefix(f"{record.method}/"): value
        for name, value in asked.parameters.items()
        if name not in ("method", TARGET)
    }
    same = local.keys() == known.keys() and all(
        value == known[name] or (isinstance(value, float) and abs(value - known[name]) < 1e-9)
        for name, value in local.items()
    )
    return asked.parameters if same else None


def _of_widths(
    study: Study, space: Space, widths: Mapping[str, int]
) -> tuple[Mapping[str, Any], bool] | None:
    """The nearest proposal to given widths, and whether it has exactly them before projection."""
    dense = space.dense
    for entry in study.methods:
        if not entry.kind.takes_ratios or entry.space.widths is None:
            continue
        knobs = entry.space.widths.knobs(space.groups)
        means = {
            f"ratio/{knob}": sum(widths[group] / dense.widths[group] for group in groups)
            / len(groups)
            for knob, groups in knobs.items()
        }
        asked = nearest(study, space, entry, means.get, space.flops(widths) / dense.flops)
        if asked is not None and asked.ratios is not None:
            return asked.parameters, space.widths(asked.ratios) == dict(widths)
    return None


def _distinct(starts: Sequence[Start]) -> list[Start]:
    found: list[Start] = []
    for start in starts:
        if all(dict(start.parameters) != dict(other.parameters) for other in found):
            found.append(start)
    return found


def _spread(starts: Sequence[Start], most: int) -> list[Start]:
    """At most so many of them, the first and the last among them."""
    if len(starts) <= most:
        return list(starts)
    if most <= 1:
        return list(starts[-1:])[:most]
    return [starts[round(index * (len(starts) - 1) / (most - 1))] for index in range(most)]
