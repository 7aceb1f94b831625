"""Training an export for real: against training by hand, interrupted, tracked, and only once."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import exporting
import pytest
import torch
import tracked
from server import free_port
from torch import Tensor

import prunenas
from prunenas.data import Data, Split, load
from prunenas.errors import DataError, ExportError
from prunenas.export import read_config, write_export
from prunenas.retraining import Plan, Watcher, load_data, retrain
from prunenas.training import EpochMetrics, Recipe, train

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=3, batch_size=64, lr=0.05, schedule="cosine")
SPACE = prunenas.trace("vgg_mini", arguments={"input_size": 8}, input_shape=(1, 8, 8))
HALF = SPACE.architecture(0.5)
DATA = load("digits", train_limit=300)


@dataclass
class Heard:
    """What a training said."""

    begun: list[bool] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    interrupt_after: int | None = None

    def epoch(self, metrics: EpochMetrics) -> None:
        self.epochs.append(metrics.epoch)
        if metrics.epoch == self.interrupt_after:
            raise KeyboardInterrupt

    def watcher(self) -> Watcher:
        return Watcher(self.begun.append, self.epoch, self.warnings.append)


@dataclass(frozen=True)
class Read:
    """A split that writes down when it is read."""

    split: Split
    name: str
    log: list[str]

    def __len__(self) -> int:
        return len(self.split)

    def batches(self, *arguments: Any, **settings: Any) -> Iterator[tuple[Tensor, Tensor]]:
        self.log.append(self.name)
        return self.split.batches(*arguments, **settings)


@pytest.fixture(scope="module", autouse=True)
def _one_verifier() -> Iterator[None]:
    """Exports are loaded by one process; starting one for each training takes seconds."""
    with pytest.MonkeyPatch.context() as patched:
        shared = nullcontext(exporting.verifier())
        patched.setattr("prunenas.export.folder.Verifier", lambda: shared)
        yield


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export without weights; writing one takes seconds."""
    return write_export(
        tmp_path_factory.mktemp("exported") / "half",
        HALF,
        dense_flops=SPACE.dense.flops,
        provenance={"study": "demo"},
    )


