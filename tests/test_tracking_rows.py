"""Records as rows: pure functions, held against hand computation and MLflow's own checks."""

import json
import math
import random

import pytest
import synthetic
from cli_samples import MASKED
from hypothesis import given, settings
from hypothesis import strategies as st

from prunenas.tracking import front as front_rows
from prunenas.tracking.quiet import mlflow_at_work
from prunenas.tracking.rows import (
    batches,
    count,
    flatten,
    key_name,
    milliseconds,
    percent,
    trial_note,
    trial_params,
    trial_points,
    trial_tags,
)


@settings(deadline=None)  # the first example imports MLflow
@given(st.text(max_size=300))
def test_every_name_becomes_one_that_mlflow_takes(text: str) -> None:
    with mlflow_at_work("validation"):
        from mlflow.utils.validation import _validate_length_limit, _validate_param_name

        _validate_param_name(key_name(text))
        _validate_length_limit("name", 250, key_name(text))


def test_names_that_mlflow_takes_stay() -> None:
    for name in ("lr", "train/loss", "ratio.features.0", "a b:c-d_e"):
        assert key_name(name) == name


def test_a_curve_has_a_point_for_each_epoch_between_start_and_end() -> None:
    record = synthetic.record(0, 0.9, 0.5, epochs=4)
    points = [point for point in trial_points(record) if point.key == "validation/accuracy"]
    begin = milliseconds(record["started"])
    assert begin == 1_795_167_000_000  # 2026-11-20T09:30:00Z, by `date +%s`
    assert [point.step for point in points] == [1, 2, 3, 4]
    assert [point.timestamp - begin for point in points] == [3125, 6250, 9375, 12500]
    assert points[-1].value == 0.9


def test_what_is_not_finite_is_left_out() -> None:
    record = synthetic.record(0, 0.9, 0.5, epochs=2)
    record["curve"][1]["train_loss"] = math.nan
    record["curve"][0]["validation_loss"] = math.inf
    record["accuracy"] = None
    points = trial_points(record)
    assert [point.step for point in points if point.key == "train/loss"] == [1]
    assert [point.step for point in points if point.key == "validation/loss"] == [2]
    assert not [point for point in points if point.key == "accuracy"]
    assert {point.value for point in points if point.key == "flops"} == {record["flops"]}


def test_a_failed_trial_has_its_reason_and_no_figures() -> None:
    record = synthetic.record(2, None, None, state="failed", reason="out of memory")
    tags = trial_tags(record)
    assert tags["prunenas.state"] == "failed"
    assert tags["prunenas.reason"] == "out of memory"
    assert "prunenas.architecture" not in tags
    assert {point.key for point in trial_points(record)} == {"epochs", "seconds"}
    assert trial_note(record) == "**l1_norm**, failed (out of memory)"


def test_parameters_are_the_method_what_was_proposed_and_the_seeds() -> None:
    record = synthetic.record(7, 0.9, 0.5)
    record["parameters"] = {"method": "l1_norm", "ratio.a": 0.25, "deep": {"x": True}, "none": None}
    assert trial_params(record) == {
        "method": "l1_norm",
        "ratio.a": "0.25",
        "deep.x": "True",
        "seed.split": "0",
        "seed.initialisation": "7",
    }
    assert len(flatten({"long": "x" * 7000})["long"]) == 6000


