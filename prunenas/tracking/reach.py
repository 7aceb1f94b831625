"""Whether a tracking server answers, found out in seconds."""

import threading

from prunenas.errors import TrackingError
from prunenas.places import address
from prunenas.tracking.config import SERVERS
from prunenas.tracking.quiet import mlflow_at_work, reason

_PATIENCE = 5.0
"""Seconds in which a server must answer, name lookup and connection included."""

_NOBODY_HOME = (502, 503, 504)


def check_reachable(uri: str) -> None:
    """Ask a tracking server whether it is there; a database is not asked.

    Any answer will do here, a refusal too: what a server refuses, it says when it is used. Only a
    gateway that has no server behind it is none.

    Raises:
        TrackingError: No answer within 5 seconds.
    """
    if uri.partition("://")[0].lower() not in SERVERS:
        return
    trouble: list[str] = []

    with mlflow_at_work("MLflow can't be loaded"):
        # MLflow's own client, because the user's credentials, certificates and proxies count.
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request

        def ask() -> None:
            try:
                answer = http_request(  # type: ignore[no-untyped-call]
                    get_default_host_creds(uri),  # type: ignore[no-untyped-call]
                    "/health",
                    "GET",
                    max_retries=0,
                    timeout=_PATIENCE - 1,
                    raise_on_status=False,
                )
                if answer.status_code in _NOBODY_HOME:
                    trouble.append(f"status {answer.status_code} {answer.reason}")
            except Exception as error:  # carried over to the thread that waits
                trouble.append(reason(error))

        # A thread, because neither name lookup nor a dripping answer keeps to a timeout.
        asking = threading.Thread(target=ask, name="prunenas-tracking-reach", daemon=True)
        asking.start()
        asking.join(_PATIENCE)
        if asking.is_alive():
            trouble.append(f"silent for {_PATIENCE:.0f} seconds")
    if trouble:
        raise TrackingError(f"no tracking server answers at {address(uri)}: {trouble[0]}")
