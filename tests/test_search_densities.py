"""Studies that search densities: beside widths, under budgets, and what is refused."""

import contextlib
from pathlib import Path

import exporting
import pytest
import tracked
from methods_networks import dense
from spec_samples import changed, inline, mistakes, write_sound_files
from tiny_studies import L1, NOWHERE, figures, write_study

from prunenas.architecture import Architecture, count_flops, trace
from prunenas.cli import main
from prunenas.errors import SpecError
from prunenas.export import load, read_config
from prunenas.methods import METHODS
from prunenas.search import run_study
from prunenas.search.coordinates import Coordinates
from prunenas.search.experience import Experience
from prunenas.search.starts import starts_of
from prunenas.search.wishes import nearest
from prunenas.spec import Densities, ShareRange, check_densities, load_space, load_study

ROOT = Path(__file__).parent.parent
STORE = "sqlite:///studies.db"
RANGE = "{low: 0.02, high: 1.0, log: true}"
MAGNITUDE = f"  - {{name: magnitude, space: {{densities: {{per: layer, density: {RANGE}}}}}}}"
BUDGET = "{maximize: accuracy, flops_ratio: 0.4}"
LAYERS = {"a": 0, "b": 0, "c": 1, "d": 2}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(tracked.fresh_database())
    return tmp_path


def test_knobs_are_layers_stages_or_the_network() -> None:
    shares = ShareRange(low=0.1, high=1.0)

    def knobs(per: str, **fixed: float) -> dict[str, tuple[str, ...]]:
        plain = {"per": per, "density": shares.model_dump(), "fixed": fixed}
        return Densities.model_validate(plain).knobs(LAYERS)

    assert knobs("layer") == {name: (name,) for name in LAYERS}
    assert knobs("stage") == {"stage 0": ("a", "b"), "stage 1": ("c",), "stage 2": ("d",)}
    assert knobs("network", b=0.5) == {"network": ("a", "c", "d")}
    own = Densities(per="stage", density=shares, fixed={"?": 0.3, "c": 0.7})
    assert own.densities(LAYERS, {}) == {"a": 0.3, "b": 0.3, "c": 0.7, "d": 0.3}
    tied = Densities(per="stage", density=shares, fixed={"d": 1.0})
    settings = {"stage 0": 0.2, "stage 1": 0.4}
    assert tied.densities(LAYERS, settings) == {"a": 0.2, "b": 0.2, "c": 0.4, "d": 1.0}


def test_a_study_of_densities_beside_one_of_widths(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "prunenas.export.Verifier", lambda: contextlib.nullcontext(exporting.verifier())
    )
    methods, starts = f"{L1}\n{MAGNITUDE}", ", starts: [defaults, uniform 0.5]"
    path = write_study(folder, methods=methods, epochs=1, trials=3, more=starts)
    study = load_study(path)
    view = run_study(study, storage="sqlite:///studies.db", device="cpu")
    assert all(record.state == "complete" for record in view.records)
    assert {record.method for record in view.records} == {"l1_norm", "magnitude"}
    found = [record for record in view.records if record.method == "magnitude"]
    assert any(record.start == "defaults of magnitude" for record in found)
    for record in found:
        assert record.architecture is not None
        masks = Architecture.from_dict(record.architecture).masks
        for name, value in record.parameters.items():
            if "/density/" in name:
                mask = masks[f"{name.removeprefix('magnitude/density/')}.weight"]
                assert mask.kept == max(1, round(value * mask.units))
    for command in (["status", "tiny"], ["best", "tiny"], ["best", "tiny", "--json"]):
        assert main([*command, "--storage", "sqlite:///studies.db"]) == 0
    number = str(found[0].number)
    assert (
        main(["export", "tiny", "out", "--trial", number, "--storage", "sqlite:///studies.db"]) == 0
    )
    exported = load(f"out/trial_{number}")
    config = read_config(f"out/trial_{number}")
    assert config.architecture.digest == found[0].digest
    assert count_flops(exported, (1, 8, 8)) == config.architecture.whole_flops
    assert config.provenance["parameters"] == found[0].parameters


def test_every_candidate_meets_a_budget_and_a_rerun_repeats_it(folder: Path) -> None:
    path = write_study(
        folder, methods=MAGNITUDE, epochs=1, trials=2, objective=BUDGET, sampler="auto"
    )
    first, second = (
        run_study(
            load_study(path),
            storage=f"sqlite:///{name}.db",
            tracking=NOWHERE,
            device="cpu",
            cache="off",
        )
        for name in ("one", "other")
    )
    for record in first.records:
        assert record.flops is not None
        assert 0.995 * 0.4 * first.dense_flops <= record.flops <= 0.4 * first.dense_flops
    assert len({record.digest for record in first.records}) == len(first.records)
    assert figures(second) == figures(first)


