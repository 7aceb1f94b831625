"""What people see of a study: lines in a pipe, the live screen, tables."""

import io

import pytest
from cli_samples import DENSE_FLOPS, MASKED, infeasible, record, view

from prunenas.cli import tables, units
from prunenas.cli.console import console
from prunenas.cli.lines import Lines
from prunenas.cli.live import Screen
from prunenas.cli.progress import Progress
from prunenas.cli.studies import summary
from prunenas.places import address
from prunenas.search.events import (
    DenseEpoch,
    FrontChanged,
    StudyFinished,
    StudyStarted,
    TrialEpoch,
    TrialFinished,
    TrialStarted,
)

FIRST = record(0, accuracy=0.95125, flops_ratio=0.341, seconds=8.0)
SMALL = record(2, accuracy=0.9, flops_ratio=0.12, method="network_slimming")

EVENTS = [
    StudyStarted("demo", 0, 3, 4, DENSE_FLOPS, False),
    DenseEpoch("dense network", 1, 4, 0.9123),
    TrialStarted(0, "l1_norm", 1_270_550, 0.341, 4),
    TrialEpoch(0, 1, 4, 0.8812),
    TrialFinished(FIRST),
    FrontChanged((FIRST,)),
    TrialFinished(infeasible(1)),
    TrialStarted(2, "network_slimming", 447_114, 0.12, 1),
    TrialFinished(SMALL),
    FrontChanged((SMALL, FIRST)),
    StudyFinished(view(FIRST, infeasible(1), SMALL, front=(SMALL, FIRST), finished=True)),
]

LINES = """\
demo: 3 trials over 4 channel groups, dense network 3.73 M FLOPs
dense network: epoch 1/4, accuracy 0.9123
trial 0: l1_norm, 34.1 % of dense FLOPs, 4 epochs
trial 0: epoch 1/4, accuracy 0.8812
trial 0: complete, accuracy 0.9513, 34.1 % of dense FLOPs, 8 s [1/3, about 16 s left]
front: 1 architecture, best accuracy 0.9513, smallest 34.1 % of dense FLOPs
trial 1: infeasible, 0 s, no widths meet the budget [2/3, about 4 s left]
trial 2: network_slimming, 12.0 % of dense FLOPs, 1 epoch
trial 2: complete, accuracy 0.9000, 12.0 % of dense FLOPs, 8 s [3/3]
front: 2 architectures, best accuracy 0.9513, smallest 12.0 % of dense FLOPs
demo: finished, 2 complete, 1 infeasible
"""


def test_in_a_pipe_each_event_is_a_line():
    written = []
    with Lines(Progress("demo", lambda: 0.0), written.append) as lines:
        for event in EVENTS:
            lines.watch(event)
    assert written == LINES.splitlines()


def test_a_resumed_study_says_so():
    written = []
    Lines(Progress(), written.append).watch(StudyStarted("demo", 7, 16, 4, DENSE_FLOPS, True))
    assert written[1] == "demo: resumed, 7 of them done"


def test_a_methods_search_is_told_by_its_steps():
    written = []
    Lines(Progress(), written.append).watch(DenseEpoch("netadapt", 2, 10, 0.8, unit="step"))
    assert written == ["netadapt: step 2/10, accuracy 0.8000"]


def test_warnings_of_a_pipe_go_to_stderr(capsys):
    Lines(Progress()).warn("tracking is out of reach")
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "warning: tracking is out of reach\n")


@pytest.fixture
def terminal():
    return console(file=io.StringIO(), force_terminal=True, width=100, height=24, color_system=None)


def drawn(terminal, part):
    with terminal.capture() as capture:
        terminal.print(part)
    return [line.rstrip() for line in capture.get().splitlines()]


def screen(terminal, events):
    shown = Screen(
        Progress("demo", lambda: 0.0), "accuracy ↑ FLOPs ↓", "sqlite:///demo.db", terminal
    )
    for event in events:
        shown.watch(event)
    return shown


def test_before_the_first_event_the_screen_says_what_it_prepares(terminal):
    lines = drawn(terminal, screen(terminal, []).render())
    assert lines[0] == "demo · accuracy ↑ FLOPs ↓ · sqlite:///demo.db"
    assert lines[1].endswith("preparing")
    assert len(lines) == 2


def test_the_screen_shows_progress_running_trial_counts_and_front(terminal):
    lines = drawn(terminal, screen(terminal, EVENTS[:8]).render())
    assert "2/3 trials" in lines[1]
    assert "about" in lines[1]
    assert lines[2].split() == [
        "trial",
        "2",
        "network_slimming",
        "12.0",
        "%",
        "of",
        "dense",
        "FLOPs",
        "epoch",
        "0/1",
    ]
    assert lines[3] == "1 complete · 1 infeasible"
    assert lines[-1].split()[:4] == ["0.9513", "1.27", "M", "34.1"]
    assert lines[-1].split()[-2:] == ["l1_norm", "0"]


