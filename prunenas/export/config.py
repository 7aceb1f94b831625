"""``config.json``: what an exported architecture says of itself."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prunenas.architecture import Architecture
from prunenas.errors import ExportError, unknown
from prunenas.export.plain import check_plain, one_line, read_bounded

FORMAT = "prunenas"
FORMAT_VERSION = 2
FLOPS_UNIT = "fused multiply-adds in convolutions, linear layers and matrix products, one input"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
FORMATS = ("onnx", "pt2")
"""Other formats that an export may hold; each is the file ``model.FORMAT``."""

TOLERANCES: Mapping[str, float] = {"modeling.py": 1e-5, "model.onnx": 1e-4, "model.pt2": 1e-4}
"""How far a file's outputs may lie from those of the network that was written."""

TOLERANCE_UNIT = "largest difference of an output as a share of the largest output, float32 on CPU"

_SHOWN = 80  # characters of a value in an error
_LARGEST = 64 << 20  # bytes; the config of a network with 100,000 layers has six million

_FIRST_FIELDS = {
    "format",
    "format_version",
    "architecture",
    "digest",
    "input_shape",
    "flops",
    "flops_unit",
    "flops_ratio",
    "params",
    "weights",
    "provenance",
}
_FIELDS = {
    1: _FIRST_FIELDS,
    2: _FIRST_FIELDS | {"training", "formats", "tolerance", "tolerance_unit", "pretrained_cfg"},
}

_TRAINING = {
    "data",
    "recipe",
    "seed",
    "epochs",
    "train_images",
    "validation",
    "test",
    "protocol",
    "versions",
    "finished",
}


