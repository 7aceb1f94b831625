"""Every kind of mistake in a file: the exact line that the user reads."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spec_samples import STUDY, changed, inline, mistakes, write_sound_files

from prunenas.architecture import own_models, torchvision_models
from prunenas.errors import SpecError
from prunenas.methods import METHODS
from prunenas.spec import load_space
from prunenas.training import Recipe


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_sound_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_study_that_the_mistakes_are_made_in_is_sound(folder: Path) -> None:
    assert mistakes(STUDY) == []
    assert mistakes(changed(5, "  - {name: network_slimming, space: slimming}")) == []


METHOD_NAMES = ", ".join(sorted(METHODS))
FIELDS = ", ".join(sorted({field for kind in METHODS.values() for field in kind.model_fields}))
SETS = "cifar10, cifar100, digits, fashion_mnist, femnist, image_folder, mnist5k"
DATA = "channels, download, image_size, name, root, seed, train_limit, validation, workers"
TRAIN = ", ".join(sorted(Recipe.model_fields))
RATIO_OF = "methods[0].space.widths.ratio"


def ratio(text: str) -> str:
    return inline(f"{{widths: {{per: group, ratio: {{{text}}}}}}}")


@pytest.mark.parametrize(
    ("line", "text", "told"),
    [
        # names
        (1, "name: a/b", "name must be up to 100 letters, digits, '_', '-' and '.', the first no "
         "'-' or '.', but is 'a/b'"),
        (2, "model: {name: vgg_tiny}", "unknown model 'vgg_tiny' (did you mean 'vgg_mini'?). "
         "Known: " + ", ".join(sorted(own_models())) + ", torchvision/NAME, timm/NAME, or "
         "import.path:callable for a network of your own"),
        (2, "model: {name: torchvision/resnet81}", "unknown torchvision model 'resnet81' (did you "
         "mean 'resnet18'?). Known: " + ", ".join(sorted(torchvision_models()))),
        (2, "model: {name: 'my.nets:'}", "a model source with a colon must be "
         "import.path:callable, but got 'my.nets:'"),
        (3, "data: {name: mnist}", f"unknown data set 'mnist' (did you mean 'mnist5k'?). "
         f"Known: {SETS}"),
        (5, "  - {name: l1norm, space: per_layer}", "unknown method 'l1norm' (did you mean "
         f"'l1_norm'?). Known: {METHOD_NAMES}"),
        (5, "  - {name: l1_norm, space: perlayer}", "unknown search space 'perlayer' (did you mean "
         "'per_layer'?). Known: per_layer, slimming"),
        (8, "search: {sampler: tpee, trials: 2}", "unknown sampler 'tpee' (did you mean 'tpe'?). "
         "Known: auto, budgeted, gp, nsga2, qmc, random, tpe"),
        (7, "train: {epochs: 1, schedule: cos}", "unknown schedule 'cos' (did you mean 'cosine'?). "
         "Known: constant, cosine, one_cycle, step"),
        (7, "train: {epochs: 1, protocol: scratch}", "unknown protocol 'scratch' (did you mean "
         "'scratch_e'?). Known: federated, scratch_b, scratch_e"),
        # keys
        (2, "modle: {name: vgg_mini}", "unknown study key 'modle' (did you mean 'model'?). Known: "
         "data, federation, latency, methods, model, name, objective, search, train"),
        (3, "data: {name: digits, validaton: 0.3}", "unknown data key 'validaton' (did you mean "
         f"'validation'?). Known: {DATA}"),
        (7, "train: {epoch: 1}", f"unknown train key 'epoch' (did you mean 'epochs'?). "
         f"Known: {TRAIN}"),
        (5, "  - {name: l1_norm, spcae: per_layer, space: per_layer}", "unknown methods[0] key "
         "'spcae' (did you mean 'space'?). Known: name, space, with"),
        (8, "search: {trials: 2, stoper: pareto}", "unknown search key 'stoper' (did you mean "
         "'stopper'?). Known: fidelity, repeats, sampler, seed, starts, stopper, trials, "
         "warm_start"),
        (8, "search: {trials: 2, stopper: parreto}", "unknown stopper 'parreto' (did you mean "
         "'pareto'?). Known: asha, median, none, pareto"),
        (8, "search: {trials: 2, starts: uniform}", "search.starts must be true, false or a list, "
         "but is 'uniform'"),
        (8, "search: {trials: 2, starts: [5]}", "an entry of search.starts must be text, but is 5"),
        (8, "search: {trials: 2, fidelity: 3}", "search.fidelity must be a list of epochs, but is "
         "3"),
        (8, "search: {trials: 2, fidelity: [1.5, 3]}", "search.fidelity must hold whole numbers, "
         "but has 1.5"),
        (8, "search: {trials: 2, fidelity: [0, 3]}", "`search.fidelity >= 1` must hold, but it has "
         "0"),
        (8, "search: {trials: 2, fidelity: [3]}", "search.fidelity must have two entries or more, "
         "but has one: 3"),
        (8, "search: {trials: 2, fidelity: [3, 2]}", "search.fidelity must ascend, but is [3, 2]"),
        (8, "search: {trials: 2, fidelity: [1, 2], stopper: asha}", "search: fidelity and a "
         "stopper both end trainings early: give one of them, but fidelity is [1, 2] and the "
         "stopper is 'asha'"),
        (8, "search: {trials: 2, warm_start: 3}", "search.warm_start must be text, but is 3"),
        (5, ratio("low: 0.1, hihg: 1.0"), f"unknown {RATIO_OF} key 'hihg' (did you mean 'high'?). "
         "Known: high, log, low, step"),
        (5, inline("{widht: {}, widths: {per: group, ratio: {low: 0.1, high: 1}}}"), "unknown "
         "methods[0].space key 'widht' (did you mean 'widths'?). Known: densities, method, widths"),
        (7, "# train", "train must be given"),
        (2, "model: {}", "model.name must be given"),
        (3, "data: {name: digits, seed: 1, seed: 2}", "a key may be given once, but 'seed' is also "
         "in line 3"),
        # kinds of values
        (1, "name: 1", "name must be text, but is 1"),
        (5, "", "methods must be a list, but is empty"),
        (2, "model: vgg_mini", "model must be a mapping, but is 'vgg_mini'"),
        (3, "data: {name: digits, download: yes}", "data.download must be true or false, but is "
         "'yes'"),
        (7, "train: {epochs: four}", "train.epochs must be a whole number, but is 'four'"),
        (7, "train: {epochs: 1.5}", "train.epochs must be a whole number, but is 1.5"),
        (7, "train: {epochs: true}", "train.epochs must be a whole number, but is true"),
        (7, "train: {epochs: 1, lr: .inf}", "a number must be finite, but is .inf"),
        (7, "train: {epochs: 1, milestones: 0.5}", "train.milestones must be a list, but is 0.5"),
        (5, "  - l1_norm", "methods[0] must be a mapping, but is 'l1_norm'"),
        (5, "  - {name: l1_norm, space: 3}", "space must be a name, a path or a mapping, but is 3"),
        (2, "model: {name: vgg_mini, arguments: [1]}", "model.arguments must be a mapping, but is "
         "a list"),
        # bounds
        (3, "data: {name: digits, validation: 1.5}", "`data.validation < 1` must hold, but it is "
         "1.5"),
        (3, "data: {name: digits, channels: 2}", "unknown channels '2'. Known: 1, 3"),
        (7, "train: {epochs: 0}", "`train.epochs >= 1` must hold, but it is 0"),
        (7, "train: {epochs: 1, lr: -1e-2}", "`train.lr > 0` must hold, but it is -0.01"),
        (7, "train: {epochs: 1, nesterov: true, momentum: 0}", "train: nesterov: true needs "
         "momentum > 0, but momentum is 0"),
        (8, "search: {trials: 0}", "`search.trials >= 1` must hold, but it is 0"),
        (8, "search: {trials: 1, repeats: -1}", "`search.repeats >= 0` must hold, but it is -1"),
        (8, "search: {trials: 1, repeats: 1}", "search.repeats must be 0 (none) or 2 and more, as "
         "one seed gives no standard error, but is 1"),
        (8, "search: {trials: 1, repeats: 2.5}", "search.repeats must be a whole number, but is "
         "2.5"),
        (8, "search: {trials: 1, seed: -1}", "`search.seed >= 0` must hold, but it is -1"),
        # ratios
        (5, ratio("low: 0, high: 1"), f"`{RATIO_OF}.low > 0` must hold, but it is 0"),
        (5, ratio("low: 0.5, high: 1.5"), f"`{RATIO_OF}.high <= 1` must hold, but it is 1.5"),
        (5, ratio("low: 0.9, high: 0.1"), f"{RATIO_OF}: `low <= high` must hold, but low is 0.9 "
         "and high is 0.1"),
        (5, ratio("low: 0.1, high: 1, step: 0.1, log: true"), f"{RATIO_OF}: step and log exclude "
         "each other, but both are given"),
        (5, ratio("low: 0.1, high: 1, step: 0.4"), f"{RATIO_OF}: high must be low plus whole "
         "steps, but 0.1 and steps of 0.4 reach 0.9 and pass 1"),
        (5, ratio("low: 0.1, high: 1, step: 0"), f"`{RATIO_OF}.step > 0` must hold, but it is 0"),
        (5, inline("{widths: {per: layer, ratio: {low: 0.1, high: 1}}}"), "unknown per 'layer'. "
         "Known: group, network, stage"),
        (5, inline("{widths: {per: group, ratio: {low: 0.1, high: 1}, fixed: {features.0: 2}}}"),
         "`methods[0].space.widths.fixed.features.0 <= 1` must hold, but it is 2"),
        # objectives
        (6, "objective: {maximize: loss, minimize: flops}", "unknown maximize 'loss'. Known: "
         "accuracy"),
        (6, "objective: {maximize: accuracy, flops_ratio: 0}", "`objective.flops_ratio > 0` must "
         "hold, but it is 0"),
        (6, "objective: {maximize: accuracy, flops_ratio: 1.01}", "`objective.flops_ratio <= 1` "
         "must hold, but it is 1.01"),
        (6, "objective: {maximize: accuracy}", "objective: one of minimize, flops_ratio and "
         "latency_ms must be given, but none is"),
        (6, "objective: {maximize: accuracy, minimize: loss}", "unknown minimize 'loss' (did you "
         "mean 'flops'?). Known: flops, latency_ms, round_seconds"),
        (6, "objective: {maximize: accuracy, minimize: [flops, flops]}", "a cost may be minimized "
         "once, but flops is listed twice"),
        (6, "objective: {maximize: accuracy, minimize: []}", "objective.minimize must name a cost, "
         "but the list is empty"),
        (6, "objective: {maximize: accuracy, minimize: 3}", "objective.minimize must be a cost or "
         "a list, but is 3"),
        (6, "objective: {maximize: accuracy, minimize: [flops, latency_ms], flops_ratio: 0.5}",
         "objective: either `minimize: flops` or flops_ratio must be given, but both are"),
        (6, "objective: {maximize: accuracy, minimize: latency_ms, flops_ratio: [0.1, 0.5]}",
         "objective: a range of FLOPs (flops_ratio: [0.1, 0.5]) goes with `minimize: flops`; a "
         "budget is one number"),
        (6, "objective: {maximize: accuracy, minimize: flops, latency_ms: 0}",
         "`objective.latency_ms > 0` must hold, but it is 0"),
        (6, "objective: {maximize: accuracy, minimize: flops, flops_ratio: 0.5}", "objective: "
         "either `minimize: flops` or flops_ratio must be given, but both are"),
        (6, "objective: {maximize: accuracy, flops_ratio: half}", "objective.flops_ratio must be a "
         "number or [lowest, highest], but is 'half'"),
        (6, "objective: {maximize: accuracy, flops_ratio: [0.1, 0.5]}", "objective: a range of "
         "FLOPs (flops_ratio: [0.1, 0.5]) goes with `minimize: flops`; a budget is one number"),
        (6, "objective: {maximize: accuracy, minimize: flops, flops_ratio: [0.5, 0.1]}",
         "objective.flops_ratio must ascend from lowest to highest, but is [0.5, 0.1]"),
        (6, "objective: {maximize: accuracy, minimize: flops, flops_ratio: [0, 0.1]}",
         "`objective.flops_ratio > 0` must hold, but it is 0"),
        (6, "objective: {maximize: accuracy, minimize: flops, flops_ratio: [0.1]}",
         "objective.flops_ratio must be a number or [lowest, highest], but the list has 1 entry"),
        # methods and their spaces
        (5, "  - {name: l1_norm}", "l1_norm follows given ratios, so it needs a space with widths: "
         "without one every candidate is the dense network"),
        (5, "  - {name: network_slimming, space: per_layer}", None),
        (5, "  - {name: l1_norm, space: per_layer, with: {keep: 0.5}}", "unknown l1_norm "
         "hyperparameter 'keep'. Known: whole"),
        (5, "  - {name: l1_norm, space: per_layer, with: {whole: [conv1]}}", "widths are searched "
         "for l1_norm, so its space says what stays whole: `fixed: {GROUP: 1.0}` instead"),
        (5, "  - {name: taylor, with: {whole: conv1}}", "taylor: whole must be a list, but is "
         "'conv1'"),
        (5, "  - {name: network_slimming, with: {sparsty: 1e-4}}", "unknown "
         "network_slimming hyperparameter 'sparsty' (did you mean 'sparsity'?). Known: empty, "
         "keep, scale_init, sparsity, whole"),
        (5, "  - {name: network_slimming, with: {keep: 1.5}}", "network_slimming: `keep <= 1` must "
         "hold, but it is 1.5"),
        (5, "  - {name: random, with: {low: 0.9, high: 0.1}}", "random: low <= high must hold, but "
         "low=0.9 and high=0.1"),
        (5, inline("{method: {sparsty: {}}}", "network_slimming"), "unknown network_slimming "
         "hyperparameter 'sparsty' (did you mean 'sparsity'?). Known: empty, keep, scale_init, "
         "sparsity, whole"),
        (5, inline("{method: {keep: {low: 0.1, high: 1.5}}}", "network_slimming"),
         "network_slimming: `keep <= 1` must hold, but it is 1.5"),
        (5, inline("{method: {keep: {choices: [0.5, -1]}}}", "network_slimming"),
         "network_slimming: `keep > 0` must hold, but it is -1"),
        (5, inline("{method: {keep: {choices: [0.5, 0.5]}}}", "network_slimming"),
         "methods[0].space.method.keep: choices must differ, but are [0.5, 0.5]"),
        (5, inline("{method: {keep: {choices: [[0.5]]}}}", "network_slimming"),
         "methods[0].space.method.keep: choices must be numbers, texts, true or false"),
        (5, inline("{method: {keep: {choices: [0.5], low: 0.1}}}", "network_slimming"),
         "methods[0].space.method.keep: choices stand alone, without low, high, step and log"),
        (5, inline("{method: {keep: {low: 0.5}}}", "network_slimming"), "methods[0].space.method."
         "keep: low and high must both be given, or choices, or nothing at all"),
        (5, inline("{method: {sparsity: {low: 0, high: 1, log: true}}}", "network_slimming"),
         "methods[0].space.method.sparsity: `low > 0` must hold on a logarithmic scale, but low "
         "is 0"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_its_place(
    folder: Path, line: int, text: str, told: str | None
) -> None:
    found = mistakes(changed(line, text))
    if told is None:  # the mistake is where the widths are: in the space
        told = (
            "search_spaces/per_layer.yaml:1: widths are for methods that follow given ratios, but "
            "network_slimming sets its own; search its hyperparameters instead. "
            "Known: empty, keep, scale_init, sparsity, whole"
        )
        assert found == [told]
    else:
        line = {"# train": 1, "": 4}.get(text, line)  # what is missing has no line of its own
        assert found == [f"studies/s.yaml:{line}: {told}"]


def test_an_empty_list_of_methods_is_told(folder: Path) -> None:
    text = STUDY.replace("methods:\n  - {name: l1_norm, space: per_layer}\n", "methods: []\n")
    assert mistakes(text) == [
        "studies/s.yaml:4: methods must have at least one entry, but the list is empty"
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("widths: {per: group, ratio: {low: 0.5, high: 0.2}}", "1: widths.ratio: `low <= high` "
         "must hold, but low is 0.5 and high is 0.2"),
        ("metod: {}\n", "1: unknown search space key 'metod' (did you mean 'method'?). Known: "
         "densities, method, widths"),
        ("method:\n  kep: {}\n", "2: unknown hyperparameter 'kep' (did you mean 'keep'?). Known: "
         + FIELDS),
        ("method:\n  keep:\n    low: 0.1\n    high: 1.2\n", "4: network_slimming: `keep <= 1` must "
         "hold, but it is 1.2"),
        ("- a\n", "1: search space must be a mapping, but is a list"),
        ("", "1: search space must be a mapping, but is empty"),
        ("widths: [\n", "2: broken YAML: expected the node content, but found '<stream end>'"),
    ],
)  # fmt: skip
def test_a_search_space_alone_is_checked(folder: Path, text: str, told: str) -> None:
    path = "search_spaces/own.yaml"
    assert mistakes(text, path) == [f"{path}:{told}"]
    with pytest.raises(SpecError, match=re.escape(told)):
        load_space(path)


PLACES = [
    ("name",), ("model",), ("model", "name"), ("data",), ("data", "name"), ("methods",),
    ("methods", 0), ("methods", 0, "name"), ("methods", 0, "space"), ("methods", 0, "with"),
    ("methods", 0, "space", "widths"), ("methods", 0, "space", "widths", "ratio"),
    ("methods", 0, "space", "widths", "ratio", "low"), ("methods", 0, "space", "widths", "fixed"),
    ("methods", 0, "space", "method"), ("methods", 0, "space", "method", "keep"),
    ("methods", 0, "space", "method", "keep", "choices"), ("objective",), ("objective", "minimize"),
    ("train",), ("train", "milestones"), ("train", "epochs"), ("search",), ("search", "trials"),
    ("search", "keys"),
]  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS | st.sampled_from(["l1_norm", "slimming", "keep", "a/b.yaml"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(edits=st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=3))
def test_whatever_a_file_says_it_is_sound_or_its_mistakes_are_lines_of_it(
    folder: Path, edits: list[tuple[tuple[str | int, ...], Any]]
) -> None:
    value: Any = yaml.safe_load(STUDY)
    for place, new in edits:
        part = value
        for key in place[:-1]:
            if isinstance(part, dict) and isinstance(key, str):
                part = part.setdefault(key, {})
            elif isinstance(part, list) and isinstance(key, int) and part:
                part = part[key]
        if isinstance(part, dict) or (isinstance(part, list) and place[-1] == 0 and part):
            part[place[-1]] = copy.deepcopy(new)
    text = yaml.safe_dump(value, allow_unicode=True)
    for line in mistakes(text):
        assert "\n" not in line
        found = re.match(r"(?:studies/s|search_spaces/\w+)\.yaml:(\d+): \S", line)
        assert found, line
        assert 1 <= int(found[1]) <= text.count("\n")


def test_a_start_that_is_none_is_told_with_those_there_are(folder: Path) -> None:
    (found,) = mistakes(changed(8, "search: {trials: 2, starts: [uniform, uniform 2]}"))
    assert found.startswith("studies/s.yaml:8: unknown start 'uniform 2' (did you mean 'uniform")
    assert "Known: " in found
    assert "vgg16-a" in found
    (found,) = mistakes(changed(8, "search: {trials: 2, starts: [vgg16-b]}"))
    assert "unknown start 'vgg16-b' (did you mean 'vgg16-a'?)" in found


def test_a_study_is_no_start_for_itself(folder: Path) -> None:
    (found,) = mistakes(changed(8, "search: {trials: 2, warm_start: sound}"))
    assert found.endswith(":8: search.warm_start must name another study, but 'sound' is this one")


def test_rungs_end_where_trainings_do(folder: Path) -> None:
    (found,) = mistakes(changed(8, "search: {trials: 2, fidelity: [1, 3]}"))
    assert found.endswith(":8: search.fidelity must end with train.epochs, 1, but ends with 3")
