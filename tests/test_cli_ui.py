"""`prunenas ui` serves the embedded store and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as response:
            return response.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(signal.SIGINT, 0),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
    ],
)
def test_the_server_answers_until_it_is_ended(tmp_path, sent, code):
    port = free_port()
    (tmp_path / "mlflow.yml").write_text(f"server: {{port: {port}}}\n")
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prunenas", "ui"], cwd=tmp_path, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 90
        while not answers(port):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        process.send_signal(sent)
        assert process.wait(timeout=30) == code
    finally:
        process.kill()
    assert not answers(port)
    told = (tmp_path / "log").read_text()
    assert told.startswith(f"MLflow on http://127.0.0.1:{port} over sqlite:///")
    assert "Traceback" not in told
