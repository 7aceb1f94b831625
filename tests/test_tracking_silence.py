"""MLflow as prunenas uses it: no log lines, nothing sent, nothing left beside the store."""

import os
import subprocess
import sys
from pathlib import Path


def test_mlflow_is_silent_sends_nothing_and_leaves_no_mlruns(tmp_path: Path) -> None:
    program = """
import socket, sys
sys.path.insert(0, sys.argv[1])
def no_network(self, address):
    raise AssertionError(f"nothing may be sent, but {address} was called")
socket.socket.connect = no_network
import synthetic, tracked
tracked.run_study(tracked.tracker(), synthetic.study()[:2])
from mlflow.telemetry import get_telemetry_client
assert get_telemetry_client() is None
import os
assert not [name for name in os.environ if name.startswith("MLFLOW_HTTP")]
"""
    hidden = ("PYTEST_CURRENT_TEST", "CI", "GITHUB_ACTIONS", "MLFLOW_", "DO_NOT_TRACK")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(Path(__file__).parent)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlartifacts", "mlflow.db"]
