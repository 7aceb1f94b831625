"""Comparisons as Markdown, by hand, and as GitHub's rules read it."""

from made_comparisons import compared, comparison

from prunenas.cli.markdown import markdown
from prunenas.spec import Arm

ARMS: tuple[Arm, ...] = ("dense", "fine_tuned", "scratch_e", "uniform")
ROWS: dict[str, dict[Arm, list[float | None]]] = {
    "magnitude": {"fine_tuned": [0.90, 0.92], "scratch_e": [0.93, 0.95]},
    "uniform": {"fine_tuned": [None, None], "scratch_e": [0.90, None]},
}


def text(patterns: bool = False) -> str:
    part = compared(
        ROWS,
        beside={"dense": [0.96, 0.98], "uniform": [0.91, 0.91]},
        reason="a | b",
        patterns=patterns,
    )
    return markdown(comparison(list(ROWS), ARMS, 2), [part])


def test_the_table_by_hand() -> None:
    lines = text().splitlines()
    assert lines[0] == "### vgg_mini"
    assert lines[4:8] == [
        "| method | of dense | params | dense | fine-tuned | Scratch-E | uniform |",
        "| --- | --: | --: | --: | --: | --: | --: |",
        "| magnitude | 40.0 % | 1.23 k | 0.9700 ± 0.0141 | 0.9100 ± 0.0141 | 0.9400 ± 0.0141 "
        "| 0.9100 ± 0.0000 |",
        "| uniform | 40.0 % | 1.23 k | 0.9700 ± 0.0141 | – | 0.9000 (1) | 0.9100 ± 0.0000 |",
    ]


def test_verdicts_by_hand() -> None:
    """Of three questions: differences (0.03, 0.03), (0.02, 0.04) and (-0.01,).

    The second has mean 0.03 and standard error 0.01; Student's t with one degree of freedom has
    p = 1 - 2/π arctan 3 = 0.2048 there, three times that is 0.614, and reaches 12.706 x 0.01. The
    first has only its signs, 2 / 4 and twice that; the third has no deviation.
    """
    lines = text().splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("| row |"))
    assert lines[start + 2 : start + 5] == [
        "| magnitude, 50% | Scratch-E against fine-tuned | +0.0300 (– to –) | 1.000 "
        "| 1.000 | – | no difference at n = 2 |",
        "| magnitude, 50% | Scratch-E against uniform | +0.0300 (-0.0971 to +0.1571) | 0.614 "
        "| 1.000 | +2.12 | no difference at n = 2 |",
        "| uniform, 50% | Scratch-E against uniform | -0.0100 (– to –) | 1.000 "
        "| 1.000 | – | no difference at n = 1 |",
    ]


def test_reasons_are_listed_once() -> None:
    assert [line for line in text().splitlines() if line.startswith("- ")] == [
        "- uniform, fine-tuned: a | b",
        "- uniform, Scratch-E: a | b",
    ]


def test_every_line_of_a_table_has_the_same_cells_and_equal_values_give_equal_text() -> None:
    for page in (text(), text(patterns=True)):
        blocks: list[list[int]] = [[]]
        for line in page.splitlines():
            if line.startswith("|"):
                blocks[-1].append(line.replace("\\|", "").count("|"))
            elif blocks[-1]:
                blocks.append([])
        assert all(len(set(block)) == 1 for block in blocks if block)
        assert len([block for block in blocks if block]) == 2
    assert text() == text()
    # shares 1, 0.5 and 0.25 of three stages: mean 0.5833, deviation 0.3118
    assert text(patterns=True).splitlines()[6].endswith("| 0.53 |")
