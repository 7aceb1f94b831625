"""Stands in for the command ``flwr-clientapp``: the same main, in a fork of one warm process.

Flower starts that command for every message to a client, and each start imports PyTorch anew, three
seconds of a core. The tests put a shell script of this name into the SuperNodes' path, which hands
its arguments to the process that `main` runs in; all else is Flower's own.
"""

import importlib
import os
import signal
import sys
from pathlib import Path

_SCRIPT = """#!/bin/sh
echo "$@" > {pipe}
"""


def write_command(folder: Path) -> Path:
    """Write the script into a folder for the path; the pipe that `main` reads."""
    pipe = folder / "tasks"
    os.mkfifo(pipe)
    command = folder / "flwr-clientapp"
    command.write_text(_SCRIPT.format(pipe=pipe), encoding="utf-8")
    command.chmod(0o755)
    return pipe


def main(pipe: str) -> None:
    """Fork for every line of the pipe, for ever."""
    from flwr.supernode.cli.flwr_clientapp import flwr_clientapp

    from prunenas.architecture import trace

    importlib.import_module("prunenas.flower.client")  # forks have it then
    trace("lenet_300_100", input_shape=(1, 28, 28))  # the first in a process takes long
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forks are nobody's to wait for
    print("ready", flush=True)
    # Open for writing too: a pipe that nobody has open for writing ends, and loses lines.
    with os.fdopen(os.open(pipe, os.O_RDWR), encoding="utf-8") as lines:
        for line in lines:
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                sys.argv = ["flwr-clientapp", *line.split()]
                try:
                    flwr_clientapp()
                finally:
                    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
