"""The front: records that no other one beats."""

from collections.abc import Iterable, Sequence

from prunenas.trial import Record


def front_of(records: Iterable[Record], directions: Sequence[str]) -> tuple[Record, ...]:
    """The complete records that no other is better than, by ascending FLOPs.

    With two objectives (accuracy up, FLOPs down) that is the Pareto front; of records that are
    equal in both the earliest stands for all. With one objective it is the most accurate record,
    of equals the one with the fewest FLOPs.

    Args:
        records: Records of one study.
        directions: One entry for each objective, as in the study.
    """
    done = [
        (-record.accuracy, record.flops, record.number, record)
        for record in records
        if record.state == "complete" and record.accuracy is not None and record.flops is not None
    ]
    best_first = sorted(done, key=lambda row: row[:3])
    if len(directions) == 1:
        return tuple(row[3] for row in best_first[:1])
    front: list[Record] = []
    least: int | None = None
    for _, flops, _, record in best_first:  # falling accuracy: only cheaper ones are of use
        if least is None or flops < least:
            front.append(record)
            least = flops
    return tuple(reversed(front))
