"""Running a study: set up, then see ``coordinator``."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from prunenas.errors import SpecError
from prunenas.places import HOME
from prunenas.search.benches import benches
from prunenas.search.coordinator import Coordinator
from prunenas.search.crew import Alone, Crew
from prunenas.search.events import Event
from prunenas.search.founding import begin
from prunenas.search.schedule import WINDOW
from prunenas.search.storage import claim, open_storage
from prunenas.search.view import StudyView
from prunenas.search.workshop import Place, StudyBench, Workshop, device_named
from prunenas.spec import Study, check_densities, check_whole, check_widths
from prunenas.workers import Pool, prepare


@dataclass(frozen=True)
class Labour:
    """Who carries a study's trials out.

    Attributes:
        workers: How many processes; 1 is the calling process itself.
        per_gpu: How many of them share a GPU, at most.
        deterministic: Whether the number of workers may make no difference to any trial; None: as
            the study was begun, a new one is not.
    """

    workers: int = 1
    per_gpu: int = 1
    deterministic: bool | None = None


ALONE = Labour()


def run_study(
    study: Study,
    *,
    storage: str,
    tracking: str | None = None,
    device: str = "auto",
    labour: Labour = ALONE,
    warn: Callable[[str], None] = lambda text: None,
    watch: Callable[[Event], None] = lambda event: None,
    home: Path = HOME,
    cache: str | Path | None = None,
) -> StudyView:
    """Run a study, or go on with it, until it has all its trials and repeats.

    Interrupted at any point (Ctrl-C, a killed process, a power cut) it goes on where it stood: a
    trial that was under way keeps its number, its proposal and its finished epochs.

    Args:
        study: What is searched.
        storage: URL of the storage it lives in.
        tracking: URI of MLflow; None takes what ``mlflow.yml`` says.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, or ``"auto"``: a GPU where there is one.
        labour: Who carries its trials out.
        warn: Told of trouble that doesn't end the study, one line each.
        watch: Told of every event, in the calling thread.
        home: Folder for checkpoints, dense networks and the front's weights.
        cache: Folder that trainings are shared in; None takes ``home / "cache"``, ``"off"`` does
            every training anew and leaves none to others.

    Raises:
        SourceError, TraceError, DataError, SpecError, StudyError: The study can't start, or can't
            go on; what it has is kept.
    """
    if labour.workers > 1:  # they import while the network is traced here
        prepare(StudyBench.__module__)
    chosen = device_named(device)
    shared = None if cache == "off" else Path(cache or home / "cache")
    workshop = Workshop.opened(study, chosen, Place(home, shared, ""), watch, warn)
    space = workshop.space
    mistakes = [text for entry in study.methods for text in check_widths(entry.space, space)]
    mistakes += [text for entry in study.methods for text in check_whole(entry, space)]
    if not mistakes:  # layers that are to stay whole have no densities
        mistakes += [text for entry in study.methods for text in check_densities(entry, space)]
    if mistakes:
        raise SpecError(dict.fromkeys(mistakes))
    with ExitStack() as stack:
        opened = stack.enter_context(open_storage(storage))
        stack.enter_context(claim(opened, storage, study.name))
        ledger = begin(opened, storage, study, space, deterministic=labour.deterministic)
        if ledger.deterministic:
            # A sum's order, and with it its last digits, depend on the number of threads.
            stack.enter_context(_threads(1))
            if labour.workers > WINDOW:
                warn(f"a deterministic study keeps {WINDOW} of {labour.workers} workers busy")
        place = Place(home, shared, ledger.identity)
        workshop = replace(workshop, place=place)
        crew: Crew = Alone(workshop)
        wanted = benches(study, device, place, workers=labour.workers, per_gpu=labour.per_gpu)
        if len(wanted) > 1 and not ledger.view().finished:
            pool = Pool(wanted, watch, warn)
            stack.callback(pool.close)
            crew = pool
        return Coordinator(study, workshop, ledger, crew, len(wanted)).run(tracking)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
