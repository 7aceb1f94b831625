"""A sound study with its search spaces, for tests that break it in one place."""

from pathlib import Path

from prunenas.errors import SpecError
from prunenas.spec import check

STUDY = """\
name: sound
model: {name: vgg_mini}
data: {name: digits}
methods:
  - {name: l1_norm, space: per_layer}
objective: {maximize: accuracy, minimize: flops}
train: {epochs: 1}
search: {sampler: random, trials: 2}
"""
PER_LAYER = "widths: {per: group, ratio: {low: 0.1, high: 1.0, step: 0.05}}\n"
SLIMMING = (
    "method:\n  sparsity: {low: 1e-5, high: 1e-2, log: true}\n  keep: {low: 0.1, high: 0.9}\n"
)


def write_sound_files(folder: Path) -> None:
    (folder / "studies").mkdir()
    (folder / "search_spaces").mkdir()
    (folder / "search_spaces" / "per_layer.yaml").write_text(PER_LAYER)
    (folder / "search_spaces" / "slimming.yaml").write_text(SLIMMING)


def mistakes(text: str, path: str = "studies/s.yaml") -> list[str]:
    Path(path).write_text(text)
    try:
        check(path)
    except SpecError as error:
        return str(error).split("\n")
    return []


def changed(line: int, text: str) -> str:
    """The sound study with another text in one line."""
    lines = STUDY.splitlines()
    lines[line - 1] = text
    return "\n".join(lines) + "\n"


def inline(space: str, name: str = "l1_norm") -> str:
    return f"  - {{name: {name}, space: {space}}}"
