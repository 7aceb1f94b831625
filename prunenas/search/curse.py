"""The winner's curse: how much better candidates look by the scores that chose them."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from prunenas.search.repeats import ENOUGH, Repeats, final_front, standard_error
from prunenas.search.view import StudyView


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


def repeats_summary(view: StudyView) -> dict[str, Any]:
    """What fresh seeds say of a study's candidates, as JSON values, best first.

    Before they can be ranked (see ``StudyView.ranking``) ranks are None.
    """
    ranking = view.ranking
    front = {each.record.number for each in final_front(ranking, view.costs)}
    found = curse(ranking)
    rows: list[Mapping[str, Any]] = [
        {
            **each.to_dict(),
            "rank": rank if ranking else None,
            "on_front": each.record.number in front if ranking else None,
        }
        for rank, each in enumerate(ranking or view.repeats, 1)
    ]
    return {
        "wanted": view.repeats_total,
        "candidates": rows,
        "winners_curse": found and {**asdict(found), "sentence": found.sentence()},
    }
