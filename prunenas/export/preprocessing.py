"""``pretrained_cfg``: what timm and other image libraries read of a network's input and output."""

from collections.abc import Mapping
from typing import Any

from prunenas.architecture import Architecture


def pretrained_cfg(
    architecture: Architecture, provenance: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Metadata in timm's words; ``None`` for a network that does not take images.

    Only what is known: the names of the first convolution and of the classifier where the layers
    show them, and ``mean``, ``std`` (of pixels in [0, 1]), ``crop_pct`` and ``interpolation`` where
    ``provenance`` has them.
    """
    shape = architecture.input_shape
    if len(shape) != 3:
        return None
    known: dict[str, Any] = {
        "architecture": architecture.source.rpartition("/")[2].rpartition(":")[2],
        "input_size": list(shape),
    }
    classes = architecture.arguments.get("num_classes")
    named = [layer for layer in architecture.layers if layer.name is not None]
    first = next((layer for layer in named if layer.kind == "conv"), None)
    if first is not None and first.sizes[0] == shape[0]:
        known["first_conv"] = first.name
    last = next((layer for layer in reversed(named) if layer.kind == "linear"), None)
    if last is not None and classes in (None, last.sizes[1]):
        known["num_classes"] = last.sizes[1]
        known["classifier"] = last.name
    elif classes is not None:
        known["num_classes"] = classes
    for name in ("mean", "std"):
        values = provenance.get(name)
        if isinstance(values, (list, tuple)) and len(values) == shape[0]:
            known[name] = [float(value) for value in values]
    for name in ("crop_pct", "interpolation"):
        if name in provenance:
            known[name] = provenance[name]
    return known
