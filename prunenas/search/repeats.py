"""Repeats: what fresh seeds say of a study's candidates, and what choosing has made of its scores.

A search trains every architecture once, with one seed, and keeps the best figures: those that had
luck are among them, so that the best scores promise more than they hold (the winner's curse; Cawley
and Talbot 2010, "On over-fitting in model selection"). Candidates are therefore trained again with
seeds that had no part in the choice, and ranked by the mean of these.

Pure: values in, values out. Accuracies are shares in [0, 1] on the validation split.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, stdev
from typing import Any

from prunenas.search.front import front_of
from prunenas.trial import Record

RIVALS = 5
"""How many architectures are repeated where one objective leaves a single best one."""

KEPT = "repeats/"
"""Before a trial's number: the name of the study's attribute that keeps its repeats."""

ENOUGH = 2
"""Fresh seeds that a mean needs to have a standard error."""


@dataclass(frozen=True)
class Repeat:
    """One training of a candidate with a fresh seed.

    Attributes:
        seed: Its training seed.
        accuracy: After the last epoch; None where the training failed.
        reason: Why it failed; None where it did not.
        epochs: How many were trained.
        seconds: Wall time.
        finished: ISO 8601 time with zone.
        reused: Whose training it is, as in :class:`prunenas.trial.Record`.
    """

    seed: int
    accuracy: float | None
    reason: str | None
    epochs: int
    seconds: float
    finished: str
    reused: str | None = None


@dataclass(frozen=True)
class Repeats:
    """A candidate and its trainings with fresh seeds.

    Attributes:
        record: The trial that found it; its accuracy is the search's, which chose it.
        trainings: In order of the study's seeds.
    """

    record: Record
    trainings: tuple[Repeat, ...] = ()

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Of the trainings that did not fail."""
        return tuple(each.accuracy for each in self.trainings if each.accuracy is not None)

    @property
    def n(self) -> int:
        """How many fresh seeds the mean is of."""
        return len(self.accuracies)

    @property
    def mean(self) -> float | None:
        """Mean accuracy over fresh seeds; None without any."""
        return fmean(self.accuracies) if self.accuracies else None

    @property
    def standard_error(self) -> float | None:
        """Of the mean; None below two seeds."""
        return standard_error(self.accuracies)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        record = self.record
        return {
            "trial": record.number,
            "method": record.method,
            "digest": record.digest,
            "flops": record.flops,
            "flops_ratio": record.flops_ratio,
            "search_accuracy": record.accuracy,
            "seeds": [each.seed for each in self.trainings if each.accuracy is not None],
            "accuracies": list(self.accuracies),
            "mean": self.mean,
            "standard_error": self.standard_error,
            "n": self.n,
            "trainings": [asdict(each) for each in self.trainings],
        }


def standard_error(values: Sequence[float]) -> float | None:
    """Standard error of a mean: s / √n, with s² = Σ (x - mean)² / (n - 1); None below two values.

    Source: Altman and Bland 2005, "Standard deviations and standard errors".

    >>> standard_error([1.0, 2.0, 3.0]) == (1 / 3) ** 0.5
    True
    """
    return stdev(values) / len(values) ** 0.5 if len(values) >= ENOUGH else None


def seeds(study_seed: int, number: int) -> tuple[int, ...]:
    """The first ``number`` fresh training seeds of a study; more of them begin with the same.

    Seed k (from 1) is the first 31 bits of the SHA-256 of the text ``repeat K of seed S``, where S
    is the study's seed. Not S + k: those are the seeds of other studies, and a candidate that
    another study chose by such a seed (``warm_start``) would meet its own luck again. All
    candidates have the same seeds, so that they are compared on the same random numbers.

    Args:
        study_seed: The study's, which is never among them.
        number: How many.
    """
    found: list[int] = []
    k = 0
    while len(found) < number:
        k += 1
        digest = hashlib.sha256(f"repeat {k} of seed {study_seed}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big") >> 1
        if seed != study_seed and seed not in found:
            found.append(seed)
    return tuple(found)


def candidates(
    records: Iterable[Record], costs: Sequence[str], known: Collection[int] = ()
) -> tuple[Record, ...]:
    """The records whose architectures are trained again, in order of their numbers.

    With several objectives the front, with one the five most accurate different architectures; and
    those that were candidates before the study got more trials: what is known of them holds.

    Args:
        records: Records of one study.
        costs: What the study minimizes.
        known: Numbers of earlier candidates.
    """
    records = tuple(records)
    if costs:
        chosen = front_of(records, costs)
    else:
        done = [each for each in records if each.state == "complete" and each.accuracy is not None]
        best: dict[str | None, Record] = {}
        for record in sorted(done, key=lambda r: (-(r.accuracy or 0.0), r.flops or 0, r.number)):
            best.setdefault(record.digest, record)
        chosen = tuple(best.values())[:RIVALS]
    numbers = {record.number for record in chosen} | set(known)
    return tuple(record for record in records if record.number in numbers)


def standing(
    kept: Mapping[str, Any], records: Sequence[Record], costs: Sequence[str]
) -> tuple[Repeats, ...]:
    """The candidates and what is known of them.

    Args:
        kept: The study's attributes in its storage.
        records: All its records.
        costs: What the study minimizes.
    """
    known = {
        int(name.removeprefix(KEPT)): [Repeat(**each) for each in value]
        for name, value in kept.items()
        if name.startswith(KEPT)
    }
    wanted = kept.get("repeats", 0)  # studies from before there were repeats have none
    if wanted and len(records) >= kept["trials"]:
        chosen = candidates(records, costs, known)
    else:
        chosen = tuple(record for record in records if record.number in known)
    most = max([wanted, *map(len, known.values())])
    order = seeds(kept["settings"]["search"]["seed"], most)
    return tuple(
        Repeats(
            record,
            tuple(sorted(known.get(record.number, ()), key=lambda each: order.index(each.seed))),
        )
        for record in chosen
    )


def progress(all_: Iterable[Repeats], wanted: int) -> tuple[int, int]:
    """How many trainings with fresh seeds are done, and of how many."""
    done = [len(each.trainings) for each in all_]
    return sum(done), sum(max(wanted, each) for each in done)


def are_judged(all_: Iterable[Repeats], wanted: int) -> bool:
    """Whether every candidate has enough fresh seeds to be ranked, or none left to try."""
    return all(each.n >= ENOUGH or len(each.trainings) >= wanted for each in all_)


def ranked(all_: Iterable[Repeats]) -> tuple[Repeats, ...]:
    """Candidates by falling mean; of equals the one with the fewest FLOPs is first.

    Those with fewer than two fresh seeds trained can't be compared, and come last.
    """
    return tuple(
        sorted(
            all_,
            key=lambda r: (
                r.n < ENOUGH,
                -(r.mean or 0.0),
                r.record.flops or 0,
                r.record.number,
            ),
        )
    )


def final_front(all_: Iterable[Repeats], costs: Sequence[str]) -> tuple[Repeats, ...]:
    """The candidates no other beats by mean accuracy and costs, by ascending cost.

    Without costs the one with the highest mean.
    """
    by_number = {each.record.number: each for each in all_ if each.n >= ENOUGH}
    means = [replace(each.record, accuracy=each.mean) for each in by_number.values()]
    return tuple(by_number[record.number] for record in front_of(means, costs))
