"""Baselines of a report: which are taken, at which figures, and how they are drawn."""

import functools
from pathlib import Path

import exporting
import pytest
import tiny_studies
from made_views import record, view

from prunenas.architecture import Architecture
from prunenas.errors import ExportError, StudyError
from prunenas.report import Baseline, baselines, page
from prunenas.report.points import points
from prunenas.search import StudyView, open_study, run_study
from prunenas.spec import load_study


@functools.cache
def half() -> Architecture:
    """vgg_mini at half its FLOPs."""
    return exporting.space().fit(flops_ratio=0.5)


def own(**changes: object) -> StudyView:
    """A study of vgg_mini on digits."""
    dense = exporting.space().dense
    records = [record(number) for number in range(6)]
    return view(
        records, name="own", dense_flops=dense.flops, dense_widths=dict(dense.widths), **changes
    )


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> str:
    """With one real study, ``tiny``."""
    folder = tmp_path_factory.mktemp("studies")
    url = f"sqlite:///{folder / 'studies.db'}"
    study = load_study(tiny_studies.write_study(folder, trials=2, epochs=1))
    tracking = "http://127.0.0.1:1"  # where nobody listens: this takes no time, and is not asked
    run_study(study, storage=url, tracking=tracking, device="cpu", home=folder, cache="off")
    return url


def test_an_export_is_taken_at_its_validation_accuracy(tmp_path: Path, storage: str) -> None:
    folder = exporting.export(
        tmp_path / "guided",
        half(),
        dense_flops=exporting.space().dense.flops,
        provenance={"study": "x", "method": "guided"},
        weights=exporting.trained(half()),
        training=exporting.TRAINING,
    )
    (found,) = baselines(own(), [str(folder)], storage=storage)
    assert (found.accuracy, found.split) == (0.9375, "validation")
    assert (found.flops, found.params) == (half().flops, half().params)
    assert (found.series, found.own) == ("guided", True)
    assert (found.epochs, found.images) == (4, 1150)


def test_only_a_test_accuracy_is_told_as_such(tmp_path: Path, storage: str) -> None:
    training = {**exporting.TRAINING, "validation": None}
    folder = exporting.export(
        tmp_path / "all", half(), weights=exporting.trained(half()), training=training
    )
    found = baselines(own(), [str(folder)], storage=storage)
    assert (found[0].accuracy, found[0].split) == (0.925, "test")
    assert "only the accuracy on the test split is known" in page(own(), found)


def test_another_network_is_drawn_at_its_share_of_the_studys_flops(
    tmp_path: Path, storage: str
) -> None:
    other = exporting.space("lenet5", 1, 28, 28)
    small = other.fit(flops_ratio=0.3)
    folder = exporting.export(
        tmp_path / "transferred",
        small,
        dense_flops=other.dense.flops,
        provenance={"study": "x", "method": "transferred guided"},
        weights=exporting.trained(small),
        training=exporting.TRAINING,
    )
    study = own()
    (found,) = baselines(study, [str(folder)], storage=storage)
    assert (found.series, found.own, found.network) == ("transferred guided", False, "lenet5")
    text = page(study, [found])
    assert f"{100 * small.flops / exporting.space().dense.flops:.1f} % of the FLOPs" in text
    assert "Another network is drawn at its FLOPs as a share" in text
    # Its groups are other ones: their widths have nothing to be shares of.
    assert all(share is None for _, share, _ in points(study, [found])["baseline-0"]["kept"])


def test_widths_of_the_same_network_are_shares_of_its_own() -> None:
    study = own()
    one = Baseline(
        "guided",
        "exports/guided",
        0.9,
        "validation",
        half().flops,
        1,
        "vgg_mini",
        True,
        half().widths,
    )
    kept = points(study, [one])["baseline-0"]["kept"]
    dense = exporting.space().dense.widths
    assert [(group, told) for group, _, told in kept] == [
        (group, f"{half().widths[group]} of {dense[group]}") for group in dense
    ]
    for group, share, _ in kept:
        assert share == pytest.approx(half().widths[group] / dense[group], abs=1e-4)


def test_another_studys_front_is_a_series(storage: str) -> None:
    study = own()
    found = baselines(study, ["tiny"], storage=storage)
    front = open_study(storage, "tiny").front
    assert front
    assert [(each.accuracy, each.flops) for each in found] == [
        (each.accuracy, each.flops) for each in front
    ]
    assert {each.series for each in found} == {"study tiny"}
    text = page(study, found)
    assert text.count('data-point="baseline-') == len(front)
    assert text.count('<section id="baselines">') == 1
    assert '<section id="baselines">' not in page(study)


def test_what_is_no_baseline_is_refused_in_one_line(tmp_path: Path, storage: str) -> None:
    bare = exporting.export(tmp_path / "bare", half())
    (tmp_path / "empty").mkdir()
    for given, error, words in (
        (str(bare), StudyError, "no accuracy"),
        (str(tmp_path / "empty"), ExportError, "not an export"),
        ("tinny", StudyError, "did you mean 'tiny'"),
    ):
        with pytest.raises(error) as refused:
            baselines(own(), [given], storage=storage)
        assert words in str(refused.value)
        assert "\n" not in str(refused.value)
    itself = open_study(storage, "tiny")
    with pytest.raises(StudyError, match="must be another one"):
        baselines(itself, ["tiny"], storage=storage)


def test_another_data_set_is_refused_and_both_are_named(tmp_path: Path, storage: str) -> None:
    settings = {**own().settings, "data": {"name": "mnist5k"}}
    folder = exporting.export(
        tmp_path / "digits", half(), weights=exporting.trained(half()), training=exporting.TRAINING
    )
    for given in ("tiny", str(folder)):
        with pytest.raises(StudyError) as refused:
            baselines(own(settings=settings), [given], storage=storage)
        assert "mnist5k" in str(refused.value)
        assert "digits" in str(refused.value)
