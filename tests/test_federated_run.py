"""Whole trainings in one process: the same again, interrupted, read back, and never done twice."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from federated_networks import BYTE, same, setting

from prunenas.cache import Cache
from prunenas.federated import Client, FederatedRun, History, Point, Setting, Update, federate
from prunenas.federated import run as module
from prunenas.federated.kept import kept_run, run_key
from prunenas.federated.packing import Packing
from prunenas.training import evaluate

INITIAL = {"passes": 12, "interval": 4, "batches": 2}
PRUNEFL = {"interval": 3, "initial": INITIAL}
Making = Callable[..., Setting]


def pruned(**more: Any) -> Setting:
    whole: dict[str, Any] = {"seconds": 1e-2, "rounds": 8, "evaluate_every": 1, **more}
    return setting("prunefl", PRUNEFL, **whole)


def randomly(**more: Any) -> Setting:
    """With dropout and batch normalisation, and not everybody in each round."""
    federation = {"clients": 4, "participants": 2, "partition": "shards", **more}
    return pruned(network="convolutional", arguments={"dropout": 0.3}, **federation)


def snipped(**more: Any) -> Setting:
    whole: dict[str, Any] = {"rounds": 8, "evaluate_every": 1, **more}
    return setting("snip", {"density": 0.3}, **whole)


def same_run(one: FederatedRun, other: FederatedRun) -> bool:
    return (
        one.history == other.history
        and one.mask_digest == other.mask_digest
        and same(one.masks, other.masks)
        and same(one.weights, other.weights)
    )


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("make", [pruned, randomly])
@pytest.mark.usefixtures("threads")
def test_the_same_setting_gives_the_same_whatever_the_threads(make: Making) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    torch.set_num_threads(1)
    one = federate(make())
    assert torch.get_num_threads() == 1
    torch.set_num_threads(2)
    other = federate(make())
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), state)
    assert one.mask_digest == other.mask_digest
    assert same(one.masks, other.masks)
    assert same(one.weights, other.weights)
    assert one.history.reports == other.history.reports
    unlike = federate(make(seed=1))
    assert unlike.mask_digest != one.mask_digest
    assert not same(unlike.weights, one.weights)


def test_a_run_says_what_it_did() -> None:
    given = pruned(evaluate_every=3)
    told: list[Point] = []
    rounds: list[int] = []
    run = federate(given, watch=told.append, rounds=rounds.append)
    history = run.history
    assert told == history.points
    assert rounds == list(range(9))
    assert [report.round for report in history.reports] == list(range(9))
    assert [report.round for report in history.reports if report.reconfigured] == [0, 3, 6]
    assert [point.round for point in history.points] == [3, 6, 8]
    assert not run.stopped
    assert not history.troubles()
    for point in history.points:
        past = [report for report in history.reports if report.round <= point.round]
        assert point.seconds == pytest.approx(sum(report.seconds for report in past))
        assert point.sent == sum(report.sent for report in past)
        assert point.received == sum(report.received for report in past)
    last = history.points[-1]
    assert (history.sent, history.received) == (last.sent, last.received)
    assert history.seconds == pytest.approx(last.seconds)
    kept = sum(int(mask.sum()) for mask in run.masks.values())
    assert last.density == kept / sum(mask.numel() for mask in run.masks.values())
    network = given.network()
    network.load_state_dict(run.weights, strict=False)
    metrics = evaluate(network, given.data.validation)
    assert (metrics.accuracy, metrics.loss) == pytest.approx((last.accuracy, last.loss))
    for name, mask in run.masks.items():
        assert torch.equal(run.weights[name][~mask], torch.zeros(int((~mask).sum())))
    # Learnt something, and every weight that is kept takes its seconds.
    assert last.accuracy > 0.3
    report = history.reports[-1]
    assert report.seconds == pytest.approx(1 + 1e-2 * sum(report.kept.values()))
    assert history.reports[1].seconds > 1 + 1e-2 * sum(history.reports[1].kept.values())
    assert history.reports[1].seconds == pytest.approx(
        1
        + 1e-2 * sum(history.reports[1].kept.values())
        + BYTE * sum(-(-mask.numel() // 8) for mask in run.masks.values())
    )


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints after each round, whatever they take."""
    monkeypatch.setattr(module, "_PATIENCE", 0.0)
    monkeypatch.setattr(module, "_SHARE", 0.0)


