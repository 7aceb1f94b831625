"""Studies in the embedded store: what is there, once, whatever is interrupted or repeated."""

import json
from pathlib import Path
from typing import Any

import pytest
import synthetic
import tracked

from prunenas import pictures
from prunenas.errors import TrackingError
from prunenas.tracking.quiet import mlflow_at_work


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder a study runs in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(tracked.fresh_database())
    return tmp_path


@pytest.fixture
def uri(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def test_a_study_is_a_run_and_its_trials_are_runs_below(folder: Path, uri: str) -> None:
    records = synthetic.study()
    tracked.run_study(tracked.tracker(), records)
    parent, children = tracked.study_runs(uri)
    assert parent.info.run_name == "quickstart"
    assert parent.info.status == "FINISHED"
    assert parent.data.params["train.epochs"] == "4"
    assert parent.data.params["search.sampler"] == "tpe"
    assert parent.data.metrics == {
        "best_accuracy": 0.975,
        "trials": 5.0,
        "hypervolume": pytest.approx((1 - 0.62) * 0.975 + (0.62 - 0.31) * 0.962 + 0.19 * 0.941),
        "dense/accuracy": 0.981,
        "dense/flops": 3_137_000,
        "dense/params": 60_858,
    }
    assert [run.info.run_name for run in children] == [
        "000 l1_norm",
        "001 network_slimming",
        "002 l1_norm",
        "003 l1_norm",
        "004 l1_norm",
    ]
    assert [run.info.status for run in children] == 2 * ["FINISHED"] + ["FAILED"] + 2 * ["FINISHED"]
    assert children[2].data.tags["prunenas.reason"] == "non-finite loss"
    assert [run.data.tags.get("prunenas.front") for run in children] == [
        "true",
        "true",
        None,
        "true",
        None,
    ]
    assert children[0].data.params["ratio.features.0"] == "0.5"
    assert children[0].data.metrics["accuracy"] == 0.962
    assert children[0].data.metrics["flops"] == records[0]["flops"]
    # Times are the record's: the trial's run lasts as long as the trial did.
    assert children[0].info.end_time - children[0].info.start_time == 12_500
    assert parent.info.start_time == children[0].info.start_time
    assert parent.info.end_time == children[4].info.end_time
    assert sorted(path.name for path in folder.iterdir()) == ["mlartifacts", "mlflow.db"]


def test_curves_have_their_epochs_as_steps(uri: str) -> None:
    record = synthetic.record(0, 0.9, 0.5, epochs=6)
    tracked.run_study(tracked.tracker(), [record])
    _, [child] = tracked.study_runs(uri)
    with tracked.reading(uri) as client:
        for key, name in (
            ("train_loss", "train/loss"),
            ("validation_accuracy", "validation/accuracy"),
        ):
            history = client.get_metric_history(child.info.run_id, name)
            assert [(m.step, m.value) for m in history] == [
                (epoch["epoch"], epoch[key]) for epoch in record["curve"]
            ]


def test_methods_have_a_picture_where_there_are_several(folder: Path, uri: str) -> None:
    records = synthetic.study()
    one = [record for record in records if record["method"] == "l1_norm"]
    tracked.run_study(tracked.tracker(draw_methods=pictures.methods_picture), one)
    assert not list(folder.rglob("methods.png"))
    # A study that was tracked before there was such a picture gets it, once.
    tracked.run_study(tracked.tracker(), records)
    assert not list(folder.rglob("methods.png"))
    assert tracked.sync(tracked.tracker(draw_methods=pictures.methods_picture), records) == 0
    (picture,) = folder.rglob("methods.png")
    assert picture.read_bytes() == pictures.methods_picture(records, synthetic.DENSE)
    parent, _ = tracked.study_runs(uri)
    address = f"get-artifact?path=methods.png&run_uuid={parent.info.run_id}"
    assert parent.data.tags["mlflow.note.content"].endswith(f"![Accuracy by method]({address})")
    before = tracked.everything(folder)
    tracked.sync(tracked.tracker(draw_methods=pictures.methods_picture), records)
    assert tracked.everything(folder) == before


def test_artifacts_are_the_records_the_pictures_and_the_study(folder: Path, uri: str) -> None:
    records = synthetic.study()
    tracked.run_study(tracked.tracker(), records)
    parent, children = tracked.study_runs(uri)

    def files(run: Any) -> dict[str, bytes]:
        place = folder / "mlartifacts" / "vgg_mini_on_mnist5k" / run.info.run_id / "artifacts"
        return {path.name: path.read_bytes() for path in place.iterdir()}

    own = files(parent)
    assert sorted(own) == ["front.json", "front.png", "front_table.json", "study.yaml"]
    assert own["study.yaml"].decode() == tracked.TEXT
    assert [each["number"] for each in json.loads(own["front.json"])["front"]] == [3, 0, 1]
    assert own["front.png"].startswith(b"\x89PNG")
    first = files(children[0])
    assert sorted(first) == ["architecture.json", "record.json", "widths.png"]
    assert json.loads(first["record.json"]) == records[0]
    assert json.loads(first["architecture.json"]) == records[0]["architecture"]
    with tracked.reading(uri) as client:
        table = client.load_table(parent.info.experiment_id, "front_table.json")
    assert list(table["trial"]) == [3, 0, 1]


def test_a_trial_is_written_in_one_batch(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = tracked.tracker()
    tracked.open_study(tracking)
    with mlflow_at_work("import"):
        from mlflow import MlflowClient
    sizes: list[int] = []
    write = MlflowClient.log_batch

    def counted(self: Any, run_id: str, metrics: Any = (), **rest: Any) -> Any:
        sizes.append(len(metrics))
        return write(self, run_id, metrics, **rest)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    tracking.log_trial(synthetic.record(0, 0.9, 0.5, epochs=100), synthetic.DENSE_WIDTHS)
    assert sizes == [5 * 100 + 6]


def test_writing_again_adds_nothing(folder: Path, uri: str) -> None:
    records = synthetic.study()
    tracked.run_study(tracked.tracker(), records)
    before = tracked.everything(folder)
    assert tracked.sync(tracked.tracker(), records) == 0
    assert tracked.everything(folder) == before
    tracked.run_study(tracked.tracker(), records[:0])
    assert tracked.everything(folder) == before


def test_a_study_rebuilt_from_its_records_is_the_same(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    records = synthetic.study()
    tracked.run_study(tracked.tracker(), records)
    other = tmp_path_factory.mktemp("rebuilt")
    (other / "mlflow.db").write_bytes(tracked.fresh_database())
    assert tracked.sync(tracked.tracker(f"sqlite:///{other}/mlflow.db"), records) == 5

    def told(place: Path) -> list[Any]:
        uri = f"sqlite:///{place}/mlflow.db"
        parent, children = tracked.study_runs(uri)
        rows: list[Any] = []
        with tracked.reading(uri) as client:
            for run in (parent, *children):
                curves = {
                    key: [(m.step, m.timestamp, m.value) for m in history]
                    for key in run.data.metrics
                    if (history := client.get_metric_history(run.info.run_id, key))
                }
                times = (run.info.start_time, run.info.end_time, run.info.status)
                rows.append((run.info.run_name, run.data.params, curves, times))
        return rows

    assert told(other) == told(folder)


def test_a_crash_inside_a_trial_is_repaired_and_not_doubled(
    folder: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = synthetic.study()[:2]
    with mlflow_at_work("import"):
        from mlflow import MlflowClient
    # Each step of writing a trial fails once, in a process of its own so to speak.
    for broken in ("log_batch", "log_artifacts", "set_terminated"):
        tracking = tracked.tracker()
        tracked.open_study(tracking)

        def crash(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, broken, crash)
            with pytest.raises(KeyboardInterrupt):
                tracking.log_trial(records[0], synthetic.DENSE_WIDTHS)
        _, children = tracked.study_runs(uri)
        assert [run.info.status for run in children] == ["RUNNING"]
    begun = children[0].info.run_id
    assert tracked.sync(tracked.tracker(), records) == 2
    _, children = tracked.study_runs(uri)
    assert [run.info.status for run in children] == ["FINISHED", "FINISHED"]
    assert children[0].info.run_id == begun
    with tracked.reading(uri) as client:
        assert len(client.get_metric_history(begun, "train/loss")) == 4
    before = tracked.everything(folder)
    assert tracked.sync(tracked.tracker(), records) == 0
    assert tracked.everything(folder) == before


def test_a_trial_written_by_two_processes_is_kept_once(uri: str) -> None:
    records = synthetic.study()[:1]
    one, other = tracked.tracker(), tracked.tracker()
    tracked.open_study(one)
    tracked.open_study(other)
    one.log_trial(records[0], synthetic.DENSE_WIDTHS)
    other.log_trial(records[0], synthetic.DENSE_WIDTHS)
    assert tracked.sync(tracked.tracker(), records) == 0
    _, children = tracked.study_runs(uri)
    assert [run.info.status for run in children] == ["FINISHED"]


def test_a_resumed_study_goes_on_in_its_run(uri: str) -> None:
    records = synthetic.study()
    first = tracked.tracker()
    tracked.open_study(first)
    first.sync(records[:2], synthetic.DENSE_WIDTHS, synthetic.front(records[:2]), synthetic.DENSE)
    first.close_study("interrupted")
    assert tracked.study_runs(uri)[0].info.status == "KILLED"
    again = tracked.tracker()
    more = tracked.PARAMETERS | {"search": {"sampler": "tpe", "trials": 9}}
    tracked.open_study(again, text=tracked.TEXT + "# more\n", parameters=more)
    assert [record["number"] for record in again.missing(records)] == [2, 3, 4]
    again.log_trial(records[2], synthetic.DENSE_WIDTHS)
    assert tracked.study_runs(uri)[0].info.status == "RUNNING"
    again.sync(records, synthetic.DENSE_WIDTHS, synthetic.front(records), synthetic.DENSE)
    again.close_study("finished")
    parent, children = tracked.study_runs(uri)
    assert len(children) == 5
    assert parent.info.status == "FINISHED"
    # MLflow holds a parameter to its first value; the new one is told beside it.
    assert parent.data.params["search.trials"] == "5"
    assert parent.data.tags["prunenas.now.search.trials"] == "9"
    with tracked.reading(uri) as client:
        steps = [m.step for m in client.get_metric_history(parent.info.run_id, "trials")]
    assert steps == [1, 2, 3, 4, 5]


def test_studies_of_one_name_from_two_storages_are_two_runs(uri: str) -> None:
    for identity in ("storage-a", "storage-b", "storage-a"):
        tracking = tracked.tracker()
        tracked.open_study(tracking, identity=identity)
        tracking.log_trial(synthetic.record(0, 0.9, 0.5), synthetic.DENSE_WIDTHS)
        tracking.close_study("finished")
    with tracked.reading(uri) as client:
        runs = client.search_runs([client.get_experiment_by_name(tracked.EXPERIMENT).experiment_id])
    assert len(runs) == 4


def test_a_long_curve_and_a_deep_network_are_written_whole(uri: str) -> None:
    widths = {f"features.denseblock.{index}": 64 for index in range(300)}
    record = synthetic.record(0, 0.9, 0.5, epochs=400, widths=widths)
    record["parameters"] = {f"ratio.{name}": 0.5 for name in widths}
    tracked.run_study(tracked.tracker(), [record])
    _, [child] = tracked.study_runs(uri)
    assert len(child.data.params) == 300 + 3
    with tracked.reading(uri) as client:
        assert len(client.get_metric_history(child.info.run_id, "train/lr")) == 400


def test_an_experiment_that_was_deleted_is_told(uri: str) -> None:
    tracked.open_study(tracked.tracker())
    with tracked.reading(uri) as client:
        client.delete_experiment(client.get_experiment_by_name(tracked.EXPERIMENT).experiment_id)
    with pytest.raises(TrackingError, match="must not be deleted, but 'vgg_mini on mnist5k' is"):
        tracked.open_study(tracked.tracker())


def test_what_comes_out_of_order_is_told(folder: Path) -> None:
    tracking = tracked.tracker()
    with pytest.raises(TrackingError, match="must be opened"):
        tracking.log_trial(synthetic.record(0, 0.9, 0.5), {})
    tracked.open_study(tracking)
    with pytest.raises(TrackingError, match="unknown state of a study 'done'"):
        tracking.close_study("done")


def test_a_database_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database, but a letter to its finder\n" * 99)
    with pytest.raises(TrackingError, match="study 'quickstart' can't be tracked") as caught:
        tracked.open_study(tracked.tracker(f"sqlite:///{tmp_path}/mlflow.db"))
    assert "\n" not in str(caught.value)
