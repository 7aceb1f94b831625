"""How dense masked layers are, for people and programs."""

from typing import Any

from rich.text import Text

from prunenas.architecture import Architecture
from prunenas.cli import units
from prunenas.cli.listing import Column, Listing
from prunenas.cli.tables import bar


def survivors(architecture: Architecture) -> str:
    """Word what survives of a masked architecture beside what fvcore counts of it."""
    return (
        f"density {units.share(architecture.density)}: surviving are "
        f"{units.count(architecture.flops)} of {units.count(architecture.whole_flops)} FLOPs "
        f"(fvcore counts the dense form), {units.count(architecture.params)} of "
        f"{units.count(architecture.whole_params)} parameters"
    )


def listing(architecture: Architecture) -> Listing:
    """Return what each mask keeps of its layer, and of the layer's FLOPs."""
    result = Listing(
        Column("masked layer"),
        Column("by", gives_way=2),
        Column("kept", right=True),
        Column("of", right=True),
        Column("density", right=True),
        Column("", gives_way=1),
        Column("FLOPs", right=True),
    )
    masks = architecture.masks
    for name, mask in masks.items():
        result.add(
            Text(name.removesuffix(".weight")),
            Text(mask.granularity, "dim"),
            f"{mask.kept:,}",
            Text(f"{mask.units:,}", "dim"),
            units.share(mask.density),
            bar(mask.density, "green"),
            units.count(mask.flops),
        )
    result.add(
        Text.assemble(("all", "bold"), (f" · {units.plural(len(masks), 'layer')}", "dim")),
        Text("weight", "dim"),
        f"{sum(mask.weights for mask in masks.values()):,}",
        Text(f"{sum(mask.total for mask in masks.values()):,}", "dim"),
        Text(units.share(architecture.density), "bold"),
        bar(architecture.density, "blue"),
        units.count(sum(mask.flops for mask in masks.values())),
        section=True,
    )
    return result


def plain(architecture: Architecture) -> dict[str, Any]:
    """Return the figures of all masks, and of each, as JSON values."""
    return {
        "density": architecture.density,
        "whole_flops": architecture.whole_flops,
        "whole_params": architecture.whole_params,
        "layers": [
            {
                "name": name.removesuffix(".weight"),
                "granularity": mask.granularity,
                "kept": mask.kept,
                "of": mask.units,
                "density": mask.density,
                "flops": mask.flops,
                "whole_flops": mask.whole_flops,
            }
            for name, mask in architecture.masks.items()
        ],
    }
