"""What fresh seeds say, as MLflow's rows: onto the candidates' runs and the study's."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prunenas.tracking.rows import Point, milliseconds, percent
from prunenas.tracking.store import Store, StudyRuns

DrawRepeats = Callable[[Sequence[Mapping[str, Any]], Mapping[str, Any] | None], bytes]

_LONGEST_TAG = 8000
_SECTION = "\n\n**Fresh seeds.** "


def write_repeats(
    store: Store, runs: StudyRuns, repeats: Mapping[str, Any], draw: DrawRepeats | None
) -> None:
    """Write what fresh seeds say, unless it is there.

    Args:
        store: Where to.
        runs: The study's.
        repeats: ``wanted``, ``candidates`` (best first) and ``winners_curse``, as
            ``best --json`` shows them.
        draw: Draws them (candidates, winner's curse) as PNG.
    """
    text = json.dumps(repeats, indent=1)
    # The description is the front's: where that was written anew, its section is missing.
    state = f"{text} {runs.tags.get('prunenas.written')} {sorted(runs.children)}"
    digest = hashlib.sha256(state.encode()).hexdigest()[:16]
    if runs.tags.get("prunenas.repeats.written") == digest:
        return
    rows = repeats["candidates"]
    files: dict[str, str | bytes] = {"repeats.json": text}
    picture = None
    if draw and any(row["mean"] is not None for row in rows):
        files["repeats.png"] = draw(rows, repeats["winners_curse"])
        picture = f"get-artifact?path=repeats.png&run_uuid={runs.run_id}"
    store.touch(runs)
    store.upload(runs.run_id, files)
    for row in rows:
        child, told = runs.children.get(row["trial"]), candidate_tag(row)
        if child is not None and child.repeats != told:
            store.write(child.run_id, candidate_points(row), tags={"prunenas.repeats": told})
            child.repeats = told
    note = runs.tags.get("mlflow.note.content", "")
    marks = {
        **study_tags(repeats),
        "mlflow.note.content": with_section(note, repeats, picture),
        "prunenas.repeats.written": digest,
    }
    store.write(runs.run_id, study_points(repeats), tags=marks)
    runs.tags |= marks


def candidate_points(row: Mapping[str, Any]) -> list[Point]:
    """A candidate's mean, standard error and number of fresh seeds; step ``n`` has ``n`` of them.

    Args:
        row: What ``Repeats.to_dict`` gives.
    """
    named = {
        "repeats/accuracy_mean": row["mean"],
        "repeats/accuracy_standard_error": row["standard_error"],
        "repeats/n": row["n"],
    }
    return _points(named, _latest([row]), row["n"])


def candidate_tag(row: Mapping[str, Any]) -> str:
    """A candidate's figures in one line; it changes whenever they do."""
    words = [_figure(row)]
    failed = [each["reason"] for each in row["trainings"] if each["reason"] is not None]
    words += [f"failed: {reason}" for reason in dict.fromkeys(failed)]
    words += [f"rank {row['rank']}"] if row["rank"] is not None else []
    words += ["on the front by means"] if row["on_front"] else []
    return ", ".join(words)


def study_points(repeats: Mapping[str, Any]) -> list[Point]:
    """The best mean and the winner's curse, once candidates are ranked.

    The step is the number of trainings with fresh seeds so far.
    """
    rows = repeats["candidates"]
    done = sum(len(row["trainings"]) for row in rows)
    named: dict[str, float | None] = {"repeats/trainings": done}
    if rows and rows[0]["rank"] is not None:
        named["repeats/best_accuracy_mean"] = rows[0]["mean"]
        named["repeats/best_accuracy_standard_error"] = rows[0]["standard_error"]
    if (curse := repeats["winners_curse"]) is not None:
        named["winners_curse/mean"] = curse["mean"]
        named["winners_curse/standard_error"] = curse["standard_error"]
    return _points(named, _latest(rows), done)


def study_tags(repeats: Mapping[str, Any]) -> dict[str, str]:
    """The best candidate and the winner's curse in words, once candidates are ranked."""
    rows, tags = repeats["candidates"], {}
    if rows and rows[0]["rank"] is not None:
        tags["prunenas.best"] = f"trial {rows[0]['trial']}, {_figure(rows[0])}"
    if repeats["winners_curse"] is not None:
        tags["prunenas.winners_curse"] = repeats["winners_curse"]["sentence"]
    return tags


def with_section(note: str, repeats: Mapping[str, Any], picture: str | None) -> str:
    """The study's description with a section on fresh seeds, in place of an earlier one."""
    tags = study_tags(repeats)
    text = f"Best: {tags['prunenas.best']}. " if tags else "Candidates are being trained again."
    text += tags.get("prunenas.winners_curse", "")
    image = f"\n\n![Search scores against fresh seeds]({picture})" if picture else ""
    section = f"{_SECTION}{text.strip()}{image}"
    before, mark, front = note.partition(_SECTION)[0].partition("\n\n![")
    room = _LONGEST_TAG - len(section) - len(mark + front)
    if len(before) > room:  # of the front's table; the one among the artifacts is whole
        before = before[: room - 3].rpartition("\n")[0] + "\n\n…"
    return f"{before}{mark}{front}{section}"


def _figure(row: Mapping[str, Any]) -> str:
    if row["mean"] is None:
        return "no fresh seed trained"
    error = row["standard_error"]
    told = percent(row["mean"]) if error is None else f"{percent(row['mean'])} ± {percent(error)}"
    return f"{told} (n = {row['n']})"


def _latest(rows: list[Mapping[str, Any]]) -> int:
    ends = [milliseconds(each["finished"]) for row in rows for each in row["trainings"]]
    return max(ends, default=0)


def _points(named: Mapping[str, float | None], when: int, step: int) -> list[Point]:
    return [Point(key, value, when, step) for key, value in named.items() if value is not None]
