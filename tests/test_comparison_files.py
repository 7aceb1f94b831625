"""The committed comparisons run: every row of each, with few images and short trainings."""

import re
from pathlib import Path

import pytest

from prunenas.architecture import fill_arguments, trace
from prunenas.evidence.cells import cells
from prunenas.evidence.comparison import compare, every_method
from prunenas.evidence.cost import cost
from prunenas.spec import Comparison, load_comparison

ROOT = Path(__file__).parent.parent
FOR_GPUS = {"compare_vgg16_cifar10", "compare_resnet56_cifar10"}
DATA = {"compare_lenet5": "mnist5k"}  # its kernels don't fit on the digits' 8 x 8 pixels
COMPARISONS = sorted((ROOT / "studies").glob("compare_*.yaml"))


def shortened(path: Path) -> Comparison:
    """The comparison with a hundred small images, an epoch and two seeds."""
    comparison = load_comparison(path)
    data = {"name": DATA.get(path.stem, "digits"), "validation": 0.5, "train_limit": 100}
    train = {"epochs": 1, "batch_size": 50, "lr": 0.02, "augment": False}
    kept = {
        name: each
        for name, each in comparison.model_dump(by_alias=True).items()
        if name not in ("data", "train", "fine_tune", "patterns")
    }
    arms = [arm for arm in comparison.arms if arm not in ("scratch_b", "ticket", "transferred")]
    return Comparison.model_validate(
        {**kept, "data": data, "train": train, "arms": arms, "seeds": 2}
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [path for path in COMPARISONS if path.stem not in FOR_GPUS], ids=lambda path: path.stem
)
def test_every_row_of_a_comparison_finds_and_trains_networks_within_its_budget(
    path: Path, tmp_path: Path
) -> None:
    comparison = shortened(path)
    (part,) = compare(comparison, device="cpu", folder=tmp_path)
    assert len(part.results) == part.total
    for row in part.rows(comparison):
        trained = row.figures["scratch_e"]
        assert trained.n == 2, (row.contender.label, trained.reasons)
        assert trained.flops is not None
        assert 0 < trained.flops <= row.contender.flops_ratio * part.flops
        assert row.contender.flops_ratio in comparison.budgets


def test_those_for_gpus_say_that_they_have_not_run_yet() -> None:
    waiting = {path.stem for path in COMPARISONS if "Not run yet" in path.read_text()}
    assert waiting == FOR_GPUS
    for name in waiting:
        comparison = load_comparison(ROOT / "studies" / f"{name}.yaml")
        # Liu et al. 2019, section 4: 160 epochs, rates falling at half and three quarters.
        assert comparison.data.name == "cifar10"
        recipe = comparison.train
        assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.weight_decay) == (
            160,
            64,
            0.1,
            1e-4,
        )
        assert (recipe.schedule, recipe.milestones, recipe.gamma) == ("step", (0.5, 0.75), 0.1)


def test_what_those_for_gpus_cost_stands_in_the_documents() -> None:
    text = (ROOT / "docs" / "results.md").read_text()
    rows = re.findall(r"^\| `studies/(\w+)\.yaml` \| (\d+) \| ([\d.]+) \| (\S+) \|$", text, re.M)
    assert {row[0] for row in rows} == FOR_GPUS
    for name, networks, trainings, multiply_adds in rows:
        comparison = load_comparison(ROOT / "studies" / f"{name}.yaml")
        (model,) = comparison.models
        shape = (3, 32, 32)
        arguments = fill_arguments(model.name, model.arguments, classes=10, input_shape=shape)
        space = trace(model.name, arguments=arguments, input_shape=shape)
        todo = cells(list(every_method(comparison)), comparison.arms, range(comparison.seeds))
        images = round(50_000 * (1 - comparison.data.validation))
        found = cost(comparison, todo, dense_flops=space.dense_flops, images=images)
        assert found.networks == int(networks)
        assert f"{found.dense_trainings:.1f}" == trainings
        assert f"{found.multiply_adds:.1e}" == multiply_adds
