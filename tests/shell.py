"""The command line as a user runs it: real processes, their output in pipes."""

import os
import subprocess
import sys
from pathlib import Path

_SAID_ELSEWHERE = ("CI", "COLUMNS", "MLFLOW_TRACKING_URI", "PRUNENAS_STORAGE")
"""Variables that would answer for the test where it wants the default."""


def environment(**variables: str) -> dict[str, str]:
    """This process's variables without those that steer prunenas, and with ``variables``."""
    kept = {name: value for name, value in os.environ.items() if name not in _SAID_ELSEWHERE}
    return {**kept, **variables}


def prunenas(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``prunenas`` in a folder to its end, whatever its exit code."""
    return subprocess.run(
        [sys.executable, "-m", "prunenas", *arguments],
        cwd=folder,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1800,
    )