@pytest.fixture
def folder(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it in the current folder, beside a store that MLflow has set up."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(tracked.fresh_database())
    return Path(shutil.copytree(exported, "exports/half"))


@pytest.fixture(scope="module")
def undisturbed(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export after a training that nothing interrupted."""
    place = tmp_path_factory.mktemp("undisturbed")
    (place / "mlflow.db").write_bytes(tracked.fresh_database())
    folder = Path(shutil.copytree(exported, place / "half"))
    store = f"sqlite:///{place}/mlflow.db"
    retrain(folder, plan(), Heard().watcher(), tracking=store, home=place / "home")
    return folder


def plan(**changes: Any) -> Plan:
    return replace(Plan(HALF, SPACE.dense.flops, DATA, RECIPE, 0, CPU), **changes)


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_it_ends_with_the_weights_of_a_training_by_hand_and_reads_the_test_split_once(
    folder: Path,
) -> None:
    log: list[str] = []
    watched = replace(
        DATA,
        train=Read(DATA.train, "train", log),
        validation=Read(DATA.validation, "validation", log),
        test=Read(DATA.test, "test", log),
    )
    training = retrain(folder, plan(seed=5, data=watched), Heard().watcher())
    assert log == ["train", "validation"] * 3 + ["test"]
    assert not list(Path(".prunenas/checkpoints").rglob("*.pt"))
    network = prunenas.build(HALF, seed=5)
    by_hand = train(network, DATA, RECIPE, seed=5)
    loaded = prunenas.load(folder)
    state = network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in loaded.state_dict().items())
    right = total = 0
    with torch.no_grad():
        for images, labels in DATA.test.batches(50):
            right += int((loaded(images).argmax(1) == labels).sum())
            total += len(labels)
    assert training["test"] == {"accuracy": right / total, "n": 360}
    assert training["validation"] == {"accuracy": by_hand.validation.accuracy, "n": 287}
    assert [point["epoch"] for point in training["curve"]] == [1, 2, 3]
    assert (training["train_images"], training["epochs"], training["seed"]) == (300, 3, 5)
    config = read_config(folder)
    assert config.training == training
    assert config.provenance == {"study": "demo"}


@pytest.mark.parametrize("after", [1, 3], ids=["in the middle", "after the last epoch"])
def test_interrupted_it_goes_on_and_ends_as_if_it_had_not_been(
    folder: Path, undisturbed: Path, after: int
) -> None:
    heard = Heard(interrupt_after=after)
    with pytest.raises(KeyboardInterrupt):
        retrain(folder, plan(), heard.watcher())
    assert read_config(folder).weights_sha256 is None
    again = Heard()
    training = retrain(folder, plan(), again.watcher())
    assert (heard.begun, again.begun) == ([False], [True])
    assert again.epochs == [1, 2, 3]
    assert weights(folder) == weights(undisturbed)
    expected = read_config(undisturbed).training
    assert expected is not None
    assert training["test"] == expected["test"]
    assert training["curve"] == expected["curve"]

    with tracked.reading(f"sqlite:///{Path.cwd()}/mlflow.db") as client:
        (run,) = runs(client)
        assert run.info.status == "FINISHED"
        history = client.get_metric_history(run.info.run_id, "validation/accuracy")
        assert [point.step for point in history] == [1, 2, 3]
        assert [point.value for point in history] == [
            point["validation_accuracy"] for point in training["curve"]
        ]


def test_mlflow_has_figures_parameters_and_the_config(undisturbed: Path, tmp_path: Path) -> None:
    training = read_config(undisturbed).training
    assert training is not None
    with tracked.reading(f"sqlite:///{undisturbed.parent}/mlflow.db") as client:
        (run,) = runs(client)
        assert run.info.run_name == "train half"
        figures = run.data.metrics
        assert figures["test/accuracy"] == training["test"]["accuracy"]
        assert figures["accuracy"] == training["validation"]["accuracy"]
        assert figures["flops"] == HALF.flops
        assert figures["epochs"] == 3
        assert run.data.params["train.lr"] == "0.05"
        assert run.data.params["seed"] == "0"
        assert run.data.tags["prunenas.architecture"] == HALF.digest
        assert "n=360" in run.data.tags["mlflow.note.content"]
        path = client.download_artifacts(run.info.run_id, "config.json", str(tmp_path))
        assert Path(path).read_bytes() == (undisturbed / "config.json").read_bytes()


def runs(client: Any) -> list[Any]:
    experiment = client.get_experiment_by_name("vgg_mini on digits")
    return list(client.search_runs([experiment.experiment_id]))


def test_a_server_out_of_reach_is_one_warning_and_what_is_missing_comes_later(
    folder: Path, tmp_path: Path
) -> None:
    heard = Heard()
    away = f"http://127.0.0.1:{free_port()}"
    training = retrain(folder, plan(), heard.watcher(), tracking=away)
    (warning,) = heard.warnings
    assert warning.startswith(f"tracking: no tracking server answers at {away}")
    assert "\n" not in warning
    before = weights(folder)
    again = Heard()
    assert retrain(folder, plan(), again.watcher()) == training
    assert (again.begun, again.epochs) == ([], [])
    assert weights(folder) == before
    with tracked.reading(f"sqlite:///{tmp_path}/mlflow.db") as client:
        (run,) = runs(client)
        history = client.get_metric_history(run.info.run_id, "train/loss")
        assert [point.step for point in history] == [1, 2, 3]
        assert run.data.metrics["test/accuracy"] == training["test"]["accuracy"]
    retrain(folder, plan(), Heard().watcher())
    with tracked.reading(f"sqlite:///{tmp_path}/mlflow.db") as client:
        assert len(runs(client)) == 1


def test_other_weights_are_overwritten_only_when_that_is_said(
    undisturbed: Path, folder: Path
) -> None:
    shutil.copytree(undisturbed, folder, dirs_exist_ok=True)
    before = weights(folder)
    with pytest.raises(ExportError, match=r"other weights already trained on digits with seed 0"):
        retrain(folder, plan(seed=1), Heard().watcher())
    assert weights(folder) == before
    heard = Heard()
    retrain(folder, plan(seed=1), heard.watcher(), replace=True)
    assert heard.epochs == [1, 2, 3]
    assert weights(folder) != before
    training = read_config(folder).training
    assert training is not None
    assert training["seed"] == 1


def test_a_training_that_is_repeated_is_another_run_in_mlflow(
    undisturbed: Path, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(undisturbed, folder, dirs_exist_ok=True)
    retrain(folder, plan(), Heard().watcher())  # is there already: told MLflow, nothing trained
    heard = Heard()
    retrain(folder, plan(), heard.watcher(), replace=True)
    assert heard.epochs == [1, 2, 3]
    assert weights(folder) == weights(undisturbed)
    with tracked.reading(f"sqlite:///{tmp_path}/mlflow.db") as client:
        found = runs(client)
        assert [run.info.status for run in found] == ["FINISHED", "FINISHED"]
        for run in found:
            history = client.get_metric_history(run.info.run_id, "train/loss")
            assert [point.step for point in history] == [1, 2, 3]


def test_two_trainings_of_one_export_at_once_lose_neither(folder: Path) -> None:
    class Meanwhile(Heard):
        def epoch(self, metrics: EpochMetrics) -> None:
            if metrics.epoch == 2:
                retrain(folder, plan(seed=1), Heard().watcher())

    with pytest.raises(ExportError, match="with seed 1"):
        retrain(folder, plan(seed=0), Meanwhile().watcher())
    training = retrain(Path("exports/other"), plan(seed=0), (heard := Heard()).watcher())
    assert heard.begun == [True]
    assert training["seed"] == 0


def test_without_a_validation_split_all_images_are_trained_on(folder: Path) -> None:
    everything = load("digits", validation=0)
    assert (len(everything.train), len(everything.validation), len(everything.test)) == (
        1437,
        0,
        360,
    )
    training = retrain(folder, plan(data=everything), Heard().watcher())
    assert training["validation"] is None
    assert training["train_images"] == 1437
    assert training["test"]["n"] == 360
    assert {"train_loss", "train_accuracy"} < training["curve"][0].keys()
    assert "validation_loss" not in training["curve"][0]


def test_scratch_b_trains_for_the_computation_of_the_dense_network() -> None:
    recipe = Recipe(epochs=10, protocol="scratch_b")
    ratio = HALF.flops / SPACE.dense.flops
    assert 0.2 < ratio < 0.3
    assert plan(recipe=recipe).epochs == int(10 / ratio)
    capped = Recipe(epochs=10, protocol="scratch_b", scratch_b_cap=2)
    assert plan(recipe=capped).epochs == 20
    assert plan(recipe=Recipe(epochs=10)).epochs == 10


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (lambda: load("mnist5k", train_limit=100), "mnist5k has 1×28×28 and 10"),
        (lambda: replace(DATA, classes=7), "digits has 1×8×8 and 7"),
    ],
    ids=["input", "classes"],
)
def test_a_data_set_that_does_not_fit_is_told_before_anything_is_written(
    folder: Path, data: Any, told: str
) -> None:
    heard = Heard()
    unfit: Data = data()
    with pytest.raises(DataError) as caught:
        retrain(Path("exports/new"), plan(data=unfit), heard.watcher())
    assert "exports/new takes 1×8×8 and tells 10 classes" in str(caught.value)
    assert told in str(caught.value)
    assert heard.begun == []
    assert not Path("exports/new").exists()


def test_a_folder_that_is_another_architecture_or_none_is_left_alone(folder: Path) -> None:
    dense = plan(architecture=SPACE.dense)
    with pytest.raises(ExportError, match="holds another architecture"):
        retrain(folder, dense, Heard().watcher())
    Path("mine").mkdir()
    with pytest.raises(ExportError, match="not an export"):
        retrain(Path("mine"), plan(), Heard().watcher())
    assert list(Path("mine").iterdir()) == []


def test_grey_images_are_repeated_for_a_network_that_takes_colours() -> None:
    assert load_data("digits", (3, 32, 32)).input_shape == (3, 8, 8)
    assert load_data("digits", (1, 8, 8)).input_shape == (1, 8, 8)
