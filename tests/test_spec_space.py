"""Search spaces: knobs over channel groups, ranges, and ranges that methods declare."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from pydantic import ValidationError

from prunenas.architecture import trace
from prunenas.methods import METHODS, Method
from prunenas.spec import (
    MethodEntry,
    SearchSpace,
    ShareRange,
    Widths,
    check_whole,
    check_widths,
)

MODEL = trace("vgg_mini", input_shape=(1, 28, 28))
NAMES = [group.name for group in MODEL.groups]
RATIO = {"low": 0.1, "high": 1.0}


def widths(per: str, **fixed: float) -> Widths:
    return Widths.model_validate({"per": per, "ratio": RATIO, "fixed": fixed})


def test_one_knob_for_each_group() -> None:
    assert widths("group").knobs(MODEL.groups) == {name: (name,) for name in NAMES}


def test_one_knob_for_the_network() -> None:
    assert widths("network").knobs(MODEL.groups) == {"network": tuple(NAMES)}


def test_knobs_of_stages_hold_the_groups_of_each_stage() -> None:
    knobs = widths("stage").knobs(MODEL.groups)
    stages = {group.name: group.stage for group in MODEL.groups}
    # vgg_mini is 16, M, 32, M, 64, 64: one, one and two layers at its three resolutions
    assert [len(names) for names in knobs.values()] == [1, 1, 2]
    assert {name: knob for knob, names in knobs.items() for name in names} == {
        name: f"stage {stage}" for name, stage in stages.items()
    }


@pytest.mark.parametrize("per", ["group", "stage", "network"])
def test_ratios_cover_every_group_once_and_leave_fixed_ones_alone(per: str) -> None:
    space = widths(per, **{NAMES[1]: 0.25})
    knobs = space.knobs(MODEL.groups)
    settings = {knob: 0.5 + 0.1 * i for i, knob in enumerate(knobs)}
    ratios = space.ratios(MODEL.groups, settings)
    assert list(ratios) == NAMES
    assert ratios[NAMES[1]] == 0.25
    for knob, names in knobs.items():
        assert NAMES[1] not in names
        assert {ratios[name] for name in names} == {settings[knob]}


def test_the_last_of_several_patterns_holds() -> None:
    fixed = {"*": 0.5, NAMES[0]: 1.0}
    found = widths("group", **fixed).fixed_ratios(MODEL.groups)
    assert found == {NAMES[0]: 1.0} | dict.fromkeys(NAMES[1:], 0.5)
    reverse = dict(reversed(fixed.items()))
    assert set(widths("group", **reverse).fixed_ratios(MODEL.groups).values()) == {0.5}


def space(**fixed: float) -> SearchSpace:
    return SearchSpace(widths=widths("group", **fixed))


def test_a_space_for_groups_that_the_model_lacks_is_told() -> None:
    (line,) = check_widths(space(**{"layer4.*": 0.5}), MODEL)
    known = ", ".join(sorted(NAMES))
    assert line == f"unknown channel group of vgg_mini 'layer4.*'. Known: {known}"


def test_a_group_that_can_not_vary_is_told_with_its_reason() -> None:
    frozen = MODEL.frozen[0]
    (line,) = check_widths(space(**{frozen.name: 0.5}), MODEL)
    assert line == f"channel group '{frozen.name}' of vgg_mini can't vary: {frozen.reason}"
    assert check_widths(space(**{frozen.name: 1.0}), MODEL) == ()


def test_a_layer_to_stay_whole_that_the_model_lacks_is_told() -> None:
    def entry(*whole: str) -> MethodEntry:
        given = {"name": "taylor", "with": {"whole": list(whole)}}
        return MethodEntry.model_validate(given)

    assert check_whole(MethodEntry.model_validate({"name": "taylor"}), MODEL) == ()
    assert check_whole(entry(NAMES[0], NAMES[0].split(".")[0], "*"), MODEL) == ()
    (line,) = check_whole(entry(NAMES[0], "layer4"), MODEL)
    assert line.startswith("taylor: whole: unknown layer of vgg_mini 'layer4'. Known: ")


def test_a_space_that_leaves_nothing_to_search_is_told() -> None:
    (line,) = check_widths(space(**{"*": 0.5}), MODEL)
    assert line == ("no channel group of vgg_mini is left to search: all are fixed or can't vary")


def test_an_empty_range_is_the_one_that_the_method_declares() -> None:
    fields = METHODS["network_slimming"].model_fields
    entry = MethodEntry.model_validate(
        {"name": "network_slimming", "space": {"method": {"sparsity": {}, "keep": {**RATIO}}}}
    )
    declared = fields["sparsity"].json_schema_extra
    assert isinstance(declared, dict)
    searched = entry.searched["sparsity"].model_dump(exclude_defaults=True)
    assert searched == declared["search"]
    assert (entry.searched["keep"].low, entry.searched["keep"].high) == (0.1, 1.0)


@pytest.mark.parametrize("name", METHODS)
def test_declared_ranges_of_every_method_are_ranges_within_its_bounds(name: str) -> None:
    kind = METHODS[name]
    for field in kind.model_fields:
        if field in Method.model_fields or field in ("initial", "memory", "maps"):
            continue  # what the network asks for, a stage of its own, what was measured
        entry = MethodEntry.model_validate({"name": name, "space": {"method": {field: {}}}})
        domain = entry.searched[field]
        assert not domain.is_default, f"{field} declares no range"
        for value in domain.choices or (domain.low, domain.high):
            entry.method({field: value})  # raises where the field's bounds refuse it


def test_a_method_is_made_of_what_is_fixed_and_what_is_proposed() -> None:
    entry = MethodEntry.model_validate({"name": "network_slimming", "with": {"keep": 0.25}})
    method = entry.method({"sparsity": 0.003})
    assert method.model_dump(include={"keep", "sparsity"}) == {"keep": 0.25, "sparsity": 0.003}


@given(
    low=st.integers(1, 100), span=st.integers(0, 100), step=st.integers(1, 40), log=st.booleans()
)
def test_ranges_are_refused_exactly_where_optuna_would_complain(
    low: int, span: int, step: int, log: bool
) -> None:
    values = {"low": low / 200, "high": (low + span) / 200, "step": None if log else step / 200}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna warns and cuts `high` where steps miss it
        try:
            FloatDistribution(values["low"], values["high"], log=log, step=values["step"])
            fine = True
        except (UserWarning, ValueError):
            fine = False
    try:
        ShareRange.model_validate({**values, "log": log})
        accepted = True
    except ValidationError:
        accepted = False
    assert accepted == fine
