"""Gibbs pruning beside a channel method: one study of real digits, one front."""

import pytest
from tiny_studies import L1, NOWHERE, write_study

from prunenas.architecture import Architecture
from prunenas.search import StudyView, run_study
from prunenas.search.front import front_of
from prunenas.spec import load_study
from prunenas.trial import Record

pytestmark = pytest.mark.slow

GIBBS = """\
  - name: gibbs
    space: {method: {unit: {choices: [kernel, filter]}, density: {low: 0.2, high: 0.6},
                     narrow: {choices: [false, true]}}}
"""


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> StudyView:
    folder = tmp_path_factory.mktemp("study")
    path = write_study(folder, methods=f"{GIBBS}{L1}", trials=12, epochs=4, sampler="random")
    path.write_text(
        path.read_text()
        .replace("train_limit: 200", "train_limit: 500")
        .replace("batch_size: 50", "batch_size: 25")
    )
    store = f"sqlite:///{folder}/s.db"
    return run_study(load_study(path), storage=store, tracking=NOWHERE, device="cpu")


def whole(record: Record) -> Architecture:
    assert record.architecture is not None
    return Architecture.from_dict(record.architecture)


def test_kernels_filters_and_channels_are_retrained_from_scratch(view: StudyView) -> None:
    found = set()
    for record in view.records:
        assert record.state == "complete", record.reason
        assert record.accuracy is not None
        assert record.accuracy > 0.6  # chance is 0.1
        assert record.epochs == 4
        kinds = {mask.granularity for mask in whole(record).masks.values()}
        found.add((record.method, *kinds))
    # Narrow networks have no masks left: their filters are channels.
    assert found == {("gibbs", "kernel"), ("gibbs", "filter"), ("gibbs",), ("l1_norm",)}


def test_they_are_compared_by_the_multiply_adds_that_survive(view: StudyView) -> None:
    for record in view.records:
        architecture = whole(record)
        assert record.flops == architecture.flops
        assert (record.flops < architecture.whole_flops) == bool(architecture.masks)
    front = front_of(view.records, ("flops",))
    assert front
    for record in view.records:
        assert record.accuracy is not None
        assert record.flops is not None
        assert any(
            (other.accuracy or 0) >= record.accuracy and (other.flops or 0) <= record.flops
            for other in front
        )
