"""What fresh seeds say of a study's candidates: as a table, and in lines."""

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from prunenas.cli import tables, units
from prunenas.search.curse import curse
from prunenas.search.repeats import Repeats, final_front

if TYPE_CHECKING:
    from prunenas.search import StudyView
    from prunenas.search.again import Again
    from prunenas.search.repeats import Repeat


def ranking(view: "StudyView", *, title: str | None = None) -> Table:
    """Return the candidates by the mean of their fresh seeds, best first.

    Beside it stands the score of the search, which chose them; ``*`` marks the front by means.
    """
    more = tables.measured(each.record for each in view.ranking)
    result = tables.table(
        ("fresh seeds", "right"),
        ("search", "right"),
        ("FLOPs", "right"),
        ("of dense", "right"),
        ("params", "right"),
        *((column.name, "right") for column in more),
        "method",
        ("trial", "right"),
        title=title,
    )
    front = {each.record.number for each in final_front(view.ranking, view.costs)}
    for each in view.ranking:
        record = each.record
        mark = " *" if record.number in front else "  "
        result.add_row(
            Text(figure(each) + mark, "bold" if each is view.ranking[0] else ""),
            units.accuracy(record.accuracy),
            units.count(record.flops),
            units.share(record.flops_ratio),
            units.count(record.params),
            *(column.of(record) for column in more),
            record.method,
            str(record.number),
        )
    result.add_section()
    dense = ("–  ", units.accuracy(view.dense_accuracy), units.count(view.dense_flops))
    whole = [column.dense(view) for column in more]
    rest = (units.share(1.0), units.count(view.dense_params), *whole, "dense network", "–")
    result.add_row(*(Text(cell, "dim") for cell in (*dense, *rest)))
    return result


def lines(view: "StudyView") -> list[Text]:
    """What to read off the ranking: the mark, the winner's curse, trainings that failed."""
    mark = "the front by these means" if len(view.directions) > 1 else "the best by this mean"
    told = [Text(f"fresh seeds: mean ± standard error (number of seeds); * {mark}", "dim")]
    if (found := curse(view.ranking)) is not None:
        told.append(Text(found.sentence()))
    for each in view.ranking:
        for training in each.trainings:
            if training.reason is not None:
                text = f"trial {each.record.number}, seed {training.seed}: {training.reason}"
                told.append(Text(text, tables.STATE_STYLES["failed"]))
    return told


def progress(view: "StudyView") -> str | None:
    """Word how many trainings with fresh seeds are done; None where there are none to do."""
    done, total = view.repeats_done
    if not total:
        return None
    number = units.plural(len(view.repeats), "candidate")
    return f"repeats: {done} of {units.plural(total, 'training')} of {number} with fresh seeds"


def figure(repeats: Repeats) -> str:
    """Word a mean with its standard error and number of seeds: ``0.9491 ± 0.0012 (3)``."""
    mean, error = repeats.mean, repeats.standard_error
    if mean is None:
        return "– (0)"
    tail = "" if error is None else f" ± {error:.4f}"
    return f"{units.accuracy(mean)}{tail} ({repeats.n})"


def name(again: "Again") -> str:
    """What a training with a fresh seed is called: ``trial 7, fresh seed 2 of 3``."""
    return f"trial {again.number}, fresh seed {again.index} of {again.of}"


def outcome(again: "Again", repeat: "Repeat") -> str:
    """Word how a training with a fresh seed ended, in one line."""
    words = (
        [f"{name(again)}: accuracy {units.accuracy(repeat.accuracy)}"]
        if repeat.reason is None
        else [f"{name(again)}: failed", " ".join(repeat.reason.split())]
    )
    words.append(units.duration(repeat.seconds))
    if repeat.reused:
        words.append(f"training of {repeat.reused}")
    return ", ".join(words)
