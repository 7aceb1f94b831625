"""A study's section `federation`: what needs it, and its time model in a file."""

from pathlib import Path

import pytest
from spec_samples import STUDY, changed, mistakes, write_sound_files

from prunenas.errors import SpecError, TrainingError
from prunenas.federated import TimeSection
from prunenas.spec import Study, load_recipe, load_study
from prunenas.training import Recipe

SECTION = "federation: {rounds: 25, evaluate_every: 10}"
TIME = """\
# Measured.
constant: 2
layers:
  features.0.weight: 1e-5
  classifier.weight: 2e-5
seconds_per_byte: 1e-6
machine: anything
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_sound_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(*lines: tuple[int, str], more: str = SECTION) -> str:
    text = STUDY
    for line, replaced in lines:
        rows = text.splitlines()
        rows[line - 1] = replaced
        text = "\n".join(rows) + "\n"
    return f"{text}{more}\n"


def loaded(text: str) -> Study:
    Path("studies/s.yaml").write_text(text)
    return load_study("studies/s.yaml")


def test_a_federation_is_part_of_the_settings() -> None:
    study = loaded(written())
    assert study.federation is not None
    assert study.federation.evaluations == 3  # after rounds 10, 20 and 25
    again = Study.model_validate(study.settings())
    assert again.federation == study.federation
    assert Study.model_validate(loaded(STUDY).settings()).federation is None


@pytest.mark.parametrize(
    ("lines", "more", "told"),
    [
        (
            [(7, "train: {epochs: 1, protocol: federated}")],
            "",
            "7: train.protocol: federated needs a section `federation:`",
        ),
        (
            [(6, "objective: {maximize: accuracy, minimize: [flops, round_seconds]}")],
            "",
            "6: objective.minimize: round_seconds needs a section `federation:`, whose rounds "
            "they are",
        ),
        (
            [
                (7, "train: {epochs: 4, protocol: federated}"),
                (8, "search: {trials: 2, fidelity: [2, 4]}"),
            ],
            SECTION,
            "8: search.fidelity pauses trainings at epochs, but train.protocol is federated: give "
            "a stopper instead",
        ),
        (
            [
                (5, "  - {name: magnitude}"),
                (7, "train: {epochs: 4, protocol: federated, initial: original}"),
            ],
            SECTION,
            "7: train.initial must be fresh where train.protocol is federated, but is original",
        ),
        (
            [
                (6, "objective: {maximize: accuracy, minimize: round_seconds}"),
                (8, "search: {sampler: budgeted, trials: 2}"),
            ],
            SECTION,
            "8: search.sampler: budgeted needs costs that follow from FLOPs, but a round's time "
            "depends on which layers keep weights. Take tpe",
        ),
        ([], "federation: {}", "9: federation.rounds must be given"),
        (
            [],
            "federation: {rounds: 5, time: femnits}",
            "9: unknown time model 'femnits' (did you mean 'femnist'?). Known: a file that ends "
            "with .yaml, auto, celeba, cifar10, femnist, imagenet100",
        ),
        (
            [],
            "federation:\n  rounds: 5\n  time: 7",
            "11: time must be a preset, a file or a mapping, but is 7",
        ),
        (
            [],
            "federation:\n  rounds: 5\n  time: {constant: 1,\n   layers: {a.weight: 0},\n"
            "   seconds_per_byte: 1e-6}",
            "12: `layers.a.weight > 0` must hold, but it is 0",
        ),
        (
            [],
            "federation: {rounds: 5, time: gone.yaml}",
            "9: studies/gone.yaml: no such file. In studies: s.yaml",
        ),
    ],
)
def test_mistakes_are_told_at_their_line(
    lines: list[tuple[int, str]], more: str, told: str
) -> None:
    assert mistakes(written(*lines, more=more)) == [f"studies/s.yaml:{told}"]


def test_a_time_model_may_lie_in_a_file() -> None:
    Path("measured.yaml").write_text(TIME)
    study = loaded(written(more="federation: {rounds: 5, time: ../measured.yaml}"))
    assert study.federation is not None
    assert study.federation.time == TimeSection(
        constant=2,
        layers={"features.0.weight": 1e-5, "classifier.weight": 2e-5},
        seconds_per_byte=1e-6,
    )


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("constant: 2", "constant: fast", "2: constant must be a number, but is 'fast'"),
        ("constant: 2", "constants: 2", "1: constant must be given"),
        (
            "constant: 2",
            "constant: 0",
            "2: `constant > 0` must hold, but it is 0",
        ),
        ("2e-5", "-2e-5", "5: `layers.classifier.weight > 0` must hold, but it is -2e-05"),
        ("1e-6", ".inf", "6: a number must be finite, but is .inf"),
        (
            TIME,
            "[1]",
            "1: a time model must be a mapping with the keys constant, layers, seconds_per_byte, "
            "but is a list",
        ),
    ],
)
def test_mistakes_of_the_file_are_told_at_its_lines(old: str, new: str, told: str) -> None:
    Path("studies/time.yaml").write_text(TIME.replace(old, new))
    found = mistakes(written(more="federation: {rounds: 5, time: time.yaml}"))
    assert found == [f"studies/time.yaml:{told}"]


def test_what_a_mistaken_file_hides_is_told_beside_it() -> None:
    Path("studies/time.yaml").write_text(TIME.replace("constant: 2", "constant: fast"))
    text = written(more="federation: {rounds: 0, time: time.yaml}")
    assert mistakes(text) == [
        "studies/s.yaml:9: `federation.rounds >= 1` must hold, but it is 0",
        "studies/time.yaml:2: constant must be a number, but is 'fast'",
    ]


def test_nothing_but_a_study_trains_by_a_federation() -> None:
    comparison = (
        "name: c\nmodels: [{name: vgg_mini}]\ndata: {name: digits}\nmethods: [{name: l1_norm}]\n"
        "budgets: [0.5]\nseeds: 2\ntrain: {epochs: 1, protocol: federated}\n"
    )
    (told,) = mistakes(comparison)
    assert told.startswith("studies/s.yaml:7: train: protocol must be scratch_e or scratch_b, but ")
    recipe = load_recipe(None, {"protocol": "federated"})
    with pytest.raises(TrainingError, match="needs the federation of a study"):
        recipe.epochs_for(dense_flops=2, flops=1)


def test_epochs_of_a_federation_are_its_validations() -> None:
    study = loaded(written((7, "train: {epochs: 7, protocol: federated}")))
    assert study.epochs_for(dense_flops=100, flops=1) == 3
    study = loaded(written((7, "train: {epochs: 7, protocol: scratch_b}")))
    assert study.epochs_for(dense_flops=100, flops=50) == 14
    assert Recipe(epochs=7, protocol="federated").epochs_for(
        dense_flops=100, flops=50, evaluations=4
    )


def test_a_sound_study_still_is() -> None:
    assert loaded(changed(6, "objective: {maximize: accuracy, minimize: flops}")).federation is None
    with pytest.raises(SpecError, match="unknown minimize 'round'"):
        loaded(changed(6, "objective: {maximize: accuracy, minimize: round}"))
