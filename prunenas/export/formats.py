"""Formats for other runtimes: ONNX, and torch's own exported programs; both take any batch size."""

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunenas.errors import ExportError, unknown
from prunenas.export.config import FORMATS

_NEEDED = {"onnx": ("onnx", "onnxruntime", "onnxscript")}


def check_format(name: str) -> None:
    """See that a format is known and its libraries are installed.

    Raises:
        ExportError: It is not, or they are not; the message names the extra.
    """
    if name not in FORMATS:
        raise ExportError(unknown("format", name, FORMATS))
    missing = [
        library for library in _NEEDED.get(name, ()) if importlib.util.find_spec(library) is None
    ]
    if missing:
        raise ExportError(
            f"format {name} needs {', '.join(missing)}; install them with: "
            f"pip install 'prunenas[{name}]'"
        )


def write_format(name: str, path: Path, network: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Write a network with its weights.

    Args:
        name: One of ``FORMATS``.
        path: Where to.
        network: With its weights; it is put into evaluation mode.
        input_shape: ``(C, H, W)`` of one input; the batch may be of any size.

    Raises:
        ExportError: torch can't express the network in this format.
    """
    network.eval()
    example = (torch.zeros(2, *input_shape),)
    try:
        with _quiet(), torch.no_grad():
            program = _exported(network, example)
            if name == "pt2":
                torch.export.save(program, path)
                return
            written: Any = torch.onnx.export(
                program, input_names=["input"], dynamo=True, verbose=False, optimize=True
            )
            written.save(path, external_data=False)
    except Exception as error:  # whatever an operator without a rule leads to
        reason = " ".join(str(error).split())[:200]
        raise ExportError(
            f"the network can't be expressed as {name}: {type(error).__name__}: {reason}"
        ) from error


def _exported(network: nn.Module, example: tuple[torch.Tensor]) -> torch.export.ExportedProgram:
    dynamic = ({0: torch.export.Dim("batch")},)
    return torch.export.export(network, example, dynamic_shapes=dynamic)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and progress of the exporters, which the user can do nothing about."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
