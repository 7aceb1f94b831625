"""``prunenas patterns``: which places of their kernels pruned networks keep."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunenas.cli.options import Json, Storage, Trust, trial_option
from prunenas.errors import ExportError, SourceError, StudyError
from prunenas.places import STUDIES

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from prunenas.architecture import Architecture, Space


@dataclass(frozen=True)
class Pruned:
    """A network with masks, and what it is called."""

    name: str
    method: str
    architecture: "Architecture"


def patterns(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY|EXPORT...",
            help="Studies by name, of which it is what pruning found of the front, and exports.",
            show_default=False,
        ),
    ],
    trials: Annotated[
        list[int] | None,
        trial_option("This trial of the one study, instead of its front. Repeatable."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write the maps as YAML, for guided_sparse.",
            show_default=False,
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="FILE", help="Draw the maps as PNG.", show_default=False),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite these files.")] = False,
    trust: Trust = False,
    storage: Storage = STUDIES,
    json: Json = False,
) -> None:
    """Show which places of kernels networks with weight masks keep.

    Kernels are those of 3 x 3. For each stage, the layers at one resolution, a map: the share of
    the kernels that keep each place. Of several networks it is the mean of their maps. A study
    takes the maps over to another network, written with --out: `methods: [{name: guided_sparse,
    with: {maps: FILE}}]`.

    \b
    prunenas patterns sparse
    prunenas patterns sparse --trial 3 --trial 7 --out maps.yaml --picture maps.png
    prunenas patterns exports/best exports/trial_7 --json
    """
    from prunenas.cli import console
    from prunenas.pictures import patterns_picture
    from prunenas.spec import maps_text

    for path in (out, picture):
        if path is not None and path.exists() and not replace:
            raise typer.BadParameter(f"{path} is there already; --replace overwrites it")
    if trials and (len(sources) > 1 or _is_export(sources[0])):
        raise typer.BadParameter("trials are of one study", param_hint="'--trial'")
    found = [each for source in sources for each in _pruned(source, trials or [], storage, trust)]
    maps = {stage: places.tolist() for stage, places in _mean(found).items()}
    origin = [f"{each.name}, density {each.architecture.density:.4g}" for each in found]
    if out is not None:
        out.write_text(maps_text(maps, origin), encoding="utf-8")
    if picture is not None:
        picture.write_bytes(patterns_picture(maps, title=" ".join(sources)))
    if json:
        console.show_json(
            {
                "networks": [
                    {
                        "name": each.name,
                        "method": each.method,
                        "digest": each.architecture.digest,
                        "density": each.architecture.density,
                    }
                    for each in found
                ],
                "maps": {str(stage): places for stage, places in maps.items()},
            }
        )
    else:
        of = f"mean of {len(found)} networks" if len(found) > 1 else origin[0]
        console.show(_table(maps, f"Kernels that keep each place, in %: {of}"))


def _is_export(source: str) -> bool:
    return Path(source).is_dir()


def _pruned(source: str, trials: list[int], storage: str, trust: bool) -> list[Pruned]:
    """The networks with masks that a source holds, one at least."""
    from prunenas.architecture import needs_trust
    from prunenas.cli.choice import choose
    from prunenas.export import read_config
    from prunenas.export.masks import read_masks
    from prunenas.methods import METHODS
    from prunenas.search import open_study, whole_architecture

    if _is_export(source):
        config = read_config(source)
        if not config.architecture.masks:
            raise ExportError(f"{source}: patterns are of masks, but this architecture has none")
        if needs_trust(config.architecture.source) and not trust:
            raise SourceError(
                f"{source}: its stages take running {config.architecture.source!r}; --trust does "
                "that"
            )
        whole = read_masks(Path(source), config.architecture)
        return [Pruned(source, str(config.provenance.get("method", "")), whole)]
    view = open_study(storage, source)
    chosen = choose(view, trials, None, everything=not trials)
    found = [
        Pruned(f"{source} trial {record.number}", record.method, whole_architecture(view, record))
        for _, record in chosen
        if record.architecture is not None and record.architecture.get("masks")
        # Of a front, masks that were drawn show nothing of what pruning keeps.
        if trials or METHODS[record.method].kind == "automatic"
    ]
    without = [
        record.number for _, record in chosen if not (record.architecture or {}).get("masks")
    ]
    if without and (trials or not found):
        raise StudyError(
            f"patterns are of masks, but trial {without[0]} of study {source!r} has none"
        )
    if not found:
        raise StudyError(
            f"patterns are of masks that pruning found, but study {source!r} only drew its front's"
        )
    return found


def _mean(networks: list[Pruned]) -> "dict[int, Tensor]":
    """The mean of the networks' maps, by stage."""
    from prunenas.architecture import trace
    from prunenas.methods import mean_maps, survival_maps

    spaces: dict[tuple[Any, ...], Space] = {}
    maps: list[dict[int, Tensor]] = []
    for each in networks:
        built = each.architecture
        key = (built.source, str(dict(built.arguments)), built.input_shape)
        if key not in spaces:
            spaces[key] = trace(
                built.source, arguments=built.arguments, input_shape=built.input_shape
            )
        if not any(mask.shape[2:] == (3, 3) for mask in built.masks.values()):
            raise ExportError(f"{each.name}: no 3 x 3 kernels have lost weights")
        own = survival_maps(spaces[key], built)
        if maps and own.keys() != maps[0].keys():
            raise ExportError(
                f"networks must have the same stages, but {networks[0].name} has "
                f"{_stages(maps[0])} and {each.name} has {_stages(own)}"
            )
        maps.append(own)
    return mean_maps(maps)


def _stages(maps: "dict[int, Tensor]") -> str:
    return ", ".join(map(str, maps))


def _table(maps: dict[int, Any], title: str) -> "Table":
    from rich.text import Text

    from prunenas.cli.tables import table

    result = table("stage", "map", ("mean", "right"), title=title)
    top = max(share for places in maps.values() for row in places for share in row)
    for index, (stage, places) in enumerate(maps.items()):
        if index:
            result.add_row("", "", "")
        cells = [share for row in places for share in row]
        drawn = Text()
        for line, row in enumerate(places):
            drawn.append("\n" if line else "")
            for share in row:
                drawn.append(f"{100 * share:6.1f} ", style=_shade(share / top))
        result.add_row(str(stage), drawn, f"{100 * sum(cells) / len(cells):.1f}")
    return result


def _shade(part: float) -> str:
    """Blue on white, the darker the larger; as in the picture."""
    red, green, blue = (round(255 + part * (end - 255)) for end in (8, 48, 107))
    return f"{'white' if part > 0.55 else 'black'} on rgb({red},{green},{blue})"
