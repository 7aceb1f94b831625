"""``architecture.yaml``: the architecture for people to read, and to write by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from prunenas.architecture import Architecture
from prunenas.errors import ExportError
from prunenas.export.plain import check_plain, one_line, read_bounded

ARCHITECTURE_FILE = "architecture.yaml"

_LARGEST = 4 << 20  # bytes; 1,000 layers have 50,000
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, where it was built in

_HEADER = """\
# A network is its source's constructor, called with these arguments while its layers take these
# sizes: conv [in_channels, out_channels, groups], linear [in_features, out_features],
# norm [features], select [channels, selected].
"""


def architecture_yaml(architecture: Architecture) -> str:
    """The text of ``architecture.yaml``: a layer a line."""
    plain = architecture.to_dict()
    return _HEADER + yaml.dump(
        {name: _rows(value) for name, value in plain.items()},
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )


def read_architecture(path: str | Path) -> Architecture:
    """Read an ``architecture.yaml``; builds nothing and imports nothing.

    Raises:
        ExportError: The file can't be read, is no plain YAML, or no architecture.
    """
    path = Path(path)
    try:
        text = read_bounded(path, _LARGEST)
    except FileNotFoundError as error:
        raise ExportError(f"{path}: there is no such file") from error
    try:
        # An alias repeats what an anchor marks: nine lines of them would fill any memory.
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise ExportError(f"{path}:{line}: anchors and aliases are not allowed")
        plain = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        problem = getattr(error, "problem", None) or "can't be parsed"
        raise ExportError(f"{path}:{line}: not plain YAML: {problem}") from error
    except (ValueError, RecursionError) as error:  # such as the date 2000-99-99
        raise ExportError(f"{path}: not plain YAML: {error}") from error
    check_plain(plain, str(path))
    try:
        return Architecture.from_dict(plain)
    except ExportError as error:
        raise ExportError(f"{path}: {one_line(error)}") from error


class _Row(list[Any]):
    """A list that stands on one line."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(
    _Row, lambda dumper, row: dumper.represent_sequence("tag:yaml.org,2002:seq", row, True)
)


def _rows(value: Any) -> Any:
    """Put lists of plain values on one line each."""
    if isinstance(value, Mapping):
        return {name: _rows(inner) for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        nested = any(isinstance(inner, (list, tuple, dict)) for inner in value)
        return [_rows(inner) for inner in value] if nested else _Row(value)
    return value
