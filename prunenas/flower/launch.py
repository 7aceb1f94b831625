"""Runs of the Flower app: handed to a SuperLink by Flower's own command, ``flwr``.

Nothing is left behind: ``flwr`` gets a home folder for as long as a command takes.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunenas.errors import FederatedError
from prunenas.flower.outcome import Outcome
from prunenas.flower.request import Request
from prunenas.version import __version__

_NAME = "here"  # of the connection, in the home folder's configuration
_FRAME = re.compile("[\u2500-\u257f]+")  # lines that Flower draws round its errors
_APP = """\
[project]
name = "prunenas"
version = "{version}"
description = "Federated training on masked networks; prunenas itself is installed on every node"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "prunenas"

[tool.flwr.app.components]
serverapp = "{server}"
clientapp = "{client}"

[tool.flwr.app.config]
study = ""
strategy = ""
seed = 0
output = ""
density = 0.0
timeout = 600.0
wait = 60.0
"""

QUIET: Mapping[str, str] = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""What keeps Flower's and Ray's processes from calling home."""


@dataclass(frozen=True)
class SuperLink:
    """Where a SuperLink is.

    Attributes:
        address: ``host:port`` of its HTTP API.
        insecure: Whether it is reached without TLS.
        certificates: File of the certificate authority that its certificate is checked by; the
            system's own without it.
    """

    address: str
    insecure: bool = False
    certificates: Path | None = None

    def toml(self) -> str:
        """Return it as Flower's configuration file has it."""
        lines = [f"[superlink.{_NAME}]", f"address = {json.dumps(self.address)}"]
        if self.insecure:
            lines.append("insecure = true")
        if self.certificates is not None:
            lines.append(f"root-certificates = {json.dumps(str(self.certificates.resolve()))}")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Traffic:
    """Bytes that went through a SuperLink in one run, by its own count.

    Attributes:
        to_nodes: From it to the nodes.
        from_nodes: From them to it.
    """

    to_nodes: int
    from_nodes: int


@dataclass(frozen=True)
class Ran:
    """A run that is done.

    Attributes:
        outcome: What became of it.
        traffic: Over the network; zeros in a simulation.
    """

    outcome: Outcome
    traffic: Traffic


def app_folder(
    folder: Path,
    *,
    server: str = "prunenas.flower.server:app",
    client: str = "prunenas.flower.client:app",
) -> Path:
    """Write the Flower app's description, for ``flwr run FOLDER``; prunenas itself isn't in it.

    Args:
        folder: Made where it isn't there.
        server: Where the server app is.
        client: Where the client app is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = _APP.format(version=__version__.split("+")[0], server=server, client=client)
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    return folder


def submit(
    request: Request,
    superlink: SuperLink,
    *,
    log: Callable[[str], None] = lambda line: None,
    app: Path | None = None,
    nodes: int | None = None,
) -> Ran:
    """Hand a training to a SuperLink, and wait until it is done.

    Args:
        request: What to do; its output folder must be one that this machine sees too.
        superlink: Who runs it.
        log: Told of each line that the run logs.
        app: Folder of the Flower app, where it is another than prunenas' own.
        nodes: In a simulation, how many there are.

    Raises:
        FederatedError: The SuperLink can't be reached or refuses, or the training failed.
    """
    with _home(superlink) as (home, environment):
        folder = app or app_folder(home / "app")
        config = home / "run.toml"
        config.write_text(request.toml(), encoding="utf-8")
        command = ["run", str(folder), _NAME, "--run-config", str(config), "--stream"]
        if nodes is not None:
            # One CPU each: a client computes with one thread.
            command += [
                "--federation-config",
                f"num-supernodes={nodes} client-resources-num-cpus=1",
            ]
        number = _started(superlink.address, command, environment, log)
        found = _found(number, environment)
    status = str(found.get("status", ""))
    if not status.startswith("finished"):
        raise FederatedError(
            f"the log of run {number} ended, but the run didn't: it is {status or 'unknown'}; "
            "`flwr list` and `flwr log` tell how it goes on"
        )
    outcome = Outcome.read(Path(request.output))
    bytes_of = found.get("network-traffic", {})
    traffic = Traffic(
        to_nodes=int(bytes_of.get("outbound-bytes", 0)),
        from_nodes=int(bytes_of.get("inbound-bytes", 0)),
    )
    return Ran(outcome, traffic)


def command_of(name: str) -> str:
    """Return the path of a command of Flower's.

    Raises:
        FederatedError: It isn't installed.
    """
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise FederatedError(
            f"{name!r} must be installed beside {sys.executable}; "
            "pip install 'prunenas[federated]' brings it"
        )
    return str(path)


@contextmanager
def _home(superlink: SuperLink) -> Iterator[tuple[Path, dict[str, str]]]:
    with tempfile.TemporaryDirectory(prefix="prunenas-flower-") as name:
        home = Path(name)
        (home / "config.toml").write_text(superlink.toml(), encoding="utf-8")
        yield home, {**os.environ, **QUIET, "FLWR_HOME": name}


def _started(
    address: str,
    command: list[str],
    environment: Mapping[str, str],
    log: Callable[[str], None],
) -> str:
    """Start a run, and wait until its log ends; the run's number."""
    number: str | None = None
    before: list[str] = []  # the run: its log's first lines, or why there is none
    with subprocess.Popen(
        [command_of("flwr"), *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if number is not None:
                log(line.rstrip())
                continue
            before.append(line.rstrip())
            if found := re.search(r"started run (\d+)", line):
                number = found[1]
                for each in before:
                    log(each)
    if number is None:
        told = " ".join(_FRAME.sub(" ", " ".join(before)).split())
        raise FederatedError(
            f"the SuperLink {address} must take the run, but `flwr run` said: {told[-500:]}"
        )
    return number


def _found(number: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """What a SuperLink says about a run; nothing where it can't be asked."""
    asked = subprocess.run(
        [command_of("flwr"), "list", _NAME, "--run-id", number, "--format", "json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found: dict[str, Any] = json.loads(asked.stdout)["runs"][0]
    except (ValueError, LookupError, TypeError):
        return {}
    return found
