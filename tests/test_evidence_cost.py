"""What a comparison costs, worked out by hand."""

import pytest

from prunenas.evidence.cells import cells
from prunenas.evidence.comparison import every_method
from prunenas.evidence.cost import cost
from prunenas.spec import Comparison


def planned(*, methods: list[dict], arms: list[str], protocol: str = "scratch_e") -> Comparison:
    return Comparison.model_validate(
        {
            "name": "planned",
            "models": [{"name": "lenet5"}],
            "data": {"name": "mnist5k"},
            "methods": methods,
            "budgets": [0.25],
            "train": {"epochs": 8, "protocol": protocol},
            "fine_tune": {"epochs": 2},
            "arms": arms,
            "seeds": 3,
        }
    )


@pytest.mark.parametrize(
    ("methods", "arms", "protocol", "networks", "trainings"),
    [
        ([{"name": "l1_norm"}], ["dense"], "scratch_e", 1, 1.0),
        # 2 of 8 epochs at a quarter of the FLOPs.
        ([{"name": "l1_norm"}], ["fine_tuned"], "scratch_e", 1, 1 / 16),
        ([{"name": "l1_norm"}], ["scratch_e"], "scratch_e", 1, 1 / 4),
        # As much computation as the dense network's.
        ([{"name": "l1_norm"}], ["scratch_b"], "scratch_e", 1, 1.0),
        ([{"name": "l1_norm"}], ["uniform", "random"], "scratch_e", 2, 1 / 2),
        ([{"name": "l1_norm"}], ["uniform"], "scratch_b", 1, 1.0),
        # Zeros are multiplied with, and Scratch-B is four times as long.
        ([{"name": "magnitude"}], ["scratch_b"], "scratch_e", 1, 4.0),
        ([{"name": "magnitude"}], ["ticket"], "scratch_e", 1, 1.0),
        ([{"name": "l1_norm"}], ["dense", "ticket"], "scratch_e", 1, 1.0),
        (
            [{"name": "gibbs", "with": {"unit": "filter", "narrow": True}}],
            ["scratch_e"],
            "scratch_e",
            1,
            1 / 4,
        ),
    ],
)
def test_cost_is_what_a_pencil_says(
    methods: list[dict], arms: list[str], protocol: str, networks: int, trainings: float
) -> None:
    comparison = planned(methods=methods, arms=arms, protocol=protocol)
    todo = cells(list(every_method(comparison)), comparison.arms, range(3))
    found = cost(comparison, todo, dense_flops=1000, images=10)
    assert found.networks == 3 * networks
    assert found.dense_trainings == pytest.approx(3 * trainings)
    # One forward pass and two products for each of its own in the backward one.
    assert found.multiply_adds == pytest.approx(3 * trainings * 8 * 10 * 3 * 1000)
