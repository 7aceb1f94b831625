"""Laws between the parts of a study: methods, their spaces, the budget, the model."""

from pathlib import Path
from typing import ClassVar, Literal

import pytest
from pydantic import Field
from spec_samples import SLIMMING, STUDY, changed, inline, mistakes, write_sound_files

from prunenas.architecture import trace
from prunenas.errors import SpecError
from prunenas.methods import METHODS
from prunenas.spec import check, check_widths, load_study


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_sound_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_method_may_be_listed_once(folder: Path) -> None:
    line = "  - {name: l1_norm, space: per_layer}"
    assert mistakes(changed(5, f"{line}\n{line}")) == [
        "studies/s.yaml:6: a method may be listed once, but 'l1_norm' is also in line 5"
    ]


def test_a_hyperparameter_is_searched_or_fixed(folder: Path) -> None:
    line = "  - {name: network_slimming, space: slimming, with: {keep: 0.5}}"
    assert mistakes(changed(5, line)) == [
        "search_spaces/slimming.yaml:3: a hyperparameter is either searched or fixed, but keep is "
        "searched here and fixed at studies/s.yaml:5"
    ]


def test_a_budget_leaves_no_ratio_of_the_whole_network(folder: Path) -> None:
    (folder / "search_spaces" / "uniform.yaml").write_text(
        "widths:\n  per: network\n  ratio: {low: 0.1, high: 1.0}\n"
    )
    text = changed(6, "objective: {maximize: accuracy, flops_ratio: 0.5}")
    assert mistakes(text) == []
    assert mistakes(text.replace("per_layer", "uniform")) == [
        "search_spaces/uniform.yaml:2: a budget (flops_ratio) already decides the ratio of the "
        "whole network: leave the space out, or search per group or stage"
    ]
    assert mistakes(text.replace(", space: per_layer", "")) == []


def test_laws_hold_for_a_new_method_by_its_fields_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Own(METHODS["uniform"]):
        takes_ratios: ClassVar[bool] = True
        share: float = Field(0.5, gt=0, le=1, json_schema_extra={"replaced_by_budget": True})
        steps: int = Field(3, ge=1, json_schema_extra={"search": {"low": 1, "high": 9}})
        order: Literal["up", "down"] = "up"

    monkeypatch.setitem(METHODS, "own", Own)

    def own(method: str) -> list[str]:
        space = f"{{widths: {{per: group, ratio: {{low: 0.1, high: 1}}}}, method: {{{method}}}}}"
        found = mistakes(changed(5, inline(space, "own")))
        return [line.removeprefix("studies/s.yaml:5: ") for line in found]

    assert own("share: {low: 0.1, high: 1}, steps: {}, order: {choices: [up, down]}") == []
    assert own("steps: {low: 1, high: 9, step: 2}") == []
    assert own("steps: {low: 1.5, high: 2}") == ["own: steps must be a whole number, but is 1.5"]
    assert own("steps: {low: 1, high: 2, step: 0.5}") == [
        "own: steps needs whole steps, but they are 0.5"
    ]
    assert own("order: {}") == ["own declares no range for order: give low and high, or choices"]
    assert own("order: {choices: [up, left]}") == ["own: unknown order 'left'. Known: down, up"]

    text = changed(6, "objective: {maximize: accuracy, flops_ratio: 0.5}")
    text = text.replace("l1_norm, space: per_layer", "own, with: {share: 0.5}")
    assert mistakes(text) == [
        "studies/s.yaml:5: a budget (flops_ratio) takes the place of own's share: leave it out"
    ]


def test_all_mistakes_of_a_study_and_its_spaces_come_together(folder: Path) -> None:
    (folder / "search_spaces" / "bad.yaml").write_text(
        "widths:\n  per: group\n  ratio: {low: 0.5, high: 2}\n  fixed: {a: 0}\nmethod: {foo: {}}\n"
    )
    text = (
        "name: x\n"
        "modle: {name: vgg_mini}\n"
        "data: {name: mnist}\n"
        "methods:\n"
        "  - {name: l1_norm, space: bad}\n"
        "  - {name: slimming, space: bad}\n"
        "objective: {maximize: accuracy, flops_ratio: 2}\n"
        "train: {epochs: 0, epochs: 1, lr: 0}\n"
        "search: {sampler: none}\n"
    )
    found = mistakes(text)
    assert [line.split(": ")[0] for line in found] == [
        *(f"studies/s.yaml:{line}" for line in (2, 3, 6, 7, 8, 8, 8, 9, 9)),
        *(f"search_spaces/bad.yaml:{line}" for line in (3, 4, 5)),
    ]
    with pytest.raises(SpecError) as raised:
        load_study("studies/s.yaml")
    assert list(raised.value.mistakes) == found


def test_files_checked_together_are_told_in_order_and_each_mistake_once(folder: Path) -> None:
    space = folder / "search_spaces" / "per_layer.yaml"
    space.write_text("widths: {per: grup, ratio: {low: 0.1, high: 1.0}}\n")
    (folder / "studies" / "a.yaml").write_text(STUDY)
    (folder / "studies" / "b.yaml").write_text(changed(1, "name: '?'"))
    with pytest.raises(SpecError) as raised:
        check("studies/b.yaml", "studies/a.yaml", "search_spaces/per_layer.yaml")
    first, second = raised.value.mistakes
    assert first.startswith("studies/b.yaml:1: name must be ")
    assert second == (
        "search_spaces/per_layer.yaml:1: unknown per 'grup' (did you mean 'group'?). "
        "Known: group, network, stage"
    )


def test_spaces_are_found_by_path_and_where_there_is_none_it_is_told(folder: Path) -> None:
    (folder / "studies" / "mine.yaml").write_text(SLIMMING)
    line = "  - {name: network_slimming, space: mine.yaml}"
    assert mistakes(changed(5, line)) == []
    assert mistakes(changed(5, line.replace("mine", "../search_spaces/slimming"))) == []
    assert mistakes(changed(5, line.replace("mine", "../search_spaces/slim"))) == [
        "studies/s.yaml:5: search_spaces/slim.yaml: no such file. In search_spaces: "
        "per_layer.yaml, slimming.yaml"
    ]


def test_a_study_finds_its_spaces_from_any_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "studies" / "s.yaml").write_text(STUDY)
    monkeypatch.chdir(folder / "studies")
    assert load_study("s.yaml").methods[0].space.widths is not None
    monkeypatch.chdir("/")
    assert load_study(folder / "studies" / "s.yaml").methods[0].space.widths is not None


def test_groups_that_the_model_lacks_have_the_line_in_the_file_they_were_written_in(
    folder: Path,
) -> None:
    model = trace("vgg_mini", input_shape=(1, 28, 28))
    known = ", ".join(sorted(group.name for group in model.groups))
    told = f"unknown channel group of vgg_mini 'layer1'. Known: {known}"
    (folder / "search_spaces" / "resnet.yaml").write_text(
        "widths:\n  per: group\n  ratio: {low: 0.1, high: 1}\n  fixed:\n    '*': 1\n    layer1: 1\n"
    )
    assert mistakes(changed(5, inline("resnet"))) == []
    (entry,) = load_study("studies/s.yaml").methods
    assert check_widths(entry.space, model) == (f"search_spaces/resnet.yaml:6: {told}",)
    space = "{widths: {per: group, ratio: {low: 0.1, high: 1}, fixed: {layer1: 1}}}"
    assert mistakes(changed(5, inline(space))) == []
    (entry,) = load_study("studies/s.yaml").methods
    assert check_widths(entry.space, model) == (f"studies/s.yaml:5: {told}",)
