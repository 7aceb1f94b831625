"""docs/methods.md: its tables are those of the code, its study is one that loads."""

import re
from pathlib import Path

import pytest
from exactness import NETWORKS, ROWS
from methods_page import NOTHING, PAGE, cells, compare, lines_of, table, write, writing

from prunenas.methods import METHODS
from prunenas.spec import check


def test_the_methods_are_those_there_are() -> None:
    head = ("method", "paper", "", "takes away", "what a study can search", "in a sentence")
    compare("methods", table(head, [row(name) for name in METHODS]))


def row(name: str) -> tuple[str, ...]:
    method = METHODS[name]
    own = [
        f"`{field}`"
        for field, info in method.model_fields.items()
        if isinstance(info.json_schema_extra, dict) and "search" in info.json_schema_extra
    ]
    given = [*["ratios"] * method.takes_ratios, *["densities"] * method.takes_densities]
    searched = [*given, *own]
    authors, _, title = method.source.partition(", ")
    sentence = (method.__doc__ or "").partition("\n")[0]
    kind, unit = method.kind, f"{method.granularity}s"
    return (f"`{name}`", f"{authors}, {title}", kind, unit, ", ".join(searched) or "–", sentence)


def test_the_table_of_differences_has_all_rows_and_columns() -> None:
    head, rows = ["method", *NETWORKS], [[name, *[NOTHING] * len(NETWORKS)] for name in ROWS]
    if writing() and not lines_of("exactness"):
        write("exactness", table(head, rows))
    found = cells("exactness")
    assert found[0] == head
    assert [each[0] for each in found[1:]] == list(ROWS)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_paragraph_of_its_own(name: str) -> None:
    assert f"\n**`{name}`**" in PAGE.read_text(encoding="utf-8")


def test_the_study_on_the_page_is_valid(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for number, block in enumerate(blocks):
        file = tmp_path / f"study{number}.yaml"
        file.write_text(block, encoding="utf-8")
        check(file)
