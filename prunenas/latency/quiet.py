"""How a measurement is left alone: one at a time, on its own threads, nothing in between."""

import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import torch


def clock(device: str, threads: int) -> Callable[[], float]:
    """Return what passes are timed by, in seconds.

    On one thread of the CPU that thread's own clock: what other processes take from the core is
    not the network's. The wall's elsewhere.
    """
    alone = threads == 1 and device.startswith("cpu")
    # Elsewhere a thread's clock ticks in hundredths of a second.
    return time.thread_time if alone and os.name == "posix" else time.perf_counter


def one_at_a_time() -> filelock.BaseFileLock:
    """Return the lock of all measurements of a user on this machine.

    A process that dies lets go of it.
    """
    # In a folder that users share nobody may open another one's file.
    owner = os.getuid() if os.name == "posix" else "all"
    return filelock.FileLock(Path(tempfile.gettempdir()) / f"prunenas-latency-{owner}.lock")


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Let torch compute on so many threads of the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Do without Python's garbage collection, which strikes at random."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
