"""A file of one kind given where another is asked for is told as what it is, in one line."""

from collections.abc import Callable
from pathlib import Path

import pytest
from quickstart import ROOT

from prunenas.errors import SpecError
from prunenas.spec import load_comparison, load_federated, load_study

READERS: dict[str, Callable[[Path], object]] = {
    "study": load_study,
    "comparison": load_comparison,
    "federated comparison": load_federated,
}
FILES = {
    "study": (
        "studies/quickstart.yaml",
        "`prunenas run` runs it",
    ),
    "comparison": (
        "studies/compare_lenet5.yaml",
        "`prunenas compare` runs it",
    ),
    "federated comparison": (
        "studies/federated_digits.yaml",
        "`prunenas federate` and `prunenas compare` run it",
    ),
    "search space": (
        "search_spaces/slimming.yaml",
        "a study's methods name it, as their `space`",
    ),
}


@pytest.mark.parametrize("wanted", READERS)
@pytest.mark.parametrize("found", FILES)
def test_another_kind_is_one_mistake(wanted: str, found: str) -> None:
    path, use = ROOT / FILES[found][0], FILES[found][1]
    if wanted == found:
        assert READERS[wanted](path)
        return
    with pytest.raises(SpecError) as error:
        READERS[wanted](path)
    assert error.value.mistakes == (f"{path}: must be a {wanted}, but is a {found}; {use}",)


@pytest.mark.parametrize(
    ("wanted", "own", "stray"),
    [
        ("study", "objective: {maximize: accuracy}", "strategies: [snip]"),
        ("comparison", "budgets: [0.5]", "search: {trials: 3}"),
        ("federated comparison", "strategies: [snip]", "budgets: [0.5]"),
    ],
)
def test_a_file_with_a_key_of_its_kind_is_told_what_else_is_wrong(
    wanted: str, own: str, stray: str, tmp_path: Path
) -> None:
    path = tmp_path / "mixed.yaml"
    path.write_text(f"name: mixed\n{own}\n{stray}\n", encoding="utf-8")
    with pytest.raises(SpecError) as error:
        READERS[wanted](path)
    key = stray.partition(":")[0]
    assert any(
        each.startswith(f"{path}:3: unknown {wanted} key {key!r}") for each in error.value.mistakes
    )
    assert not any("but is a" in each for each in error.value.mistakes)


@pytest.mark.parametrize("wanted", READERS)
def test_a_file_that_is_not_there_is_told_as_that(wanted: str, tmp_path: Path) -> None:
    path = tmp_path / "search_spaces" / "nowhere.yaml"
    with pytest.raises(SpecError) as error:
        READERS[wanted](path)
    (mistake,) = error.value.mistakes
    assert mistake.startswith(f"{path}: no such file")


def test_a_file_that_tells_nothing_of_its_kind_lacks_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "bare.yaml"
    path.write_text("name: bare\n", encoding="utf-8")
    with pytest.raises(SpecError) as error:
        load_study(path)
    assert f"{path}:1: objective must be given" in error.value.mistakes