@dataclass(frozen=True)
class ExportConfig:
    """An exported architecture and where it comes from.

    Attributes:
        architecture: All it takes to build the network.
        flops_ratio: Its FLOPs as a share of the dense network's, in (0, 1].
        provenance: Study, trial, method, parameters, accuracy, split, seed, versions: whatever
            the exporter knows; JSON values.
        weights_sha256: SHA-256 of ``model.safetensors`` in hexadecimal; ``None`` without weights.
        training: How the weights were trained: ``data``, ``recipe``, ``seed``, ``epochs``,
            ``train_images``, ``validation`` and ``test`` (each ``accuracy`` and ``n``, or
            ``None``), ``protocol``, ``versions``, ``finished``; ``None`` when not trained.
        formats: SHA-256 of each further file, by its format in ``FORMATS``.
        pretrained_cfg: What timm reads of an image model; ``None`` where it makes no sense.
    """

    architecture: Architecture
    flops_ratio: float
    provenance: Mapping[str, Any]
    weights_sha256: str | None
    training: Mapping[str, Any] | None = None
    formats: Mapping[str, str] = field(default_factory=dict)
    pretrained_cfg: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``config.json``."""
        weights = {"file": WEIGHTS_FILE, "sha256": self.weights_sha256}
        formats = {
            name: {"file": f"model.{name}", "sha256": sha256}
            for name, sha256 in sorted(self.formats.items())
        }
        files = ["modeling.py", *(each["file"] for each in formats.values())]
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "architecture": self.architecture.to_dict(),
            "digest": self.architecture.digest,
            "input_shape": list(self.architecture.input_shape),
            "flops": self.architecture.flops,
            "flops_unit": FLOPS_UNIT,
            "flops_ratio": self.flops_ratio,
            "params": self.architecture.params,
            "weights": weights if self.weights_sha256 else None,
            "training": None if self.training is None else dict(self.training),
            "formats": formats,
            "tolerance": {file: TOLERANCES[file] for file in files},
            "tolerance_unit": TOLERANCE_UNIT,
            "pretrained_cfg": None if self.pretrained_cfg is None else dict(self.pretrained_cfg),
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_dict(cls, plain: Any, where: str = CONFIG_FILE) -> "ExportConfig":
        """Read what :meth:`to_dict` wrote, in this or an earlier version of the format.

        ``where`` names the file in errors.

        Raises:
            ExportError: It is no export, was written by a newer prunenas, or contradicts itself.
        """
        if not isinstance(plain, Mapping) or plain.get("format") != FORMAT:
            raise ExportError(f"{where}: not an export of prunenas, it lacks `format: {FORMAT}`")
        check_plain(plain, where)
        version = plain.get("format_version")
        if type(version) is not int or version not in _FIELDS:
            raise ExportError(
                f"{where}: format_version must be 1 to {FORMAT_VERSION}, but is {_short(version)}; "
                "a newer prunenas may read it"
            )
        if missing := sorted(_FIELDS[version] - plain.keys()):
            raise ExportError(f"{where}: damaged, it lacks {', '.join(missing)}")
        try:
            architecture = Architecture.from_dict(plain["architecture"])
        except ExportError as error:
            raise ExportError(f"{where}: {one_line(error)}") from error
        config = cls(
            architecture,
            _ratio(plain["flops_ratio"], where),
            _mapping(plain["provenance"], "provenance", where),
            _checksum(plain["weights"], WEIGHTS_FILE, "weights", where),
            checked_training(plain.get("training"), where),
            _formats(plain.get("formats", {}), where),
            _optional(plain.get("pretrained_cfg"), "pretrained_cfg", where),
        )
        # What stands twice in the file, for people and other tools to read, must agree.
        expected = config.to_dict()
        for name in ("digest", "input_shape", "flops", "params"):
            if expected[name] != plain[name]:
                found = _short(plain[name])
                raise ExportError(
                    f"{where}: damaged, {name} is {found}, "
                    f"but the architecture's is {expected[name]!r}"
                )
        return config


def data_name(about: Mapping[str, Any]) -> str:
    """Return the name of the data set that a training, or a provenance, tells of.

    A study's training has all its settings, one of ``prunenas train`` the name.
    """
    data = about.get("data")
    if isinstance(data, Mapping):
        data = data.get("name")
    return str(data or "unknown")


def read_config(folder: str | Path) -> ExportConfig:
    """Read an export's ``config.json``; builds nothing and imports none of the user's modules.

    Raises:
        ExportError: The folder is no export, or its config is damaged.
    """
    path = Path(folder) / CONFIG_FILE
    try:
        text = read_bounded(path, _LARGEST)
    except FileNotFoundError as error:
        raise ExportError(f"{folder}: not an export, there is no {CONFIG_FILE} in it") from error
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of 5,000 digits
        raise ExportError(f"{path}: damaged, not JSON: {error}") from error
    return ExportConfig.from_dict(plain, str(path))


def checked_training(value: Any, where: str) -> Mapping[str, Any] | None:
    """A ``training`` block that says what it must.

    Raises:
        ExportError: A key is missing, or an accuracy without its number of images.
    """
    if value is None:
        return None
    training = _mapping(value, "training", where)
    if missing := sorted(_TRAINING - training.keys()):
        raise ExportError(f"{where}: training must have {', '.join(missing)}")
    for split in ("validation", "test"):
        figures = training[split]
        if figures is None:  # a split without images
            continue
        figures = _mapping(figures, f"training.{split}", where)
        accuracy: Any = figures.get("accuracy")
        count = figures.get("n")
        if not _is_number(accuracy) or not 0 <= accuracy <= 1:
            raise ExportError(
                f"{where}: training.{split}.accuracy must be in [0, 1], but is {_short(accuracy)}"
            )
        if type(count) is not int or count < 1:
            raise ExportError(
                f"{where}: training.{split}.n must be an int >= 1, but is {_short(count)}"
            )
    return training


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _ratio(value: Any, where: str) -> float:
    if not _is_number(value) or not 0 < value <= 1:
        raise ExportError(f"{where}: flops_ratio must be in (0, 1], but is {_short(value)}")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _mapping(value: Any, name: str, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ExportError(f"{where}: {name} must be a mapping, but is {_short(value)}")
    return value


def _optional(value: Any, name: str, where: str) -> Mapping[str, Any] | None:
    return None if value is None else _mapping(value, name, where)


def _checksum(value: Any, file: str, name: str, where: str) -> str | None:
    if value is None:
        return None
    entry = _mapping(value, name, where)
    # The file's name is not the config's to choose: a path in it could point anywhere.
    if entry.get("file") != file or not isinstance(entry.get("sha256"), str):
        raise ExportError(f"{where}: {name} must hold file: {file} and its sha256")
    return str(entry["sha256"])


def _formats(value: Any, where: str) -> dict[str, str]:
    found = {}
    for name, entry in _mapping(value, "formats", where).items():
        if name not in FORMATS:
            raise ExportError(f"{where}: {unknown('format', name[:_SHOWN], FORMATS)}")
        checksum = _checksum(entry, f"model.{name}", f"formats.{name}", where)
        if checksum is not None:
            found[name] = checksum
    return found
