"""The measurement of what a study costs besides its trainings runs, and its parts add up.

It asserts nothing of time: the share that it prints says as much of the machine as of the code.
"""

import pytest
from overhead_bench import Spent, main, measure


def test_the_share_is_what_is_not_training() -> None:
    spent = Spent(whole=(2.0, 3.0), training=(1.5, 2.5))
    assert spent.share == pytest.approx(0.2)
    assert spent.besides == pytest.approx(0.5)


@pytest.mark.slow
def test_it_measures_every_trial_but_the_first() -> None:
    spent = measure("vgg_mini", trials=2, epochs=1, images=200)
    assert len(spent.whole) == len(spent.training) == 2
    assert all(
        0 < training < whole for whole, training in zip(spent.whole, spent.training, strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("extra", [[], ["--each-epoch"]])
def test_the_command_prints_a_line_for_each_setting(
    capsys: pytest.CaptureFixture[str], extra: list[str]
) -> None:
    small = ["--networks", "vgg_mini", "--epochs", "1", "2", "--trials", "2", "--images", "200"]
    main([*small, *extra])
    lines = capsys.readouterr().out.splitlines()
    with capsys.disabled():
        print("", *lines, sep="\n")
    assert [line.partition(":")[0] for line in lines] == [
        "vgg_mini, 1 epochs",
        "vgg_mini, 2 epochs",
    ]
    assert all("mean of 2 trials" in line for line in lines)
