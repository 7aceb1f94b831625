"""Latency beside FLOPs: rank correlation by hand and by scipy, the chart, the words."""

import random
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from made_views import record, view
from scipy.stats import spearmanr

from prunenas.report import page, pictures
from prunenas.report.latency import protocol, spearman
from prunenas.report.points import points
from prunenas.trial import Record

PROTOCOL = {
    "device": "cpu",
    "threads": 1,
    "batch": 8,
    "warmup": 10,
    "rounds": 50,
    "runtime": "onnxruntime",
}


def timed(number: int, median: float | None = None, **changes: Any) -> Record:
    """A trial that was measured; its wider ones take longer."""
    found = record(number, **changes)
    middle = median or 1 + 10 * (found.flops_ratio or 0)
    measured = {"median": middle, "low": middle - 0.1, "high": middle + 0.2, "protocol": PROTOCOL}
    object.__setattr__(found, "latency", measured)
    object.__setattr__(found, "peak_activations", 4096 + number)
    return found


def test_ranks_are_correlated_as_by_hand_and_as_scipy_does() -> None:
    # Differences of ranks 0, 1, -1, 0: 1 - 6 * 2 / (4 * 15) = 0.8.
    assert spearman([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(0.8)
    assert spearman([1, 2, 3], [9, 4, 1]) == pytest.approx(-1)
    assert spearman([1, 2], [3, 3]) is None
    assert spearman([], []) is None
    dice = random.Random(0)
    for _ in range(20):
        x = [dice.randrange(6) for _ in range(12)]  # with ties
        y = [dice.randrange(6) for _ in range(12)]
        assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)


def test_measured_trials_make_a_section() -> None:
    records = [timed(n) for n in range(5)] + [record(5)]
    text = page(view(records))
    drawn = ET.fromstring(re.findall(r'<svg[^>]*id="latency-chart".*?</svg>', text, re.DOTALL)[0])
    classes = [(each.get("class") or "").split() for each in drawn.iter()]
    assert sum("point" in each for each in classes) == 5
    assert sum("whisker" in each for each in classes) == 5
    assert "(Spearman): 1.00 over 5 architectures" in text
    assert "onnxruntime on cpu, 1 thread, batch 8, 10 passes before any is counted, " in text
    assert "median of 50 passes" in text
    assert "latency, ms" in text  # a column of the trials
    facts = dict(points(view(records), [])["3"]["facts"])
    assert facts["activations"] == "4,099 bytes"
    assert facts["latency"].startswith(f"{1 + 10 * (records[3].flops_ratio or 0):.3g} ms")


def test_without_a_latency_there_is_none() -> None:
    records = [record(n) for n in range(5)]
    assert "latency" not in page(view(records)).split("<script")[0].split("</style>")[1].lower()
    assert not any(name.startswith("latency") for name in pictures(view(records)))


def test_the_picture_has_a_mark_for_each() -> None:
    drawn = pictures(view([timed(n) for n in range(5)]))
    (series,) = (
        each
        for each in ET.fromstring(drawn["latency.svg"].decode()).iter()
        if each.get("id") == "trials-l1_norm"
    )
    assert sum(each.tag.endswith("use") for each in series.iter()) == 5
    assert drawn["latency.png"].startswith(b"\x89PNG")


def test_a_protocol_is_told_whatever_it_has() -> None:
    odd = timed(0)
    object.__setattr__(odd, "latency", {"median": 1, "low": 1, "high": 1, "protocol": {"pins": 2}})
    assert protocol(odd) == "pins 2"