def test_a_study_starts_from_another_ones_densities(folder: Path) -> None:
    entry = MAGNITUDE.replace("magnitude", "random_sparse")
    path = write_study(folder, methods=entry, epochs=1, trials=1)
    view = run_study(load_study(path), storage=STORE, tracking=NOWHERE, device="cpu")
    text = (folder / "tiny.yaml").read_text().replace("name: tiny", "name: later")
    text = text.replace("trials: 1", "trials: 4")
    (folder / "later.yaml").write_text(text.replace("seed: 3", "seed: 3, warm_start: tiny"))
    study = load_study(folder / "later.yaml")
    space = trace("vgg_mini", arguments={"in_channels": 1, "input_size": 8}, input_shape=(1, 8, 8))
    names = {start.name: dict(start.parameters) for start in starts_of(study, space, view)}
    for record in view.front[:1]:
        assert names[f"trial {record.number} of tiny"] == pytest.approx(record.parameters)
    # A method of channels can't have what a mask is.
    widths = load_study(write_study(folder, methods=L1, more=", warm_start: earlier"))
    assert not any("tiny" in start.name for start in starts_of(widths, space, view))


def test_common_factors_make_no_difference_under_a_budget(folder: Path) -> None:
    study = load_study(write_study(folder, methods=MAGNITUDE, objective=BUDGET, sampler="budgeted"))
    space = trace("vgg_mini", arguments={"in_channels": 1, "input_size": 8}, input_shape=(1, 8, 8))
    where = Coordinates(study, space)
    asked = [
        nearest(study, space, study.methods[0], lambda name, d=d: d, None) for d in (0.1, 0.4, 1.0)
    ]
    points = [where.of(each.parameters) for each in asked if each is not None]
    rows = [
        where.reached(point[None])[0].round(9).tolist() for point in points if point is not None
    ]
    assert len(rows) == 3
    assert rows[0] == rows[1] == rows[2]
    assert Experience.of([], where).complete == 0


def test_budgeted_says_that_it_does_not_count_densities(folder: Path) -> None:
    path = write_study(folder, methods=MAGNITUDE, sampler="budgeted")
    with pytest.raises(SpecError, match="known before training, but magnitude drops weights"):
        load_study(path)


def test_the_committed_space_is_proposed_layer_by_layer(folder: Path) -> None:
    space = trace("vgg_mini", arguments={"in_channels": 1, "input_size": 8}, input_shape=(1, 8, 8))
    for method in ("magnitude", "random_sparse"):
        path = ROOT / "search_spaces" / "per_layer_densities.yaml"
        study = load_study(write_study(folder, methods=f"  - {{name: {method}, space: {path}}}"))
        candidate = nearest(study, space, study.methods[0], lambda name: 0.3, None)
        assert candidate is not None
        layers = [name for name, layer in _convolutions().items() if layer]
        assert candidate.parameters == {f"density/{name}": 0.3 for name in layers}
        assert candidate.ratios == dict.fromkeys(layers, 0.3)


def _convolutions() -> dict[str, bool]:
    import torch
    from torch import nn

    from prunenas.models import vgg_mini

    with torch.device("meta"):
        network = vgg_mini(in_channels=1, input_size=8)
    return {
        name: isinstance(layer, nn.Conv2d)
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d)
    }


DENSITIES = "densities: {per: layer, density: {low: 0.1, high: 1.0}}"


def test_mistakes_are_told_with_their_lines(folder: Path) -> None:
    write_sound_files(folder)

    def told(
        space: str, name: str, objective: str = "minimize: flops", more: str = ""
    ) -> list[str]:
        text = changed(5, inline(f"{{{space}}}", name)[:-1] + more + "}")
        text = text.replace("minimize: flops", objective)
        return [line.removeprefix("studies/s.yaml:5: ") for line in mistakes(text)]

    assert told(DENSITIES, "magnitude") == []
    assert told(DENSITIES, "random_sparse", more=", with: {layers: all, whole: [features.0]}") == []
    assert told(DENSITIES, "magnitude", "flops_ratio: 0.5") == []
    [text] = told(DENSITIES, "l1_norm", "flops_ratio: 0.5")
    assert text.startswith(
        "densities are for magnitude and random_sparse, but l1_norm takes none; search widths "
        "instead. Known: "
    )
    [text] = told(DENSITIES, "network_slimming")
    assert "but network_slimming takes none; search its hyperparameters instead. Known: " in text
    [text] = told("widths: {per: group, ratio: {low: 0.1, high: 1.0}}", "magnitude")
    assert text.startswith("widths are for methods that follow given ratios, but magnitude sets")
    assert "search densities or its hyperparameters instead" in text
    both = f"{DENSITIES}, widths: {{per: group, ratio: {{low: 0.1, high: 1.0}}}}"
    [text] = told(both, "magnitude")
    assert text.endswith("a method takes one of them, but both are given")
    assert told(f"{DENSITIES}, method: {{density: {{}}}}", "magnitude") == [
        "densities take the place of magnitude's density: leave one of them out"
    ]
    assert told(DENSITIES, "magnitude", more=", with: {scope: erk}") == [
        "densities take the place of magnitude's scope: leave one of them out"
    ]
    assert told(DENSITIES, "random_sparse", "flops_ratio: 0.5", ", with: {density: 0.1}") == [
        "densities take the place of random_sparse's density: leave one of them out"
    ]
    assert told(f"{DENSITIES}, method: {{layers: {{}}}}", "magnitude") == [
        "magnitude's layers says which layers have densities, so that it can't be searched along "
        "with them: say `with: {layers: ...}`"
    ]
    assert told(
        DENSITIES.replace("per: layer", "per: network"), "magnitude", "flops_ratio: 0.5"
    ) == [
        "a budget (flops_ratio) already decides the density of the whole network: leave the space "
        "out, or search per layer or stage"
    ]
    assert told(DENSITIES.replace("layer", "group"), "magnitude") == [
        "unknown per 'group'. Known: layer, network, stage"
    ]
    [text] = told(DENSITIES.replace("high: 1.0", "high: 1.5"), "magnitude")
    assert "high <= 1` must hold, but it is 1.5" in text


