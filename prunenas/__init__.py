"""prunenas: pruning as architecture search.

The names below are the public surface. They load on first use, so that ``import prunenas`` costs
nothing and ``prunenas --help`` answers at once: torch, optuna and mlflow come with the first name
that needs them.

>>> import prunenas
>>> space = prunenas.trace("lenet5", input_shape=(1, 28, 28))
>>> architecture = space.fit(flops_ratio=0.5)
>>> network = prunenas.build(architecture, seed=0)
>>> prunenas.count_flops(network, (1, 28, 28)) == architecture.flops
True
"""

import sys
from collections.abc import Callable
from importlib import import_module
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from prunenas.places import STUDIES
from prunenas.version import __version__

if TYPE_CHECKING:
    from prunenas.architecture import Architecture, build, count_flops, trace
    from prunenas.export import load
    from prunenas.search import Event, StudyView

__all__ = [
    "Architecture",
    "__version__",
    "build",
    "count_flops",
    "load",
    "run",
    "trace",
]

_ROOMS = {
    "Architecture": "prunenas.architecture",
    "build": "prunenas.architecture",
    "count_flops": "prunenas.architecture",
    "load": "prunenas.export",
    "trace": "prunenas.architecture",
}


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


def run(
    study: str | PathLike[str],
    *,
    storage: str = STUDIES,
    tracking: str | None = None,
    device: str = "auto",
    workers: int = 1,
    per_gpu: int = 1,
    deterministic: bool | None = None,
    cache: str | PathLike[str] | None = None,
    warn: Callable[[str], None] = _warn,
    watch: Callable[["Event"], None] = lambda event: None,
) -> "StudyView":
    """Run a study to its end, or go on with it where it was left.

    Args:
        study: The study's YAML file.
        storage: URL of the storage that keeps the study.
        tracking: MLflow's tracking URI; ``None`` takes what ``mlflow.yml`` says, or the embedded
            store.
        device: A torch device such as ``cpu`` or ``cuda:0``; ``auto`` takes a GPU where there is
            one.
        workers: How many processes train at a time; 1 is the calling process itself.
        per_gpu: How many of them may share a GPU.
        deterministic: Whether any number of workers gives the same trials; ``None``: as the study
            was begun, a new one is not.
        cache: Folder in which trainings are shared between studies; ``None`` is
            ``.prunenas/cache``, ``"off"`` does every training anew.
        warn: Called with one line for trouble that does not end the study, such as an unreachable
            tracking server; by default it is printed on stderr.
        watch: Called with each event of the study, from the calling thread.

    Returns:
        The study as it stands at its end: records, counts by state, front.

    Raises:
        SpecError: The file breaks laws; all mistakes at once.
        PrunenasError: Anything else that keeps the study from running; see ``prunenas.errors``.

    A study whose trials are all done is read, not run again::

        view = prunenas.run("studies/quickstart.yaml")
        view.front[-1].accuracy
    """
    from prunenas.search import Labour, run_study
    from prunenas.spec import load_study

    return run_study(
        load_study(study),
        storage=storage,
        tracking=tracking,
        device=device,
        labour=Labour(workers, per_gpu, deterministic),
        cache=None if cache is None else fspath(cache),
        warn=warn,
        watch=watch,
    )


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_ROOMS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
