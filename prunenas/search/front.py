"""The front: records that no other one beats."""

from collections.abc import Iterable, Sequence

from prunenas.trial import Record


def front_of(records: Iterable[Record], costs: Sequence[str]) -> tuple[Record, ...]:
    """The complete records that no other is better than, by ascending cost.

    That is the Pareto front of accuracy (up) and costs (down); of records that are equal in all the
    earliest stands for all. Without costs it is the most accurate record, of equals the one with
    the fewest FLOPs.

    Args:
        records: Records of one study.
        costs: What it minimizes; the first orders the front.
    """
    done = [
        ((-record.accuracy, *known), record)
        for record in records
        if record.state == "complete"
        and record.accuracy is not None
        and (known := record.costs(costs or ("flops",))) is not None
    ]
    best_first = sorted(done, key=lambda row: (row[0], row[1].number))
    if not costs:
        return tuple(record for _, record in best_first[:1])
    front: list[tuple[tuple[float, ...], Record]] = []
    for row in best_first:  # what beats a row, or equals it, stands before it
        if not any(all(a <= b for a, b in zip(o, row[0], strict=True)) for o, _ in front):
            front.append(row)
    return tuple(record for _, record in sorted(front, key=lambda row: row[0][1:]))