class Worked(list[tuple[int, int]]):
    """Rounds and clients that were worked on, and what happens at one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.at: tuple[int, int] | None = None
        self.happens: Callable[[], None] = lambda: None


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> Worked:
    seen = Worked()
    work = Client.work

    def noting(self: Client, task: Any, network: Any) -> Update:
        seen.append((task.round, self.number))
        if (task.round, self.number) == seen.at:
            seen.happens()
        return work(self, task, network)

    monkeypatch.setattr(Client, "work", noting)
    return seen


def stops_after(number: int) -> Callable[[Point], bool]:
    return lambda point: point.round >= number


@pytest.mark.parametrize("make", [pruned, randomly, snipped])
def test_a_training_that_is_stopped_goes_on_as_if_it_had_not(
    make: Making, tmp_path: Path, worked: Worked
) -> None:
    whole = federate(make())
    everything = sorted(worked)
    worked.clear()
    path = tmp_path / "run.pt"
    for number in (1, 2, 3, 5, 8):  # between reconfigurations too
        part = federate(make(), checkpoint=path, watch=stops_after(number))
        assert part.stopped == (number < 8)
        assert part.history.points == whole.history.points[:number]
    assert same_run(part, whole)
    assert sorted(worked) == everything  # nothing twice
    assert whole.history.reports[-1].density < 0.95


def ctrl_c() -> None:
    """As the terminal sends it: the main thread gets it, wherever this one is."""
    threading.Event().wait(0.05)  # until all clients are told, and it waits
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(0.05)


def test_ctrl_c_in_the_last_round_has_a_whole_training_to_go_on_from(
    tmp_path: Path, worked: Worked
) -> None:
    """Which is too short for any other checkpoint."""
    path = tmp_path / "run.pt"
    worked.at, worked.happens = (8, 0), ctrl_c
    with pytest.raises(KeyboardInterrupt):
        federate(pruned(), checkpoint=path)
    worked.clear()
    worked.at = None
    run = federate(pruned(), checkpoint=path)
    assert not worked
    assert not run.stopped
    assert same_run(run, federate(pruned()))


def raised() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("happens", [ctrl_c, raised])
@pytest.mark.parametrize("at", [(0, 0), (1, 2), (3, 0), (5, 1), (8, 2)])
@pytest.mark.usefixtures("always")
def test_ctrl_c_amid_a_clients_work_loses_nothing(
    at: tuple[int, int], happens: Callable[[], None], tmp_path: Path, worked: Worked
) -> None:
    whole = federate(pruned())
    worked.clear()
    worked.at, worked.happens = at, happens
    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        federate(pruned(), checkpoint=path)
    assert torch.get_num_threads() >= 1
    worked.at = None
    again: list[Point] = []
    run = federate(pruned(), checkpoint=path, watch=again.append)
    assert same_run(run, whole)
    assert again == whole.history.points
    # At most the round that was interrupted is done again.
    assert len(worked) <= 1 + 8 * 3 + 3
    assert threading.active_count() == 1 or not any(
        thread.name.startswith("ThreadPool") for thread in threading.enumerate()
    )


@pytest.mark.parametrize("number", [0, 2, 3, 4])
@pytest.mark.usefixtures("always")
def test_ctrl_c_between_rounds_loses_at_most_one(number: int, tmp_path: Path) -> None:
    def interrupt(done: int) -> None:
        if done == number:
            raise KeyboardInterrupt

    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        federate(randomly(), rounds=interrupt, checkpoint=path)
    torch.manual_seed(8)  # whatever else drew random numbers in between
    assert same_run(federate(randomly(), checkpoint=path), federate(randomly()))


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_federated_run import randomly
from prunenas.federated import federate
run = federate(randomly(), checkpoint=Path(sys.argv[2]))
print(run.mask_digest, sum(float(w.double().sum()) for w in run.weights.values()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 3, 7])
def test_another_process_goes_on_from_the_file(number: int, tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    whole = federate(randomly())
    federate(randomly(), checkpoint=path, watch=stops_after(number))
    there = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(path)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    total = sum(float(weight.double().sum()) for weight in whole.weights.values())
    assert there == f"{whole.mask_digest} {total}\n"


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [flipped, lambda content: content[:-10], lambda content: b"", lambda content: b"?" * 90],
)
def test_a_damaged_checkpoint_is_as_good_as_none(
    damage: Callable[[bytes], bytes], tmp_path: Path, worked: Worked
) -> None:
    path = tmp_path / "run.pt"
    federate(snipped(), checkpoint=path, watch=stops_after(4))
    path.write_bytes(damage(path.read_bytes()))
    worked.clear()
    run = federate(snipped(), checkpoint=path)
    assert worked[0][0] == 1
    assert same_run(run, federate(snipped()))


@pytest.mark.parametrize("other", [{"seed": 1}, {"lr": 0.2}, {"constant": 2.0}, {"make": pruned}])
def test_another_settings_checkpoint_is_not_taken(
    other: dict[str, Any], tmp_path: Path, worked: Worked
) -> None:
    path = tmp_path / "run.pt"
    make = other.pop("make", snipped)
    federate(make(**other), checkpoint=path, watch=stops_after(4))
    worked.clear()
    run = federate(snipped(), checkpoint=path)
    assert worked[0][0] == 1
    assert same_run(run, federate(snipped()))


@pytest.mark.parametrize("make", [pruned, randomly])
def test_a_history_comes_back_from_json(make: Making) -> None:
    run = federate(make())
    history = run.history
    report = history.reports[2]
    history.reports[2] = type(report)(
        **{**vars(report), "failed": {3: "gone"}, "refused": {11: "odd", 2: "odd"}}
    )
    again = History.from_dict(json.loads(json.dumps(history.to_dict(), allow_nan=False)))
    assert again == history
    assert again.troubles() == {3: ["gone"], 11: ["odd"], 2: ["odd"]}
    assert isinstance(again.reports[0].replied, tuple)


def test_a_training_that_is_kept_is_not_done_again(tmp_path: Path, worked: Worked) -> None:
    cache = Cache(tmp_path)
    first = kept_run(pruned(), cache)
    assert len(worked) == 1 + 8 * 3
    worked.clear()
    told: list[Point] = []
    rounds: list[int] = []
    second = kept_run(pruned(), Cache(tmp_path), watch=told.append, rounds=rounds.append)
    assert same_run(first, second)
    assert list(first.masks) == list(second.masks)
    assert told == first.history.points
    assert (worked, rounds) == ([], [8])
    assert not list((tmp_path / "unfinished").glob("*.pt"))
    for other in (pruned(seed=1), pruned(lr=0.2), pruned(constant=2.0), snipped()):
        assert run_key(other) != run_key(pruned())
    part = kept_run(pruned(), cache, watch=stops_after(3))
    assert part.stopped
    assert [point.round for point in part.history.points] == [1, 2, 3]
    assert part.history.reports == first.history.reports[:4]


def test_a_training_that_is_interrupted_is_taken_up_where_it_was(
    tmp_path: Path, worked: Worked
) -> None:
    cache = Cache(tmp_path)
    whole = federate(pruned())
    assert kept_run(pruned(), cache, watch=stops_after(4)).stopped
    assert not cache.keys("federated")
    worked.clear()
    worked.at, worked.happens = (6, 1), ctrl_c
    with pytest.raises(KeyboardInterrupt):
        kept_run(pruned(), cache)
    worked.at = None
    assert same_run(kept_run(pruned(), cache), whole)
    assert min(number for number, _ in worked) == 5
    assert len(worked) <= 4 * 3 + 3
    assert len(cache.keys("federated")) == 1


def test_masks_survive_their_bits() -> None:
    random = torch.Generator().manual_seed(0)
    masks = {
        str(size): torch.rand(size, 3, generator=random) < 0.4 for size in (1, 2, 5, 8, 11, 16)
    }
    packing = Packing.of(masks)
    bits = packing.bits()
    for name, row in bits.items():
        flat = masks[name].flatten().tolist()
        expected = [
            sum(kept << (7 - place) for place, kept in enumerate(flat[start : start + 8]))
            for start in range(0, len(flat), 8)
        ]
        assert row.tolist() == expected
    shapes = {name: mask.shape for name, mask in masks.items()}
    again = Packing.from_bits(dict(reversed(bits.items())), shapes)
    assert again.digest == packing.digest
    assert same(again.masks, masks)
    masks["2"][0, 0] ^= True
    assert Packing.of(masks).digest != packing.digest
