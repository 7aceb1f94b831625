"""How to come to a study's figures again: its file, and a command for each point."""

import json
import shlex
from collections.abc import Mapping
from html import escape
from typing import Any

from prunenas.places import STUDIES, address
from prunenas.search.view import StudyView
from prunenas.trial import Record


def command(view: StudyView, record: Record) -> str:
    """Return the command that gives a complete trial's network and weights; empty for others.

    Weights that the study did not keep are trained again, from the trial's own seed.
    """
    if record.state != "complete" or record.architecture is None:
        return ""
    words = ["prunenas", "export", view.name, "exports", "--trial", str(record.number), "--weights"]
    return shlex.join([*words, *storage(view)])


def storage(view: StudyView) -> list[str]:
    """Return the option that says where a study is kept; none where it is the usual place."""
    return [] if view.storage == STUDIES else ["--storage", address(view.storage)]


def section(view: StudyView) -> str:
    """Return the study's file, its seeds and versions, and how to go about it."""
    last = view.records[-1] if view.records else None
    versions = dict(last.versions) if last else {}
    listed = ", ".join(f"{name} {number}" for name, number in versions.items())
    text = view.text or json.dumps(view.settings, indent=2)
    search = view.settings["search"]
    best = max(view.final_front, key=lambda each: each.accuracy or 0.0, default=None)
    whole = shlex.join(["prunenas", "run", f"{view.name}.yaml", *storage(view)])
    parts = [
        f"<p>The study, as it was run. Kept as <code>{escape(view.name)}.yaml</code>, it is run "
        "anew, trial by trial, where there is no study of this name yet:</p>",
        f"<pre>{escape(text)}</pre>",
        f"<pre>{escape(whole)}</pre>",
        f"<p>Sampler seed {search['seed']}; each trial's own seeds are in the table. Versions: "
        f"{escape(listed) or 'not known'}.</p>",
    ]
    if best is not None:
        parts += [
            "<p>One point of the front, its network and weights, trained again from the trial's "
            "own seed where the study has not kept them (beside the chart is each point's "
            "line):</p>",
            f"<pre>{escape(command(view, best))}</pre>",
            "<p>The same architecture from scratch by the same recipe, with another seed"
            f"{_limit(view)}:</p>",
            f"<pre>{escape(again(view, best))}</pre>",
        ]
    return "".join(parts)


def again(view: StudyView, record: Record) -> str:
    """Return the command that trains an exported trial from scratch with another seed."""
    data: Mapping[str, Any] = view.settings["data"]
    folder = f"exports/trial_{record.number}"
    words = ["prunenas", "train", folder, "--data", data["name"]]
    words += ["--root", data["root"]] if data.get("root") else []
    words += ["--download"] if data.get("download") else []
    words += ["--validation", f"{data['validation']:g}"] if "validation" in data else []
    words += ["--recipe", f"{view.name}.yaml", "--seed", "1", "--out", f"{folder}_seed_1"]
    return shlex.join(words)


def _limit(view: StudyView) -> str:
    limit = view.settings["data"].get("train_limit")
    return "" if limit is None else f", on all training images instead of {limit:,}"
