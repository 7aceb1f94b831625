"""``README.md``: the model card, for people and for the Hugging Face hub's index."""

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from prunenas.architecture import Architecture
from prunenas.export.bundle import MODELING_FILE
from prunenas.export.config import (
    FLOPS_UNIT,
    TOLERANCE_UNIT,
    TOLERANCES,
    WEIGHTS_FILE,
    ExportConfig,
    data_name,
)
from prunenas.export.document import ARCHITECTURE_FILE
from prunenas.export.masks import MASKS_FILE

CARD_FILE = "README.md"
WIDTHS_PICTURE, DENSITIES_PICTURE = "widths.png", "densities.png"
_PICTURES = {
    WIDTHS_PICTURE: "Channels that each group of layers keeps",
    DENSITIES_PICTURE: "Weights that each masked layer keeps",
}


def picture_file(architecture: Architecture) -> str:
    """The file of an architecture's picture: of its densities where it has masks, or its widths."""
    return DENSITIES_PICTURE if architecture.masks else WIDTHS_PICTURE


def card(config: ExportConfig, name: str, *, picture: bool) -> str:
    """The text of ``README.md``.

    Args:
        config: What the export says of itself.
        name: The export's.
        picture: Whether the folder holds the ``picture_file``.
    """
    architecture = config.architecture
    shown = picture_file(architecture)
    title = f"{architecture.source} at {config.flops_ratio:.1%} of its FLOPs".replace("%", " %")
    front = yaml.safe_dump(_front_matter(config, name), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{front}---\n\n# {title}",
        _lead(config),
        _table(("figure", "value"), _figures(config)),
        f"![{_PICTURES[shown]}]({shown})" if picture else "",
        _masks(architecture),
        "## Load it",
        _usage(config),
        _training(config),
        _table(("origin", "value"), _origin(config.provenance)),
        _files(config, picture),
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _lead(config: ExportConfig) -> str:
    provenance = config.provenance
    if name := provenance.get("architecture"):
        return f"The architecture {name} of a paper: {provenance.get('source', 'see its name')}."
    if config.architecture.masks:
        return (
            "An architecture that prunenas found: pruning decided which weights there are at all."
        )
    return "An architecture that prunenas found: pruning decided how wide each layer is."


def _masks(architecture: Architecture) -> str:
    if not architecture.masks:
        return ""
    rows = [
        (
            name.removesuffix(".weight"),
            f"{mask.kept:,} of {mask.units:,} {mask.granularity}s",
            _share(mask.density),
            f"{mask.flops:,} of {mask.whole_flops:,}",
        )
        for name, mask in architecture.masks.items()
    ]
    kinds = sorted({f"{mask.granularity}s" for mask in architecture.masks.values()})
    return (
        f"## Masks\n\nMasks drop {' and '.join(kinds)}: of the masked layers' weights "
        f"{_share(architecture.density)} are there. Dropped ones are zeros within tensors of the "
        "dense form, so a library without sparse kernels is no faster for them. FLOPs and "
        "parameters are those that survive; counted in the dense form, as fvcore does, they are "
        f"{architecture.whole_flops:,} and {architecture.whole_params:,}. Trained further, dropped "
        "weights stay 0: their gradients are 0, and so are momentum and weight decay of a 0. A "
        f"copy of the network needs `hold` of {MODELING_FILE} for that.\n\n"
        + _table(("layer", "kept", "density", "FLOPs"), rows)
    )


def accuracies(config: ExportConfig) -> list[tuple[str, float, int | None]]:
    """Accuracies that are known: the split, the share in [0, 1], and of how many images."""
    if config.training is not None:
        return [
            (split, float(config.training[split]["accuracy"]), config.training[split]["n"])
            for split in ("test", "validation")
            if config.training[split] is not None
        ]
    accuracy = config.provenance.get("accuracy")
    if not isinstance(accuracy, (int, float)):
        return []
    images = config.provenance.get("images")
    count = images.get("validation") if isinstance(images, Mapping) else None
    return [(str(config.provenance.get("split", "validation")), float(accuracy), count)]


def _front_matter(config: ExportConfig, name: str) -> dict[str, Any]:
    task = "image-classification"
    results = [
        {
            "task": {"type": task},
            "dataset": {
                "name": data_name(config.training or config.provenance),
                "type": data_name(config.training or config.provenance),
                "split": split,
            },
            "metrics": [
                {"type": "accuracy", "value": accuracy, "name": f"accuracy ({_of(split, count)})"}
            ],
        }
        for split, accuracy, count in accuracies(config)
    ]
    front: dict[str, Any] = {
        "library_name": "prunenas",
        "tags": ["prunenas", "pruning", "neural-architecture-search", "pytorch"],
    }
    if results:
        front |= {"pipeline_tag": task, "metrics": ["accuracy"]}
        front["model-index"] = [{"name": name, "results": results}]
    return front


def _figures(config: ExportConfig) -> Iterable[tuple[str, str]]:
    architecture = config.architecture
    for split, accuracy, count in accuracies(config):
        yield "accuracy", f"{accuracy:.2%}".replace("%", " %") + f" ({_of(split, count)})"
    repeats = config.provenance.get("repeats")
    if isinstance(repeats, Mapping) and isinstance(repeats.get("mean"), float):
        yield "accuracy in the study, fresh seeds", _repeated(repeats)
    share = _share(config.flops_ratio)
    yield "FLOPs", f"{architecture.flops:,} fused multiply-adds ({share} of the dense network's)"
    masked = ", those of dropped weights left out" if architecture.masks else ""
    yield "counted", FLOPS_UNIT.removeprefix("fused multiply-adds ") + masked
    yield "parameters", f"{architecture.params:,}"
    if architecture.masks:
        yield "density", f"{_share(architecture.density)} of the masked layers' weights are kept"
    yield "input", "×".join(map(str, architecture.input_shape)) + " (C×H×W)"
    yield "weights", WEIGHTS_FILE if config.weights_sha256 else "none: an architecture to train"
    yield "digest", f"`{architecture.digest}`"


def _repeated(repeats: Mapping[str, Any]) -> str:
    """A mean over trainings with other seeds than the one that the search chose it by."""
    mean, error = f"{repeats['mean']:.2%}", repeats.get("standard_error")
    if isinstance(error, float):
        mean += f" ± {error:.2%}"
    told = mean.replace("%", " %")
    return f"{told} (validation, mean ± standard error, n = {repeats.get('n')} trainings)"


def _usage(config: ExportConfig) -> str:
    trust = "trust=True" if ":" in config.architecture.source else ""
    library = config.architecture.source.partition("/")[0]
    needs = f"torch and {library}" if "/" in config.architecture.source else "torch"
    lines = [
        "```python",
        f"from modeling import from_pretrained  # {MODELING_FILE} of this folder; needs {needs}",
        f"network = from_pretrained({trust})",
        "```",
        "",
        "or, where prunenas is installed,",
        "",
        "```python",
        "import prunenas",
        f"network = prunenas.load({', '.join(filter(None, ['FOLDER', trust]))})",
        "```",
    ]
    cfg = config.pretrained_cfg or {}
    if "mean" in cfg and "std" in cfg:
        mean, std = (", ".join(f"{value:.4f}" for value in cfg[key]) for key in ("mean", "std"))
        lines += ["", f"Images are scaled to [0, 1], then normalised: mean ({mean}), std ({std})."]
    return "\n".join(lines)


def _training(config: ExportConfig) -> str:
    if config.training is None:
        return ""
    training = config.training
    rows = [
        ("data", _text(training["data"])),
        ("images trained on", _text(training["train_images"])),
        ("protocol", _text(training["protocol"])),
        ("epochs", _text(training["epochs"])),
        ("seed", _text(training["seed"])),
        ("recipe", _text(training["recipe"])),
        ("versions", _text(training["versions"])),
        ("finished", _text(training["finished"])),
    ]
    return "## Training\n\n" + _table(("training", "value"), rows)


def _origin(provenance: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    names = {
        "study": "study",
        "comparison": "comparison",
        "trial": "trial",
        "method": "method",
        "parameters": "hyperparameters",
        "notes": "the method's own figures",
        "epochs": "epochs in the study",
        "seeds": "seeds",
        "versions": "versions",
        "finished": "finished",
    }
    for key, shown in names.items():
        if provenance.get(key) not in (None, {}, []):
            yield shown, _text(provenance[key])


def _files(config: ExportConfig, picture: bool) -> str:
    rows = [("config.json", "everything above, for programs")]
    rows.append((ARCHITECTURE_FILE, "the architecture, for people"))
    rows.append((MODELING_FILE, "a loader that needs no prunenas"))
    if config.weights_sha256:
        rows.append((WEIGHTS_FILE, "the trained weights"))
    if "onnx" in config.formats:
        rows.append(("model.onnx", "ONNX, any batch size"))
    if "pt2" in config.formats:
        rows.append(("model.pt2", "`torch.export`, any batch size"))
    if config.architecture.masks:
        rows.append((MASKS_FILE, "which weights there are, one bit for each"))
    if picture:
        rows.append((picture_file(config.architecture), "the picture above"))
    files = ["modeling.py", *(f"model.{name}" for name in sorted(config.formats))]
    checked = ", ".join(f"{file} within {TOLERANCES[file]:g}" for file in files)
    return (
        "## Files\n\n"
        + _table(("file", "what it is"), rows)
        + f"\n\nChecked in a fresh process when they were written: FLOPs by fvcore, shapes, and "
        f"outputs ({checked}; {TOLERANCE_UNIT})."
    )


def _of(split: str, count: int | None) -> str:
    return f"{split}, n = {count:,}" if count else f"{split}, n not known"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return f"{value:,}" if type(value) is int and value >= 10_000 else str(value)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    listed = list(rows)
    if not listed:
        return ""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in listed]
    return "\n".join(lines)


def _share(ratio: float) -> str:
    return f"{ratio:.2%}".replace("%", " %")


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
