"""What people see of repeats: lines in a pipe, the live screen, the ranking."""

import io
import pickle
import re

import pytest
from cli_samples import ARCHITECTURE, DENSE_FLOPS, MASKED, record, view

from prunenas import Architecture, trace
from prunenas.cli import repeats
from prunenas.cli.choice import accuracy, choose
from prunenas.cli.console import console
from prunenas.cli.lines import Lines
from prunenas.cli.live import Screen
from prunenas.cli.progress import Progress, time_left
from prunenas.search.again import Again
from prunenas.search.events import RepeatEpoch, RepeatFinished, RepeatStarted, StudyStarted
from prunenas.search.repeats import Repeat, Repeats

SEEDS = (11, 12)


def repeat(seed, accuracy, reason=None, reused=None):
    return Repeat(seed, accuracy, reason, 4, 6.0, "2026-01-01T00:00:08+00:00", reused)


def judged(number, *accuracies, search=0.9, ratio=0.5):
    trainings = [repeat(seed, value) for seed, value in zip(SEEDS, accuracies, strict=True)]
    return Repeats(record(number, accuracy=search, flops_ratio=ratio), tuple(trainings))


LUCKY = judged(0, 0.90, 0.92, search=0.99, ratio=0.6)
STEADY = judged(1, 0.93, 0.95, search=0.95)
SMALL = judged(2, 0.80, 0.82, search=0.80, ratio=0.1)


def finished(*all_, **changes):
    records = [each.record for each in all_]
    values = {"front": tuple(records), "trials_total": len(all_), "repeats_total": 2, **changes}
    return view(*records, repeats=all_, finished=True, **values)


def shown(*parts):
    terminal = console(file=io.StringIO(), width=100, color_system=None)
    for part in parts:
        terminal.print(part)
    return [re.sub(r"\s+", " ", line).strip() for line in terminal.file.getvalue().splitlines()]


def test_the_ranking_has_both_scores_and_marks_the_front():
    study = finished(LUCKY, STEADY, SMALL)
    lines = shown(repeats.ranking(study), *repeats.lines(study))
    assert lines[2].startswith("0.9400 ± 0.0100 (2) * 0.9500 1.86 M 50.0 %")
    assert lines[3].startswith("0.9100 ± 0.0100 (2) 0.9900 2.24 M 60.0 %")  # beaten by the first
    assert lines[4].startswith("0.8100 ± 0.0100 (2) * 0.8000 373 k 10.0 %")
    assert "– 0.9750 3.73 M 100.0 % 61.0 k dense network –" in lines
    assert "search scores lie 0.0267 ± 0.0273 above the fresh-seed means" in " ".join(lines)


def test_the_ranking_tells_the_density_where_there_are_masks():
    sparse = Repeats(record(3, architecture=MASKED, method="magnitude"), STEADY.trainings)
    lines = shown(repeats.ranking(finished(sparse, SMALL)))
    assert "params density method trial" in lines[0]
    assert "30.0 % magnitude 3" in lines[2]
    assert lines[3].endswith("– l1_norm 2")
    assert lines[-1].endswith("61.0 k 100.0 % dense network –")


def test_without_enough_seeds_nobody_is_ranked():
    half = Repeats(LUCKY.record, LUCKY.trainings[:1])
    study = finished(half, STEADY)
    assert study.ranking == ()
    assert study.final_front == study.front
    assert repeats.progress(study) == "repeats: 3 of 4 trainings of 2 candidates with fresh seeds"
    assert repeats.progress(view()) is None
    assert time_left(finished(half, STEADY)) == 0
    running = view(*study.records, repeats=study.repeats, trials_total=2, repeats_total=2)
    assert time_left(running) == pytest.approx(6.0)  # one left, as long as the others


def test_an_export_takes_the_best_by_mean():
    study = finished(LUCKY, STEADY, SMALL)
    assert choose(study, (), None, False) == [("best", STEADY.record)]
    assert choose(study, (), 0.2, False) == [("best_0.2", SMALL.record)]
    assert choose(study, (0,), None, False) == [("trial_0", LUCKY.record)]
    assert {name for name, _ in choose(study, (), None, True)} == {"trial_1", "trial_2"}
    assert accuracy(study, STEADY.record) == "0.9500 (fresh seeds: 0.9400 ± 0.0100 (2))"
    tiny = record(9, accuracy=0.5, flops_ratio=0.05)
    more = view(*study.records, tiny, repeats=study.repeats, trials_total=4, repeats_total=2)
    assert choose(more, (), 0.07, False) == [("best_0.07", tiny)]  # no candidate is as small
    assert accuracy(more, tiny) == "0.5000"


@pytest.fixture(scope="module")
def again():
    space = trace("vgg_mini", input_shape=(1, 28, 28))
    architecture: Architecture = space.architecture(0.5)
    return Again(7, architecture, 12, 2, 3, 4, 0.341)


def test_what_is_missing_can_be_handed_to_a_worker(again):
    handed = pickle.loads(pickle.dumps(again))
    assert (handed, handed.digest) == (again, again.architecture.digest)


def test_in_a_pipe_each_event_is_a_line(again):
    assert ARCHITECTURE["source"] == again.architecture.source
    written = []
    lines = Lines(Progress("demo", lambda: 0.0), written.append)
    failed = repeat(12, None, "non-finite loss")
    for event in (
        RepeatStarted(again, 1, 9),
        RepeatEpoch(again, 1, 0.8812),
        RepeatFinished(again, repeat(12, 0.9), 2, 9),
        RepeatFinished(again, failed, 3, 9),
        RepeatFinished(again, repeat(12, 0.9, reused="other/3"), 9, 9),
    ):
        lines.watch(event)
    assert written == [
        "trial 7, fresh seed 2 of 3: 34.1 % of dense FLOPs, 4 epochs",
        "trial 7, fresh seed 2 of 3: epoch 1/4, accuracy 0.8812",
        "trial 7, fresh seed 2 of 3: accuracy 0.9000, 6 s [2/9, about 42 s left]",
        "trial 7, fresh seed 2 of 3: failed, non-finite loss, 6 s [3/9, about 36 s left]",
        "trial 7, fresh seed 2 of 3: accuracy 0.9000, 6 s, training of other/3 [9/9]",
    ]


def test_the_screen_shows_the_training_and_how_many_are_left(again):
    terminal = console(
        file=io.StringIO(), force_terminal=True, width=100, height=24, color_system=None
    )
    screen = Screen(Progress("demo", lambda: 0.0), "accuracy ↑", "sqlite:///demo.db", terminal)
    screen.watch(StudyStarted("demo", 16, 16, 4, DENSE_FLOPS, True))
    screen.watch(RepeatStarted(again, 1, 9))
    screen.watch(RepeatEpoch(again, 3, 0.8812))
    with terminal.capture() as capture:
        terminal.print(screen.render())
    lines = [re.sub(r"\s+", " ", line).strip() for line in capture.get().splitlines()]
    assert "16/16 trials · 1/9 repeats" in lines[1]
    assert lines[2] == ("trial 7 fresh seed 2 of 3 34.1 % of dense FLOPs epoch 3/4 accuracy 0.8812")
    screen.watch(RepeatFinished(again, repeat(12, None, "non-finite loss"), 2, 9))
    assert "failed, non-finite loss" in terminal.file.getvalue()
