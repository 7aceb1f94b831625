"""How MLflow's own server starts over the embedded store: for ``prunenas ui``."""

import os
import sys

from prunenas.errors import TrackingError
from prunenas.tracking.config import TrackingConfig


def server_command(config: TrackingConfig) -> list[str]:
    """The command that serves ``config``'s store until it is ended.

    Run it with :func:`server_environment`: ``subprocess.run(command, env=server_environment())``.

    Raises:
        TrackingError: Tracking goes to a server already, which has its own page.
    """
    if config.is_server:
        raise TrackingError(
            f"tracking goes to the server {config.uri}: open that address; "
            "`prunenas ui` serves an embedded store"
        )
    return [
        sys.executable,
        *("-m", "mlflow", "server"),
        *("--backend-store-uri", config.uri),
        *("--artifacts-destination", str(config.artifacts)),
        *("--host", config.host),
        *("--port", str(config.port)),
        # One process is enough for one user; MLflow's default start takes six times the memory.
        *("--workers", "1"),
    ]


def server_environment() -> dict[str, str]:
    """This process's environment, with MLflow's telemetry and its LLM job workers off."""
    return {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": os.environ.get("MLFLOW_DISABLE_TELEMETRY", "true"),
        # 3.1 GB in 13 processes with them, 0.5 GB in 2 without (MLflow 3.18).
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
