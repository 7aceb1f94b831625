"""Fixtures that several rooms' tests share."""

import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from quickstart import Quickstart, main_job

# A shell that starts the tests in the background makes them ignore Ctrl-C, and every process that
# they start with them; some of those are asked to answer it.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Of two threads each, processes that test side by side would slow each other down badly.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.pop("COLUMNS", None)  # which would wrap what tests read in pipes
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


# Files whose slow tests take minutes, longest first: one that a process begins last is waited for.
LONGEST = (
    "test_search_faults.py",
    "test_networks_table.py",
    "test_methods_targets.py",
    "test_search_workers.py",
    "test_flower.py",
    "test_methods_exactness.py",
    "test_architecture_families.py",
    "test_models_traced.py",
    "test_search_savings.py",
    "test_readme.py",
    "test_evidence_compare.py",
    "test_methods_study.py",
    "test_masks_everywhere.py",
    "test_search_study.py",
    "test_search_store.py",
    "test_cli_train.py",
    "test_quickstart.py",
    "test_export_fuzz.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, in the order in which ``--dist loadfile`` hands them out."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], str]]:
    """Serves a folder over HTTP on the loopback address; gives its URL, without a last slash."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers: list[ThreadingHTTPServer] = []

    def start(folder: Path) -> str:
        server = ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many steps SGD has done in this process, in its one element."""
    counted = [0]
    step = torch.optim.SGD.step

    def counting(self: torch.optim.SGD, *arguments: Any, **named: Any) -> Any:
        counted[0] += 1
        return step(self, *arguments, **named)

    monkeypatch.setattr(torch.optim.SGD, "step", counting)
    return counted


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Quickstart:
    """The main job's folder after its run; minutes, so tests that take it are marked slow."""
    return main_job(tmp_path_factory.mktemp("quickstart"))
