"""Flower's real processes for the tests: on this machine alone, and all gone in the end."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import flower_clients
import pytest

from prunenas.flower.launch import QUIET, SuperLink, command_of
from prunenas.flower.simulation import free_port, superlink

_MARK = "PRUNENAS_TEST_MARK"
_GONE = 20.0  # seconds that processes have to end by themselves


class Processes:
    """What a test started, and what that started: all inherit the mark in their environment."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        (folder / "home").mkdir()
        root = Path(__file__).resolve().parents[1]
        monkeypatch.setenv(_MARK, self.mark)
        monkeypatch.setenv("HOME", str(folder / "home"))
        monkeypatch.setenv("PYTHONPATH", str(root))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        monkeypatch.setenv("FLWR_SUPEREXEC_TASK_POLL_INTERVAL", "0.1")
        self._stack = ExitStack()
        self._commands: Path | None = None

    def superlink(self) -> SuperLink:
        return self._stack.enter_context(superlink())

    def supernode(self, place: SuperLink, client: int, of: int) -> subprocess.Popen[bytes]:
        """Start the node of a client."""
        environment = {
            **os.environ,
            **QUIET,
            "FLWR_HOME": str(self.folder / f"node{client}"),
            "PATH": f"{self._warm()}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        return self._start(
            *(command_of("flower-supernode"), "--insecure", "--superlink", place.address),
            *("--port", str(free_port())),
            *("--node-config", f"partition-id={client} num-partitions={of}"),
            output=f"node{client}.txt",
            environment=environment,
        )

    def kill(self, *names: str) -> None:
        """Kill the marked processes whose command holds one of the names."""
        for number in self.alive():
            if any(name in _command(number) for name in names):
                os.kill(number, signal.SIGKILL)

    def alive(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if f"{_MARK}={self.mark}".encode() in environment.split(b"\0"):
                found.append(int(entry.name))
        return found

    def close(self) -> list[str]:
        """Stop everything; the commands of what had to be killed."""
        self._stack.close()
        self.kill("flower_clients.py")  # the tests' own stand-ins, amid a retry perhaps
        until = time.monotonic() + _GONE
        while self.alive() and time.monotonic() < until:
            time.sleep(0.2)
        left = self.alive()
        told = [_command(number) for number in left]
        for number in left:
            os.kill(number, signal.SIGKILL)
        return told

    def _warm(self) -> Path:
        """Start the process that client apps are forked from; the folder of their command."""
        if self._commands is None:
            self._commands = self.folder / "commands"
            self._commands.mkdir()
            pipe = flower_clients.write_command(self._commands)
            process = self._start(
                *(sys.executable, flower_clients.__file__, str(pipe)),
                output="clients.txt",
                environment={**os.environ, **QUIET, "FLWR_HOME": str(self.folder / "clients")},
            )
            until = time.monotonic() + 60
            while "ready" not in (self.folder / "clients.txt").read_text(encoding="utf-8"):
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.1)
        return self._commands

    def _start(
        self, *command: str, output: str, environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        with (self.folder / output).open("wb") as file:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)
        return process


@contextmanager
def processes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    """Give a test its processes; nothing of them is left, and nothing in the home folder."""
    started = Processes(folder, monkeypatch)
    try:
        yield started
    finally:
        left = started.close()
    assert not left, left
    at_home = [str(path) for path in (folder / "home").rglob("*") if path.is_file()]
    assert not at_home, at_home


def _command(number: int) -> str:
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
