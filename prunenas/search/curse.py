"""The winner's curse: how much better candidates look by the scores that chose them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from prunenas.search.repeats import ENOUGH, Repeats, final_front, ranked, standard_error


@dataclass(frozen=True)
class Curse:
    """How far search scores lie above fresh means.

    Attributes:
        mean: Over the candidates; above 0 where the search flattered them.
        standard_error: Of that mean; None for a single candidate.
        n: Number of candidates.
    """

    mean: float
    standard_error: float | None
    n: int

    @property
    def is_clear(self) -> bool:
        """Whether the mean is more than two standard errors away from 0."""
        return self.standard_error is not None and abs(self.mean) > 2 * self.standard_error

    def sentence(self) -> str:
        """What it means, in plain words."""
        size = f"{abs(self.mean):.4f}"
        if self.standard_error is not None:
            size += f" ± {self.standard_error:.4f}"
        side = "above" if self.mean >= 0 else "below"
        if self.n == 1:
            return f"The one candidate's search score lies {size} {side} its fresh-seed mean."
        over = f"{size} {side} the fresh-seed means of {self.n} candidates (mean ± standard error)"
        if not self.is_clear:
            return f"No winner's curse is seen: search scores lie {over}."
        verb = "flattered" if self.mean > 0 else "undersold"
        return f"The search {verb} its choice: its scores lie {over}. Expect the means."


def curse(all_: Iterable[Repeats]) -> Curse | None:
    """The winner's curse: mean over candidates of (search score - mean of fresh seeds).

    Its standard error is that of a mean of paired differences, one for each candidate ("Student"
    1908). All candidates share the search's one seed, so that luck of that seed counts too.

    Returns:
        None where no candidate has two fresh seeds.
    """
    differences = [
        each.record.accuracy - each.mean
        for each in all_
        if each.n >= ENOUGH and each.mean is not None and each.record.accuracy is not None
    ]
    if not differences:
        return None
    return Curse(fmean(differences), standard_error(differences), len(differences))


def summary(
    all_: Sequence[Repeats], directions: Sequence[str], wanted: int, final: bool
) -> dict[str, Any]:
    """Everything that is known, as JSON values: what ``best --json`` and MLflow show.

    Args:
        all_: The candidates.
        directions: One entry for each objective.
        wanted: Fresh seeds that each is to have.
        final: Whether candidates are ranked; before, the rank is None.
    """
    front = {each.record.number for each in final_front(all_, directions)} if final else set()
    found = curse(all_) if final else None
    rows: list[Mapping[str, Any]] = [
        {
            **each.to_dict(),
            "rank": rank if final else None,
            "on_front": each.record.number in front if final else None,
        }
        for rank, each in enumerate(ranked(all_), 1)
    ]
    return {
        "wanted": wanted,
        "candidates": rows,
        "winners_curse": found and {**asdict(found), "sentence": found.sentence()},
    }
