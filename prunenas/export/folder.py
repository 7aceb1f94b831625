"""An export is a folder: config, card, architecture, loader, and weights where there are any."""

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from prunenas.architecture import Architecture, build
from prunenas.errors import ExportError
from prunenas.export.bundle import MODELING_FILE, modeling
from prunenas.export.card import CARD_FILE, card, picture_file
from prunenas.export.config import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    ExportConfig,
    checked_training,
    read_config,
)
from prunenas.export.document import ARCHITECTURE_FILE, architecture_yaml, read_architecture
from prunenas.export.formats import check_format, write_format
from prunenas.export.loading import load_config
from prunenas.export.masks import read_masks, write_masks
from prunenas.export.preprocessing import pretrained_cfg
from prunenas.export.safety import examine
from prunenas.export.staging import staged, write_text
from prunenas.export.verification import Request, Verifier
from prunenas.export.weights import check_weights, fill, sha256, write_weights

# An innermost list over several lines, such as a layer's sizes; no string holds a raw line break.
_SHORT_LIST = re.compile(r"\[\n\s*((?:[^\[\]{}\n]+\n\s*)*?[^\[\]{}\n]+)\n\s*\]")
_LINE_BREAK = re.compile(r"\n\s*")


def write_export(
    folder: str | Path,
    architecture: Architecture,
    *,
    dense_flops: int,
    provenance: Mapping[str, Any],
    weights: Mapping[str, Tensor] | None = None,
    training: Mapping[str, Any] | None = None,
    formats: Iterable[str] = (),
    picture: bytes | None = None,
    replace: bool = False,
    verifier: Verifier | None = None,
) -> Path:
    """Write an architecture, whole or not at all.

    Everything is written into a folder beside, read back, and loaded by its own ``modeling.py`` in
    a fresh process without prunenas, where fvcore counts it and its outputs are compared; only
    then it is renamed. The architecture's source is imported for that: the caller has searched
    with it, or trusts it otherwise.

    Args:
        folder: Where to; its parents are made.
        architecture: What to write.
        dense_flops: FLOPs of the dense network, for the share.
        provenance: Where it comes from; JSON values. The card shows ``study``, ``trial``,
            ``method``, ``parameters``, ``seeds``, ``versions``, ``accuracy`` on ``split``; ``mean``
            and ``std`` of the data set's pixels are metadata for whoever loads it.
        weights: State dict of the trained network.
        training: How they were trained; see :class:`prunenas.export.ExportConfig`.
        formats: Further files that hold the weights: ``onnx``, ``pt2``.
        picture: The widths as PNG, or the densities where there are masks.
        replace: Whether an export that stands there already gives way.
        verifier: A process that has loaded others; by default one is started for this export.

    Returns:
        ``folder`` as a path.

    Raises:
        ExportError: The folder exists (unless ``replace``, and then unless it is an export), can't
            be written, or does not load as the network that it claims; nothing is left of it.
    """
    target, formats = Path(folder), tuple(dict.fromkeys(formats))
    for name in formats:
        check_format(name)
    if formats and weights is None:
        raise ExportError(
            f"{target}: format {formats[0]} holds weights, so they must be exported (--weights)"
        )
    with staged(target, replace=replace) as staging:
        config = ExportConfig(
            architecture,
            architecture.flops / dense_flops,
            dict(provenance),
            None,
            checked_training(training, str(target)),
            dict.fromkeys(formats, ""),
            pretrained_cfg(architecture, provenance),
        )
        if picture is not None:
            (staging / picture_file(architecture)).write_bytes(picture)
        _complete(staging, config, target.name, weights=weights, verifier=verifier)
    return target


