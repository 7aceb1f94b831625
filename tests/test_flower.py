"""The Flower app in its simulation and over real SuperNodes, against the plain loop."""

import shutil
import threading
from pathlib import Path

import pytest
import torch

pytest.importorskip("flwr", reason="Flower isn't installed: pip install 'prunenas[federated]'")
pytest.importorskip("ray", reason="Ray isn't installed: pip install 'prunenas[federated]'")

import flower_malice
from flower_processes import Processes, processes

from prunenas.errors import FederatedError
from prunenas.federated import FederatedRun, Setting, federate
from prunenas.flower.launch import SuperLink, app_folder, submit
from prunenas.flower.outcome import CHECKPOINT, Outcome
from prunenas.flower.request import Place, Request
from prunenas.flower.simulation import simulate

pytestmark = pytest.mark.slow

STUDY = """
name: tiny
model: {{name: lenet_300_100}}
data: {{name: mnist5k, validation: 0.2, train_limit: 300}}
federation:
  clients: {clients}
  partition: {{kind: dirichlet, alpha: 0.5}}
  rounds: {rounds}
  updates: 2
  batch_size: 10
  evaluate_every: 2
strategies: [{{name: prunefl, with: {{interval: 2, initial: {initial}}}}}]
"""
BRIEF = "{passes: 20, interval: 5}"
ALL = 266_200  # weights of lenet_300_100 (28·28·300 + 300·100 + 100·10)
BIASES = 410


def request(
    folder: Path, clients: int, rounds: int, timeout: float = 300.0, initial: str = BRIEF
) -> Request:
    study = STUDY.format(clients=clients, rounds=rounds, initial=initial)
    return Request(study, "prunefl", 0, str(folder / "out"), timeout=timeout)


def setting_of(asked: Request) -> Setting:
    return Place(asked).setting


def check_same(found: FederatedRun, plain: FederatedRun) -> None:
    assert found.mask_digest == plain.mask_digest
    assert found.masks.keys() == plain.masks.keys()
    assert all(torch.equal(found.masks[name], plain.masks[name]) for name in plain.masks)
    assert found.weights.keys() == plain.weights.keys()
    assert all(torch.equal(found.weights[name], plain.weights[name]) for name in plain.weights)
    assert found.history == plain.history


def check_bytes(outcome: Outcome, clients: int) -> None:
    """Four bytes for each weight that is kept: no more than that, where no masks are sent."""
    reports = outcome.run.history.reports
    dense = 4 * (ALL + BIASES)
    assert reports[0].density == 1.0
    assert reports[0].sent == dense + -(-ALL // 8)  # masks of all bits, to one client
    for report in reports[2::2]:  # the second round with the same masks
        payload = 4 * (sum(report.kept.values()) + BIASES)
        assert report.sent == clients * payload
        assert report.sent < 1.1 * clients * dense * max(report.density, 0.01)
    for report in reports[1::2]:  # no squared gradients are asked for
        assert report.received == clients * 4 * (sum(report.kept.values()) + BIASES)
    # Flower puts 128 bytes before each of 6 tensors, 3 masks, 3 squared gradients.
    for report, wire in zip(reports, outcome.wire, strict=True):
        for payload, carried in ((report.sent, wire.sent), (report.received, wire.received)):
            assert payload < carried <= payload + clients * 9 * 128


def test_the_simulation_gives_the_plain_loops_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(tmp_path, clients=3, rounds=4)
    with processes(tmp_path, monkeypatch):
        ran = simulate(asked, 3)
    check_same(ran.outcome.run, federate(setting_of(asked)))
    check_bytes(ran.outcome, 3)
    assert not (tmp_path / "out" / CHECKPOINT).exists()


def killed_amid(asked: Request, place: SuperLink, started: Processes, line: str) -> None:
    """Have the server's process killed, and whoever waits for it, when it logs a line."""

    def log(told: str) -> None:
        if line in told:
            started.kill("flwr-serverapp", "flwr run")

    with pytest.raises(FederatedError, match="the log of run"):
        submit(asked, place, log=log)


def test_supernodes_give_the_plain_loops_figures_though_the_server_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(tmp_path, clients=3, rounds=4)
    told: list[str] = []
    with processes(tmp_path, monkeypatch) as started:
        place = started.superlink()
        for client in range(3):
            started.supernode(place, client, of=3)
        killed_amid(asked, place, started, "[ROUND 3/4]")
        assert (tmp_path / "out" / CHECKPOINT).exists()
        ran = submit(asked, place, log=told.append)
    assert any("Going on after round 2" in line for line in told)
    check_same(ran.outcome.run, federate(setting_of(asked)))
    check_bytes(ran.outcome, 3)
    # What Flower itself has counted on the way, of the second run: it doesn't carry again what the
    # killed run has brought of round 3.
    third, fourth = ran.outcome.wire[3:]
    both = third.sent + fourth.sent
    assert fourth.sent <= ran.traffic.to_nodes <= 1.1 * both + 100_000
    both = third.received + fourth.received
    assert fourth.received <= ran.traffic.from_nodes <= 1.1 * both + 100_000


def test_a_killed_client_comes_back_and_a_bad_one_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(tmp_path, clients=4, rounds=6, timeout=60.0, initial="null")
    app = app_folder(tmp_path / "app", client="malice:app")
    shutil.copy(flower_malice.__file__, app / "malice.py")
    once = threading.Event()
    with processes(tmp_path, monkeypatch) as started:
        place = started.superlink()
        for client in range(4):
            started.supernode(place, client, of=4)

        def log(told: str) -> None:
            print(told)
            if "[ROUND 3/6]" in told and not once.is_set():
                once.set()
                started.kill("partition-id=3")
                started.supernode(place, 3, of=4)

        outcome = submit(asked, place, log=log, app=app).outcome
    reports = {report.round: report for report in outcome.run.history.reports}
    refused = {number: report.refused for number, report in reports.items()}
    for number, words in {
        1: "client 2: the change of classifier.4.bias must be float32 of (10,)",
        2: "client 2: the change of classifier.4.bias must be finite",
        3: "client 2: the norm of its change must be at most",
        4: "client 2: must have the masks",
        5: "client 2: classifier.4.bias must be an array",
    }.items():
        assert refused[number].keys() == {flower_malice.BAD}
        assert refused[number][flower_malice.BAD].startswith(words)
    assert refused[6] == {}
    missed = {number: report.failed[3] for number, report in reports.items() if report.failed}
    assert missed.keys() <= {3, 4, 5}, missed
    assert missed
    # Whichever comes first: the end of the round, or of Flower's patience with a silent node.
    assert all(
        why == "has not answered in 60 s" or "Node Unavailable" in why for why in missed.values()
    )
    assert reports[6].replied == (0, 1, 2, 3)
    check_same_weights(outcome.run, setting_of(asked))


def check_same_weights(run: FederatedRun, setting: Setting) -> None:
    """The core alone, with the updates that were used, comes to the same."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        server, clients, network = setting.server(), list(setting.clients()), setting.network()
        for report in run.history.reports:
            updates = [clients[n].work(server.task(n), network) for n in report.replied]
            for client in report.refused:  # it did the work, and keeps its sums
                clients[client].work(server.task(client), network)
            for client in report.failed:
                clients[client] = setting.clients()[client]  # it knows nothing of before
            if report.round == 0:
                server.begin(updates[0])
            else:
                server.finish(updates)
    finally:
        torch.set_num_threads(threads)
    assert run.mask_digest == server.packing.digest
    state = server.network_state()
    assert all(torch.equal(run.weights[name], state[name]) for name in state)
