"""Which widths the front has: a heat map, a row for each architecture, a column for each group."""

from collections.abc import Mapping, Sequence

from prunenas.architecture import Architecture
from prunenas.report.svg import element, text
from prunenas.search.view import StudyView
from prunenas.trial import Record

_CELL, _ROW, _LEFT, _HEAD = 26, 24, 170, 96


def kept(record: Record, groups: Sequence[str]) -> dict[str, float]:
    """Return the share that a trial keeps of each group: its channels times their weights' density.

    A residual branch that is taken out has no channels: its groups keep nothing.
    """
    plain = record.architecture or {}
    architecture = Architecture.from_dict(plain) if plain.get("masks") else None
    densities: Mapping[str, float] = (
        {name.removesuffix(".weight"): mask.density for name, mask in architecture.masks.items()}
        if architecture
        else {}
    )
    return {group: record.ratios.get(group, 0.0) * densities.get(group, 1.0) for group in groups}


def rows(records: Sequence[Record], *, limit: int = 30) -> list[Record]:
    """Return at most so many architectures, evenly chosen, most FLOPs first."""
    found = sorted(records, key=lambda each: -(each.flops or 0))
    if len(found) <= limit:
        return found
    return [found[round(i * (len(found) - 1) / (limit - 1))] for i in range(limit)]


def heat_map(view: StudyView, records: Sequence[Record], importance: Mapping[str, float]) -> str:
    """Return the heat map; above it how much each group's width explains of accuracy.

    Args:
        view: The study.
        records: The rows; see `rows` for their order.
        importance: By group; empty where it is not known.
    """
    groups = list(view.dense_widths)
    if not groups or not records:
        return ""
    shown = rows(records)
    cell = max(6.0, min(_CELL, 900 / len(groups)))
    width, top = _LEFT + cell * len(groups) + 60, _HEAD + (_ROW + 6 if importance else 0)
    parts = []
    for index, group in enumerate(groups):
        x = _LEFT + cell * (index + 0.5)
        if cell >= 12:
            parts.append(
                text(
                    group if len(group) < 16 else f"…{group[-14:]}",
                    x + 4,
                    _HEAD - 6,
                    class_="tick",
                    transform=f"rotate(-60 {x:.1f} {_HEAD - 6})",
                )
            )
        if importance:
            share = importance.get(group, 0.0)
            shade = share / (max(importance.values()) or 1.0)
            parts.append(_cell(x - cell / 2, _HEAD, cell, shade, "weight", f"{group}: {share:.0%}"))
    if importance:
        parts.append(text("matters", _LEFT - 8, _HEAD + 16, class_="tick", text_anchor="end"))
    for row, record in enumerate(shown):
        y = top + _ROW * row
        named = f"trial {record.number} · {100 * (record.flops_ratio or 0):.1f} %"
        parts.append(text(named, _LEFT - 8, y + 16, class_="tick", text_anchor="end"))
        shares = kept(record, groups)
        for index, group in enumerate(groups):
            told = f"trial {record.number}, {group}: {shares[group]:.0%}"
            parts.append(_cell(_LEFT + cell * index, y, cell, shares[group], "kept", told))
    height = top + _ROW * len(shown) + 8
    title = "Share kept of each channel group, and how much it matters"
    return element(
        "svg",
        element("title", title),
        *parts,
        viewBox=f"0 0 {width:.0f} {height}",
        xmlns="http://www.w3.org/2000/svg",
        role="img",
        aria_label=title,
        style=f"width:{width:.0f}px;max-width:none",
    )


def _cell(x: float, y: float, size: float, share: float, kind: str, told: str) -> str:
    return element(
        "rect",
        element("title", told),
        x=x + 0.5,
        y=y + 1,
        width=size - 1,
        height=_ROW - 3,
        class_=kind,
        style=f"fill-opacity:{0.06 + 0.94 * min(1.0, share):.2f}",
    )
