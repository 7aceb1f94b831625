"""Repeats as MLflow's rows: pure functions of what `best --json` shows."""

from typing import Any

import synthetic

from prunenas.search.curse import Curse
from prunenas.tracking.front import note as note_of_front
from prunenas.tracking.repeats import (
    candidate_points,
    candidate_tag,
    study_points,
    study_tags,
    with_section,
)

END = 1_767_225_608_000  # 2026-01-01T00:00:08Z, by `date +%s`


def candidate(trial: int, **changes: Any) -> dict[str, Any]:
    trainings = [
        {"reason": None, "finished": "2026-01-01T00:00:02+00:00"},
        {"reason": "non-finite loss", "finished": "2026-01-01T00:00:08+00:00"},
        {"reason": None, "finished": "2026-01-01T00:00:05+00:00"},
    ]
    values = {"mean": 0.93, "standard_error": 0.0041, "n": 2, "rank": 1, "on_front": True}
    return {"trial": trial, "trainings": trainings, **values, **changes}


def repeats(*rows: dict[str, Any], curse: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"wanted": 3, "candidates": list(rows), "winners_curse": curse}


def test_a_candidates_figures_stand_at_the_time_of_its_last_training() -> None:
    points = candidate_points(candidate(4))
    assert {point.key: point.value for point in points} == {
        "repeats/accuracy_mean": 0.93,
        "repeats/accuracy_standard_error": 0.0041,
        "repeats/n": 2,
    }
    assert {(point.timestamp, point.step) for point in points} == {(END, 2)}
    assert candidate_tag(candidate(4)) == (
        "93.0 % ± 0.4 % (n = 2), failed: non-finite loss, rank 1, on the front by means"
    )
    none = candidate(4, mean=None, standard_error=None, n=0, rank=None, on_front=None)
    assert [point.key for point in candidate_points(none)] == ["repeats/n"]
    assert candidate_tag(none) == "no fresh seed trained, failed: non-finite loss"


def test_the_study_tells_of_the_best_once_candidates_are_ranked() -> None:
    curse = {"mean": 0.02, "standard_error": None, "n": 1, "sentence": "One."}
    told = repeats(candidate(4), candidate(2, rank=2), curse=curse)
    assert {point.key: point.value for point in study_points(told)} == {
        "repeats/trainings": 6,
        "repeats/best_accuracy_mean": 0.93,
        "repeats/best_accuracy_standard_error": 0.0041,
        "winners_curse/mean": 0.02,
    }
    assert study_tags(told) == {
        "prunenas.best": "trial 4, 93.0 % ± 0.4 % (n = 2)",
        "prunenas.winners_curse": "One.",
    }
    early = repeats(candidate(4, rank=None))
    assert [point.key for point in study_points(early)] == ["repeats/trainings"]
    assert study_tags(early) == {}


def test_the_description_has_one_section_on_fresh_seeds() -> None:
    note = "5 trials.\n\n![Accuracy against FLOPs](front.png)"
    early = with_section(note, repeats(candidate(4, rank=None)), None)
    assert early == f"{note}\n\n**Fresh seeds.** Candidates are being trained again."
    late = with_section(early, repeats(candidate(4)), "repeats.png")
    assert late.startswith(f"{note}\n\n**Fresh seeds.** Best: trial 4")
    assert late.count("Fresh seeds.") == 1
    assert late.endswith("(repeats.png)")


def test_a_long_front_and_its_section_fit_into_a_tag() -> None:
    front = [synthetic.record(number, 0.5, 0.5) for number in range(500)]
    picture = "get-artifact?path=repeats.png&run_uuid=" + 32 * "0"
    pictures = {"Accuracy against FLOPs": picture, "Accuracy by method": picture}
    note = note_of_front(front, front, synthetic.DENSE, pictures)
    sentence = Curse(0.0123, 0.0040, 100).sentence()
    curse = {"mean": 0.0123, "standard_error": 0.004, "n": 100, "sentence": sentence}
    told = repeats(candidate(499), curse=curse)
    assert 7900 < len(with_section(note, told, picture)) <= 8000
