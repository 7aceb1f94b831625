"""The measurements of masks run, and their tables say what was measured; no times are asserted."""

from dataclasses import replace

import mask_bench
import pytest
import sparsity_bench
from torch import nn

from prunenas.models import vgg16


def test_overhead_is_the_ratio_of_medians() -> None:
    cost = mask_bench.Cost(plain=(1.0, 2.0, 9.0), masked=(2.2, 0.1, 30.0))
    assert cost.overhead == pytest.approx(0.1)


def test_differences_are_paired_by_seed() -> None:
    found = [dict.fromkeys(sparsity_bench.ROWS, 0.9 + seed / 10) for seed in range(2)]
    for seed, each in enumerate(found):
        each["fresh"] -= 0.01 + seed / 100
    lines = sparsity_bench.table(found).splitlines()
    assert len(lines) == 2 + len(sparsity_bench.ROWS)
    fresh = next(line for line in lines if "from scratch" in line)
    # 0.89 and 0.98; -0.01 and -0.02: means, and standard deviations with one degree of freedom
    # and of that the t distribution is Cauchy's: t = -3
    assert fresh.count("| -0.0150 ± 0.0071, p = 0.2 ") == 2
    assert "| 0.9350 ± 0.0636 |" in fresh
    assert next(line for line in lines if "| dense network |" in line).endswith("|  |  |")


@pytest.mark.slow
def test_masks_are_timed_on_vgg16(capsys: pytest.CaptureFixture[str]) -> None:
    mask_bench.main(["--batch", "2", "--rounds", "1"])
    assert capsys.readouterr().out.startswith("VGG-16, batch 2: masks add ")


def test_the_narrow_vgg16_has_a_quarter_of_its_channels() -> None:
    sizes = [
        [layer.out_channels for layer in network.modules() if isinstance(layer, nn.Conv2d)]
        for network in (vgg16(), sparsity_bench.vgg16_narrow())
    ]
    assert len(sizes[0]) == 13
    assert [4 * width for width in sizes[1]] == sizes[0]


@pytest.mark.slow
def test_every_row_of_the_table_is_trained(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = sparsity_bench.SETTINGS["lenet5"]
    recipe = setting.recipe.model_copy(update={"epochs": 3})
    small = replace(setting, images=200, steps=2, finish=1, recipe=recipe)
    monkeypatch.setitem(sparsity_bench.SETTINGS, "lenet5", small)
    sparsity_bench.main(["lenet5", "--seeds", "2"])
    told = capsys.readouterr().out
    assert "lenet5, n = 2" in told
    assert all(f"| {title} |" in told for title in sparsity_bench.ROWS.values())
