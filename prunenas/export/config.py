"""``config.json``: what an exported architecture says of itself."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunenas.architecture import Architecture
from prunenas.errors import ExportError

FORMAT = "prunenas"
FORMAT_VERSION = 1
FLOPS_UNIT = "fused multiply-adds in convolutions, linear layers and matrix products, one input"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

_FIELDS = {
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


@dataclass(frozen=True)
class ExportConfig:
    """An exported architecture and where it comes from.

    Attributes:
        architecture: All it takes to build the network.
        flops_ratio: Its FLOPs as a share of the dense network's, in (0, 1].
        provenance: Study, trial, method, parameters, accuracy, split, seed, versions: whatever
            the exporter knows; JSON values.
        weights_sha256: SHA-256 of ``model.safetensors`` in hexadecimal; ``None`` without weights.
    """

    architecture: Architecture
    flops_ratio: float
    provenance: Mapping[str, Any]
    weights_sha256: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``config.json``."""
        weights = {"file": WEIGHTS_FILE, "sha256": self.weights_sha256}
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
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_dict(cls, plain: Any, where: str = CONFIG_FILE) -> "ExportConfig":
        """Read what :meth:`to_dict` wrote; ``where`` names the file in errors.

        Raises:
            ExportError: It is no export, was written by a newer prunenas, or contradicts itself.
        """
        if not isinstance(plain, Mapping) or plain.get("format") != FORMAT:
            raise ExportError(f"{where}: not an export of prunenas, it lacks `format: {FORMAT}`")
        version = plain.get("format_version")
        if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
            raise ExportError(
                f"{where}: format_version must be 1 to {FORMAT_VERSION}, but is {version!r}; "
                "a newer prunenas may read it"
            )
        if missing := sorted(_FIELDS - plain.keys()):
            raise ExportError(f"{where}: damaged, it lacks {', '.join(missing)}")
        try:
            architecture = Architecture.from_dict(plain["architecture"])
        except ExportError as error:
            raise ExportError(f"{where}: {error}") from error
        config = cls(
            architecture,
            _ratio(plain["flops_ratio"], where),
            _mapping(plain["provenance"], "provenance", where),
            _checksum(plain["weights"], where),
        )
        # What stands twice in the file, for people and other tools to read, must agree.
        for name in ("digest", "input_shape", "flops", "params"):
            if config.to_dict()[name] != plain[name]:
                raise ExportError(
                    f"{where}: damaged, {name} is {plain[name]!r}, "
                    f"but the architecture's is {config.to_dict()[name]!r}"
                )
        return config


def read_config(folder: str | Path) -> ExportConfig:
    """Read an export's ``config.json``; builds nothing and imports none of the user's modules.

    Raises:
        ExportError: The folder is no export, or its config is damaged.
    """
    path = Path(folder) / CONFIG_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ExportError(f"{folder}: not an export, there is no {CONFIG_FILE} in it") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{path}: can't be read: {error}") from error
    try:
        plain = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ExportError(f"{path}: damaged, not JSON: {error}") from error
    return ExportConfig.from_dict(plain, str(path))


def _ratio(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
        raise ExportError(f"{where}: flops_ratio must be in (0, 1], but is {value!r}")
    return float(value)


def _mapping(value: Any, name: str, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ExportError(f"{where}: {name} must be a mapping, but is {value!r}")
    return value


def _checksum(value: Any, where: str) -> str | None:
    if value is None:
        return None
    weights = _mapping(value, "weights", where)
    # The file's name is not the config's to choose: a path in it could point anywhere.
    if weights.get("file") != WEIGHTS_FILE or not isinstance(weights.get("sha256"), str):
        raise ExportError(f"{where}: weights must hold file: {WEIGHTS_FILE} and its sha256")
    return str(weights["sha256"])
