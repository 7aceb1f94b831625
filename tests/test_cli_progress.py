"""Events folded into a state, and the time a study still needs, by hand."""

import pytest
from cli_samples import DENSE_FLOPS, infeasible, record, view

from prunenas.cli.progress import Progress, time_left
from prunenas.search.events import (
    DenseEpoch,
    FrontChanged,
    StudyFinished,
    StudyStarted,
    TrialEpoch,
    TrialFinished,
    TrialPaused,
    TrialStarted,
)


class Clock:
    """Seconds that stand still until they are set."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def progress(clock):
    return Progress("demo", clock)


def begin(progress, total=10, done=0):
    progress.update(StudyStarted("demo", done, total, 4, DENSE_FLOPS, done > 0))


def test_nothing_is_known_at_the_start(progress):
    begin(progress)
    assert progress.seconds_left() is None
    progress.update(TrialStarted(0, "l1_norm", 100, 0.5, 4))
    assert progress.seconds_left() is None


def test_the_first_epoch_of_the_first_trial_gives_the_pace(progress, clock):
    begin(progress, total=10)
    progress.update(TrialStarted(0, "l1_norm", 100, 0.5, 4))
    clock.now += 3
    progress.update(TrialEpoch(0, 1, 4, 0.8))
    # An epoch takes 3 s, a trial 12 s: nine more of them, and three epochs of this one.
    assert progress.seconds_left() == pytest.approx(9 * 12 + 9)
    clock.now += 2
    assert progress.seconds_left() == pytest.approx(9 * 12 + 7)


def test_finished_trials_give_the_mean_told_ones_among_them(progress, clock):
    begin(progress, total=10)
    progress.update(TrialFinished(record(0, seconds=10.0, epochs=5)))
    progress.update(TrialFinished(infeasible(1)))
    assert progress.seconds_left() == pytest.approx(8 * 5.0)
    progress.update(TrialStarted(2, "l1_norm", 100, 0.5, 3))
    # Before its first epoch: 2 s an epoch as in trial 0, three epochs.
    assert progress.seconds_left() == pytest.approx(7 * 5.0 + 6.0)
    clock.now += 60  # far slower than thought: never below nothing
    assert progress.seconds_left() == pytest.approx(7 * 5.0)


def test_a_resumed_study_counts_what_is_done(progress):
    begin(progress, total=10, done=7)
    progress.update(TrialFinished(record(7, seconds=4.0)))
    assert progress.done == 8
    assert progress.seconds_left() == pytest.approx(2 * 4.0)
    assert progress.counts == {"done before": 7, "complete": 1}


def test_trials_run_side_by_side(progress):
    begin(progress)
    for number in (0, 1):
        progress.update(TrialStarted(number, "l1_norm", 100, 0.5, 4))
    progress.update(TrialEpoch(1, 2, 4, 0.7))
    progress.update(TrialFinished(record(0)))
    assert [(trial.number, trial.epoch) for trial in progress.running.values()] == [(1, 2)]
    progress.update(TrialEpoch(9, 1, 4, 0.7))  # of a trial nobody has announced
    assert list(progress.running) == [1]


def test_trainings_that_trials_rest_on_are_shown_until_they_end(progress):
    begin(progress)
    progress.update(DenseEpoch("dense network", 2, 4, 0.9))
    progress.update(DenseEpoch("sparse network", 1, 4, 0.9))  # another worker's
    assert [(t.what, t.epoch) for t in progress.dense.values()] == [
        ("dense network", 2),
        ("sparse network", 1),
    ]
    progress.update(DenseEpoch("dense network", 4, 4, 0.9))
    assert list(progress.dense) == ["sparse network"]
    progress.update(TrialFinished(infeasible(0)))
    assert not progress.dense


def test_workers_share_the_time_that_is_left(progress):
    progress.update(StudyStarted("demo", 0, 9, 4, DENSE_FLOPS, False, workers=4))
    progress.update(TrialFinished(record(0, seconds=8.0)))
    assert progress.seconds_left() == 8 * 8.0 / 4


def test_a_trial_that_pauses_counts_with_the_time_it_took_so_far(progress):
    begin(progress, total=3)
    for paused in (record(0, seconds=2.0), record(1, seconds=4.0), record(0, seconds=6.0)):
        progress.update(TrialStarted(paused.number, "l1_norm", 100, 0.5, 4))
        progress.update(TrialPaused(paused))
    assert not progress.running
    assert progress.done == 0
    assert progress.seconds_left() == 3 * (6.0 + 4.0) / 2


def test_the_end_has_the_whole_study(progress):
    begin(progress, total=2, done=1)
    best = record(1)
    progress.update(FrontChanged((best,)))
    progress.update(StudyFinished(view(record(0), best, front=(best,), finished=True)))
    assert progress.finished
    assert progress.counts == {"complete": 2}
    assert progress.front == (best,)


def test_time_left_of_a_study_at_rest():
    assert time_left(view()) is None
    assert time_left(view(record(0, seconds=8.0), record(1, seconds=4.0))) == pytest.approx(14 * 6)
    assert time_left(view(record(0), finished=True)) == 0
