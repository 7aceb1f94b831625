"""Loading an export: what it claims is checked before anything is allocated."""

import os
from pathlib import Path

from torch import nn

from prunenas.architecture import Architecture, build, hold
from prunenas.errors import ExportError, SourceError
from prunenas.export.config import CONFIG_FILE, WEIGHTS_FILE, ExportConfig, read_config
from prunenas.export.document import read_architecture
from prunenas.export.masks import read_masks
from prunenas.export.plain import one_line
from prunenas.export.safety import examine
from prunenas.export.weights import check_weights, fill


def load(folder: str | os.PathLike[str], *, trust: bool = False) -> nn.Module:
    """Build the network of an export.

    ::

        network = prunenas.load("exports/best")
        logits = network(images)          # images: (N, C, H, W)

    Nothing is unpickled and no code of the folder is run: its ``modeling.py`` is for readers
    without prunenas.

    Args:
        folder: What ``prunenas export`` wrote.
        trust: Whether the network's source may be a module outside prunenas, torchvision and timm;
            importing it runs its code.

    Returns:
        The network on the CPU: with the exported weights and in evaluation mode, or where none
        were exported with fresh random ones and in training mode. Weights that masks drop are 0,
        and have gradients of 0, so that they stay so when it is trained; see
        ``prunenas.architecture.hold`` for copies of it.

    Raises:
        ExportError: The folder is no export, is damaged, or does not fit its own figures.
        SourceError: The source is not installed, or needs ``trust``.
    """
    return load_config(Path(folder), read_config(Path(folder)), trust=trust)


def load_architecture(path: str | os.PathLike[str], *, trust: bool = False) -> nn.Module:
    """Build the network of an ``architecture.yaml``, with fresh random weights.

    Args:
        path: The file, from any hand.
        trust: As for :func:`load`.

    Raises:
        ExportError: The file is no architecture, or does not fit its own figures.
        SourceError: The source is not installed, or needs ``trust``.
    """
    architecture = read_architecture(Path(path))
    _examined(architecture, Path(path), trust)
    return hold(build(read_masks(Path(path).parent, architecture), trust=trust))


def load_config(folder: Path, config: ExportConfig, *, trust: bool) -> nn.Module:
    """As :func:`load`, with the config at hand."""
    bare = _examined(config.architecture, folder / CONFIG_FILE, trust)
    path = folder / WEIGHTS_FILE
    if config.weights_sha256 is not None:
        check_weights(path, config.weights_sha256, bare.state_dict())
    network = hold(build(read_masks(folder, config.architecture), trust=trust))
    if config.weights_sha256 is None:
        return network
    fill(network, path)
    return network.eval()


def _examined(architecture: Architecture, path: Path, trust: bool) -> nn.Module:
    try:
        return examine(architecture, trust=trust)
    except ExportError as error:
        raise ExportError(f"{path}: {one_line(error)}") from error
    except SourceError as error:
        raise SourceError(one_line(error)) from error
