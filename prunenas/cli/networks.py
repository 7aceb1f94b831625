"""Networks named on the command line: models, architectures, exports, and those of studies."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prunenas import architectures
from prunenas.architecture import Architecture, check_source, needs_trust, trace
from prunenas.cli.choice import choose
from prunenas.cli.inspect import of_a_paper, refuse_options, traced
from prunenas.errors import ExportError, SourceError
from prunenas.export import CONFIG_FILE, read_config
from prunenas.search import StudyView, list_studies, open_study
from prunenas.search.storage import sqlite_path


@dataclass(frozen=True)
class Named:
    """A network that was named.

    Attributes:
        name: What it is called.
        architecture: The network.
        kind: Its method, or what kind of thing was named; pictures group by it.
    """

    name: str
    architecture: Architecture
    kind: str


def networks_of(
    what: str,
    *,
    shape: str | None = None,
    settings: Sequence[str] = (),
    trials: Sequence[int] = (),
    storage: str,
    trust: bool = False,
) -> list[Named]:
    """Return what a name stands for; of a study the dense network, and its front or some trials.

    Args:
        what: The folder of an export, an architecture of a paper, a model, or a study.
        shape: ``--input``, of models and architectures.
        settings: ``--set``, of the same.
        trials: Of a study; its front without any.
        storage: URL of the storage that studies are in.
        trust: Whether an export may import the module its network comes from.

    Raises:
        ExportError, SourceError, StudyError: There is no such network.
    """
    if (Path(what) / CONFIG_FILE).exists() or Path(what).is_dir():
        refuse_options(shape, list(settings))
        architecture = read_config(what).architecture
        if needs_trust(architecture.source) and not trust:
            raise ExportError(f"{what}: measuring runs {architecture.source!r}; --trust does that")
        return [Named(what, architecture, "export")]
    if what in architectures.names():
        return [Named(what, of_a_paper(what, shape, list(settings))[1], "paper")]
    try:
        check_source(what)
    except SourceError as error:
        view = _study(what, storage)
        if view is None:
            raise SourceError(f"{error}; nor is it an architecture, an export or a study") from None
        refuse_options(shape, list(settings), "a study")
        return _of_a_study(view, trials)
    return [Named(what, traced(what, shape, list(settings)).dense, "model")]


def _study(name: str, storage: str) -> StudyView | None:
    path = sqlite_path(storage)
    if path is not None and not path.exists():
        return None
    return open_study(storage, name) if name in list_studies(storage) else None


def _of_a_study(view: StudyView, trials: Sequence[int]) -> list[Named]:
    chosen = choose(view, trials, None, everything=not trials)
    found = []
    for _, record in chosen:
        assert record.architecture is not None  # `choose` takes complete trials
        architecture = Architecture.from_dict(record.architecture)
        found.append(Named(f"{view.name}/{record.number}", architecture, record.method))
    first = found[0].architecture
    dense = trace(first.source, arguments=first.arguments, input_shape=first.input_shape).dense
    return [Named(f"{view.name} (dense)", dense, "dense"), *found]
