"""How a machine is divided among workers: threads of its CPU, or its GPUs."""

import torch

from prunenas.errors import StudyError
from prunenas.search.workshop import Place, StudyBench, device_named
from prunenas.spec import Study


def benches(
    study: Study, device: str, place: Place, *, workers: int, per_gpu: int = 1
) -> list[StudyBench]:
    """What each worker of a study needs.

    On a CPU its threads are divided (two processes of two threads each, on two cores, slow each
    other down); on GPUs the workers go round all of them, or stay on the one that was named.

    Args:
        study: What is searched.
        device: As for ``run_study``.
        place: Where results are kept.
        workers: How many, at least 1.
        per_gpu: How many may share a GPU, at least 1.

    Raises:
        StudyError: There are not so many GPUs, or none to be shared.
    """
    if workers < 1 or per_gpu < 1:
        raise StudyError(
            f"`workers >= 1` and `per_gpu >= 1` must hold, but they are {workers} and {per_gpu}"
        )
    chosen = device_named(device)
    threads = max(1, torch.get_num_threads() // workers)
    devices = [str(chosen)]
    if chosen.type == "cuda":
        if chosen.index is None:
            devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        if workers > len(devices) * per_gpu:
            gpus = f"{len(devices)} GPU{'s' if len(devices) > 1 else ''}"
            needed = -(-workers // len(devices))
            raise StudyError(
                f"{workers} workers on {gpus} need --per-gpu {needed} or more, but it is {per_gpu}"
            )
    elif per_gpu > 1:
        raise StudyError(f"--per-gpu {per_gpu} is for GPUs, but the device is {chosen}")
    return [
        StudyBench(study.settings(), devices[number % len(devices)], threads, place)
        for number in range(workers)
    ]