@pytest.mark.parametrize("sizes", [(0, 0, 0), (3, 4, 5), (1000, 0, 0), (2500, 250, 130)])
def test_batches_keep_mlflows_limits_and_lose_nothing(sizes: tuple[int, int, int]) -> None:
    points = [
        point
        for number in range(sizes[0])
        for point in trial_points(synthetic.record(number, 0.5, None, epochs=0))[:1]
    ]
    params = {f"p{number}": "x" for number in range(sizes[1])}
    tags = {f"t{number}": "x" for number in range(sizes[2])}
    cut = list(batches(points, params, tags))
    with mlflow_at_work("validation"):
        from mlflow.utils.validation import _validate_batch_log_limits

        for batch in cut:
            assert any(batch)
            _validate_batch_log_limits(*batch)
    assert [point for batch in cut for point in batch[0]] == points
    assert dict(pair for batch in cut for pair in batch[1]) == params
    assert dict(pair for batch in cut for pair in batch[2]) == tags
    assert len(cut) == (0 if not any(sizes) else max(1, -(-sizes[0] // 1000), -(-sizes[1] // 100)))


def test_hypervolume_is_the_share_of_the_square_that_is_reached() -> None:
    assert front_rows.hypervolume([]) == 0
    assert front_rows.hypervolume([(0.5, 0.8)]) == pytest.approx(0.5 * 0.8)
    assert front_rows.hypervolume([(0.5, 0.8), (0.25, 0.4)]) == pytest.approx(0.4 + 0.25 * 0.4)
    dice = random.Random(0)
    reached = [(dice.uniform(0.05, 1.1), dice.random()) for _ in range(12)]
    darts = [(dice.random(), dice.random()) for _ in range(40_000)]
    hit = sum(any(x <= a and b <= y for x, y in reached) for a, b in darts) / len(darts)
    assert front_rows.hypervolume(reached) == pytest.approx(hit, abs=0.01)


def test_history_continues_where_it_stopped() -> None:
    records = synthetic.study()
    whole = front_rows.history(records)
    assert [p.value for p in whole if p.key == "best_accuracy"] == [0.962] + 4 * [0.975]
    assert [p.value for p in whole if p.key == "trials"] == [1, 2, 3, 4, 5]
    assert front_rows.history(records[:3]) + front_rows.history(records, after=3) == whole
    volumes = [p.value for p in whole if p.key == "hypervolume"]
    assert volumes == sorted(volumes)
    assert volumes[0] == pytest.approx((1 - 0.31) * 0.962)


def test_the_front_is_a_table_for_people_and_for_programs() -> None:
    records = synthetic.study()
    front = synthetic.front(records)
    assert [record["number"] for record in front] == [3, 0, 1]
    table = json.loads(front_rows.table(front))
    assert [row[0] for row in table["data"]] == [3, 0, 1]
    assert len(table["columns"]) == len(table["data"][0])
    listing = json.loads(front_rows.listing(front, synthetic.DENSE))
    assert listing["dense"] == synthetic.DENSE
    assert listing["front"][0]["architecture"] == front[0]["architecture"]
    pictures = {"The front": "one.png", "Methods": "two.png"}
    note = front_rows.note(front, records, synthetic.DENSE, pictures)
    assert note.startswith("5 trials (4 complete, 1 failed). Dense network: 3.14 M FLOPs")
    assert "| 3 | l1_norm | 94.1 % | 376 k | 12.0 % | 7.30 k |" in note
    assert note.endswith("\n\n![The front](one.png)\n\n![Methods](two.png)")


def test_a_long_front_is_cut_to_what_a_tag_holds() -> None:
    front = [synthetic.record(number, 0.5, 0.5) for number in range(500)]
    note = front_rows.note(front, front, synthetic.DENSE, {"p" * 30: "p" * 80, "q" * 30: "q" * 80})
    assert len(note) < 8000
    assert note.count("\n| 1") > 50


def test_figures_are_written_for_people() -> None:
    assert percent(0.305) == "30.5 %"
    assert [count(n) for n in (7, 999, 1000, 60_858, 313_201_664, 4.1e9)] == [
        "7",
        "999",
        "1.00 k",
        "60.9 k",
        "313 M",
        "4.10 G",
    ]


def test_a_density_is_a_metric_where_there_are_masks() -> None:
    record = synthetic.record(0, 0.9, 0.5)
    assert "density" not in {point.key for point in trial_points(record)}
    assert "density" not in trial_note(record)
    record["architecture"] = MASKED
    (point,) = (point for point in trial_points(record) if point.key == "density")
    assert (point.value, point.timestamp) == (0.3, milliseconds(record["finished"]))
    assert trial_note(record).endswith("parameters, density 30.0 %")