def test_the_screen_shows_the_dense_training(terminal):
    lines = drawn(terminal, screen(terminal, EVENTS[:2]).render())
    assert lines[2].split() == ["dense", "network", "epoch", "1/4", "accuracy", "0.9123"]


def test_the_screen_ends_with_the_finished_study(terminal):
    lines = drawn(terminal, screen(terminal, EVENTS).render())
    assert lines[1].startswith("✓")
    assert lines[1].endswith("3/3 trials finished")
    assert lines[2] == "2 complete · 1 infeasible"


def test_a_trial_without_figures_leaves_a_line_above_the_screen(terminal):
    screen(terminal, EVENTS[:7])
    assert "trial 1: infeasible, 0 s, no widths meet the budget" in terminal.file.getvalue()


def test_a_long_front_fits_on_the_screen(terminal):
    many = tuple(record(n, accuracy=0.5 + n / 100, flops_ratio=0.1 + n / 100) for n in range(40))
    shown = screen(
        terminal, [StudyStarted("demo", 0, 99, 4, DENSE_FLOPS, False), FrontChanged(many)]
    )
    lines = drawn(terminal, shown.render())
    assert len(lines) <= terminal.height
    assert "0.8900" in lines[5]  # the most accurate one comes first
    assert lines[-1].strip() == "and 30 smaller"


def test_names_with_brackets_are_shown_as_they_are(terminal):
    odd = record(0, method="[bold]l1[/]", state="failed", reason="[red]x[/red]", accuracy=None)
    screen(terminal, [TrialFinished(odd)])
    assert "[red]x[/red]" in terminal.file.getvalue()
    assert "[bold]l1[/]" in "\n".join(drawn(terminal, tables.front([odd])))


def test_the_front_is_sorted_by_accuracy_and_ties_by_flops(terminal):
    tie = record(5, accuracy=SMALL.accuracy, flops_ratio=0.5)
    lines = drawn(terminal, tables.front([tie, SMALL, FIRST]))
    assert [line.split()[-1] for line in lines[2:]] == ["0", "2", "5"]


def test_a_density_is_shown_where_there_are_masks(terminal):
    sparse = record(7, accuracy=0.99, method="magnitude", architecture=MASKED)
    study = view(sparse, FIRST, front=(sparse, FIRST))
    table = tables.front(study.front)
    table.add_row(*tables.dense_row(study))
    header, _, first, second, dense = drawn(terminal, table)
    assert "params   density   method" in header
    assert "30.0 %   magnitude" in first
    assert "–   l1_norm" in second
    assert "100.0 %   dense network" in dense
    assert "density" not in drawn(terminal, tables.front([FIRST]))[0]


def test_a_password_is_never_shown():
    assert address("postgresql://ada:a/b@c@host/db") == "postgresql://ada:***@host/db"
    assert address("postgresql://host/db?user=ada&password=s") == (
        "postgresql://host/db?user=ada&password=***"
    )
    assert address("postgresql://ada:s3:cr@et@host/db") == "postgresql://ada:***@host/db"
    assert address("postgresql://ada@host/db") == "postgresql://ada@host/db"
    assert address("sqlite:///a:b@c.db") == "sqlite:///a:b@c.db"
    shown = summary(view(storage="postgresql://ada:secret@host/db"))
    assert "secret" not in str(shown)


def test_an_objective_reads_as_a_sentence():
    assert tables.objective({"maximize": "accuracy", "minimize": "flops"}) == "accuracy ↑ FLOPs ↓"
    budget = {"maximize": "accuracy", "minimize": None, "flops_ratio": 0.5}
    assert tables.objective(budget) == "accuracy ↑ at 50.0 % of dense FLOPs"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (9_994, "9.99 k"),
        (9_996, "10.0 k"),
        (99_960, "100 k"),
        (999_700, "1.00 M"),
        (40_551_040, "40.6 M"),
        (313_201_664, "313 M"),
        (4_089_184_256, "4.09 G"),
        (None, "–"),
    ],
)
def test_counts_have_three_digits(number, words):
    assert units.count(number) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 00 s"),
        (192, "3 min 12 s"),
        (3599.7, "1 h 00 min"),
        (7_500, "2 h 05 min"),
        (180_000, "2 d 02 h"),
        (None, "–"),
    ],
)
def test_durations_have_two_units(seconds, words):
    assert units.duration(seconds) == words
