"""Flower's simulation on this machine: a SuperLink of its own, for as long as one run takes.

Flower runs the clients on Ray, several at a time. Its ``run_simulation``, which would do it in this
process, is deprecated in favour of ``flwr run``, and knows no run config.
"""

import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prunenas.errors import FederatedError
from prunenas.flower.launch import QUIET, Ran, SuperLink, command_of, submit
from prunenas.flower.request import Request

_START = 60.0  # seconds that a SuperLink may take to start; it takes 2
_STOP = 20.0  # seconds that it may take to stop


def simulate(
    request: Request, clients: int, *, log: Callable[[str], None] = lambda line: None
) -> Ran:
    """Run a training in Flower's simulation.

    Args:
        request: What to do.
        clients: How many there are.
        log: Told of each line that the run logs.

    Raises:
        FederatedError: Flower isn't installed or doesn't start, or the training failed.
    """
    with superlink("--simulation") as place:
        return submit(request, place, log=log, nodes=clients)


@contextmanager
def superlink(*options: str) -> Iterator[SuperLink]:
    """Start a SuperLink on this machine alone, and stop it and all that it started in the end.

    Args:
        options: Further ones of ``flower-superlink``.

    Raises:
        FederatedError: It doesn't start.
    """
    port = free_port()
    command = [
        *(command_of("flower-superlink"), "--insecure", "--host", "127.0.0.1"),
        *("--port", str(port), "--disable-runtime-dependency-installation", *options),
    ]
    with tempfile.TemporaryDirectory(prefix="prunenas-flower-") as home:
        said = Path(home) / "superlink.txt"
        folder = Path(command[0]).parent  # Flower looks for its other commands in PATH
        environment = {
            **os.environ,
            **QUIET,
            "FLWR_HOME": home,
            "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}",
        }
        with (
            said.open("wb") as output,
            subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for whoever waits; it then stops this
            ) as process,
        ):
            try:
                _wait_for(process, port, said)
                yield SuperLink(f"127.0.0.1:{port}", insecure=True)
            finally:
                _stop(process)


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def _wait_for(process: subprocess.Popen[bytes], port: int, said: Path) -> None:
    until = time.monotonic() + _START
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    told = " ".join(said.read_text(encoding="utf-8", errors="replace").split())
    raise FederatedError(f"Flower's SuperLink must start, but said: {told[-300:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a SuperLink; what it started sees that it is gone, and ends too."""
    process.terminate()
    try:
        process.wait(_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