def update_export(
    folder: str | Path,
    *,
    weights: Mapping[str, Tensor],
    training: Mapping[str, Any],
    verifier: Verifier | None = None,
) -> Path:
    """Give an export new weights, and say how they were trained; whole or not at all.

    The card is written anew, and so are the formats that the export has. The source is trusted:
    the caller has trained it.

    Args:
        folder: An export.
        weights: State dict of the trained network.
        training: How they were trained; see :class:`prunenas.export.ExportConfig`.
        verifier: A process that has loaded others; by default one is started for this export.

    Returns:
        ``folder`` as a path.

    Raises:
        ExportError: The folder is no export or can't be written, or the weights do not fit; the
            export is then as it was.
    """
    target = Path(folder)
    config = read_config(target)
    config = changed(
        config,
        training=checked_training(training, str(target)),
        # Pixels are normalised as they were in this training.
        pretrained_cfg=pretrained_cfg(config.architecture, {**config.provenance, **training}),
    )
    for name in config.formats:
        check_format(name)
    with staged(target, replace=True, copy=True) as staging:
        _complete(staging, config, target.name, weights=weights, verifier=verifier)
    return target


def add_format(
    folder: str | Path, name: str, *, trust: bool = False, verifier: Verifier | None = None
) -> Path:
    """Add a file ``model.onnx`` or ``model.pt2`` to an export; whole or not at all.

    Args:
        folder: An export with weights.
        name: ``onnx`` or ``pt2``.
        trust: Whether the network's source may be a module of the exporter's own.
        verifier: A process that has loaded others; by default one is started for this export.

    Returns:
        The new file's path.

    Raises:
        ExportError: The folder is no export or has no weights, the libraries are not installed, or
            the network can't be expressed in this format; the export is then as it was.
        SourceError: The source is not installed, or needs ``trust``.
    """
    target = Path(folder)
    check_format(name)
    config = read_config(target)
    if config.weights_sha256 is None:
        raise ExportError(f"{target}: format {name} holds weights, but none were exported")
    network = load_config(target, config, trust=trust)
    with staged(target, replace=True, copy=True) as staging:
        config = changed(config, formats={**config.formats, name: ""})
        _complete(staging, config, target.name, weights=network.state_dict(), verifier=verifier)
    return target / f"model.{name}"


def _complete(
    staging: Path,
    config: ExportConfig,
    name: str,
    *,
    weights: Mapping[str, Tensor] | None,
    verifier: Verifier | None,
) -> None:
    """Write what follows from a config and weights, and see that all of it loads."""
    architecture = config.architecture
    if not architecture.bits():  # of an export that is written anew: they lie in the copy
        architecture = read_masks(staging, architecture)
    write_masks(staging, architecture)
    network = build(architecture, trust=True)
    if weights is not None:
        path = staging / WEIGHTS_FILE
        checksum = write_weights(path, weights)
        check_weights(path, checksum, network.state_dict())
        fill(network, path)
        config = changed(config, weights_sha256=checksum)
    checksums = {}
    for each in config.formats:
        path = staging / f"model.{each}"
        write_format(each, path, network, architecture.input_shape)
        checksums[each] = sha256(path)
    config = changed(config, formats=checksums)
    picture = (staging / picture_file(architecture)).is_file()
    write_text(staging / CONFIG_FILE, _json(config))
    write_text(staging / ARCHITECTURE_FILE, architecture_yaml(architecture))
    write_text(staging / MODELING_FILE, modeling(architecture))
    write_text(staging / CARD_FILE, card(config, name, picture=picture))
    _verify(staging, config, network, verifier)


def _verify(
    staging: Path, config: ExportConfig, network: nn.Module, verifier: Verifier | None
) -> None:
    if read_config(staging).to_dict() != json.loads(json.dumps(config.to_dict())):
        raise ExportError(f"{CONFIG_FILE} does not read back as it was written")
    if read_architecture(staging / ARCHITECTURE_FILE) != config.architecture:
        raise ExportError(f"{ARCHITECTURE_FILE} does not read back as it was written")
    context: AbstractContextManager[Verifier] = nullcontext(verifier) if verifier else Verifier()
    with context as process:
        process.check(
            staging,
            config.architecture,
            network,
            Request(random=config.weights_sha256 is None, formats=tuple(config.formats)),
        )
    examine(config.architecture, trust=True)  # or prunenas.load would refuse it


def _json(config: ExportConfig) -> str:
    try:
        text = json.dumps(config.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ExportError(f"provenance must hold JSON values: {error}") from error
    return _SHORT_LIST.sub(lambda found: f"[{_LINE_BREAK.sub(' ', found[1])}]", text) + "\n"
