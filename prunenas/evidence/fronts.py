"""A front as a comparison: do its architectures win, with other seeds, on the test split?"""

from collections.abc import Sequence

from prunenas.data import load
from prunenas.errors import StudyError
from prunenas.evidence.cells import Contender
from prunenas.search.rehearsal import proposed
from prunenas.search.view import StudyView
from prunenas.search.workshop import trace_study
from prunenas.spec import Arm, Comparison
from prunenas.trial import Record


def front_comparison(
    view: StudyView, records: Sequence[Record], *, seeds: int, arms: Sequence[Arm]
) -> tuple[Comparison, tuple[Contender, ...]]:
    """Return a comparison of trials' methods, at the hyperparameters and FLOPs they had.

    An automatic method finds its architecture anew in each seed's dense network: what is judged is
    the way, not one lucky architecture. The first seed is beyond the study's own.

    Args:
        view: The study.
        records: Complete trials of it.
        seeds: How many.
        arms: In which ways.

    Raises:
        StudyError: There are no trials, one is not complete, or the study is of another version.
    """
    if not records:
        raise StudyError(f"study {view.name!r} has no front to compare yet")
    for record in records:
        if record.state != "complete" or record.flops_ratio is None:
            raise StudyError(
                f"complete trials are compared, but trial {record.number} of {view.name!r} is "
                f"{record.state}"
            )
    study = view.study()
    space = trace_study(study, load(**study.data.model_dump()))
    contenders = []
    for record in sorted(records, key=lambda each: -(each.flops or 0)):
        candidate = proposed(record, study, space)
        contenders.append(
            Contender(
                label=f"trial {record.number}, {record.method}",
                method=record.method,
                # Of half a multiply-add more: the budget that it comes to is the very same number.
                flops_ratio=min(1.0, ((record.flops or 0) + 0.5) / space.dense_flops),
                hyperparameters=candidate.method.model_dump(mode="json"),
                ratios=None if candidate.ratios is None else dict(candidate.ratios),
            )
        )
    train = {**view.settings["train"], "initial": "fresh"}
    comparison = Comparison.model_validate(
        {
            "name": view.name,
            "models": [view.settings["model"]],
            "data": view.settings["data"],
            "methods": [{"name": name} for name in dict.fromkeys(r.method for r in records)],
            "budgets": list(dict.fromkeys(each.flops_ratio for each in contenders)),
            "train": train,
            "arms": list(arms),
            "seeds": seeds,
            "seed": study.search.seed + 1,
        }
    )
    return comparison, tuple(contenders)