def test_both_kinds_in_a_file_are_told_at_their_line(folder: Path) -> None:
    write_sound_files(folder)
    (folder / "search_spaces" / "both.yaml").write_text(
        f"widths: {{per: group, ratio: {{low: 0.1, high: 1.0}}}}\n{DENSITIES}\n"
    )
    text = changed(5, "  - {name: magnitude, space: both}")
    expected = [
        "search_spaces/both.yaml:2: densities are of weights and widths of channels, and a method "
        "takes one of them, but both are given"
    ]
    assert mistakes(text) == expected
    with pytest.raises(SpecError, match=r"both.yaml:2: densities are of weights"):
        load_space("search_spaces/both.yaml")


def test_layers_that_do_not_fit_the_model_are_told(folder: Path) -> None:
    space = trace("vgg_mini", arguments={"in_channels": 1, "input_size": 8}, input_shape=(1, 8, 8))

    def told(fixed: str, more: str = "") -> tuple[str, ...]:
        entry = MAGNITUDE.replace(RANGE, f"{RANGE}, fixed: {{{fixed}}}")
        study = load_study(write_study(folder, methods=entry[:-1] + more + "}"))
        return check_densities(study.methods[0], space)

    assert told("features.0: 1.0") == ()
    [text] = told("classifier: 0.5")
    assert "tiny.yaml:5: unknown layer of vgg_mini that loses weights 'classifier'" in text
    assert told("classifier: 0.5", ", with: {layers: all}") == ()
    [text] = told("'*': 0.5")
    assert text.endswith("no layer of vgg_mini is left to search: the densities of all are fixed")
    [text] = told("features.0: 0.5", ", with: {whole: [features.0]}")
    assert "'features.0'" in text
    path = write_study(folder, methods=MAGNITUDE.replace(RANGE, f"{RANGE}, fixed: {{nope: 1}}"))
    with pytest.raises(SpecError, match=r"tiny.yaml:5: unknown layer of vgg_mini .*'nope'"):
        run_study(load_study(path), storage=STORE, tracking=NOWHERE, device="cpu")


def test_settings_round_trip_and_say_nothing_of_other_spaces(folder: Path) -> None:
    study = load_study(write_study(folder, methods=MAGNITUDE))
    again = type(study).model_validate(study.settings())
    assert again.settings() == study.settings()
    space = trace("vgg_mini", arguments={"in_channels": 1, "input_size": 8}, input_shape=(1, 8, 8))
    asked = nearest(again, space, again.methods[0], lambda name: 0.5, None)
    assert asked is not None
    assert asked.fixed == frozenset()


def test_uniform_starts_are_equal_densities_at_the_flops_they_are_called_by(folder: Path) -> None:
    space = trace("vgg_mini", arguments={"in_channels": 1, "input_size": 8}, input_shape=(1, 8, 8))
    fixed = MAGNITUDE.replace(RANGE, f"{RANGE}, fixed: {{features.0: 1.0}}")
    for methods in (MAGNITUDE, fixed):
        text = ", starts: [uniform 0.5, uniform 0.25]"
        study = load_study(write_study(folder, methods=methods, more=text))
        found = starts_of(study, space)
        assert [start.name for start in found] == ["uniform 0.5", "uniform 0.25"]
        for start, share in zip(found, (0.5, 0.25), strict=True):
            [value] = set(start.parameters.values())
            made = METHODS["random_sparse"]()
            layers = dict.fromkeys(made.density_layers(space), value)
            if methods == fixed:
                layers["features.0"] = 1.0
            source = dense("vgg_mini", folder / "cache")
            flops = made.derive(source, ratios=layers).architecture.flops
            assert flops == pytest.approx(share * space.dense.flops, rel=0.03)
    study = load_study(write_study(folder, methods=MAGNITUDE, objective=BUDGET, trials=8))
    [start, *_] = starts_of(study, space)
    assert start.name == "uniform 0.4"
    assert len(set(start.parameters.values())) == 1
