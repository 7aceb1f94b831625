"""The model card: read as the hub reads it; and what timm reads of the config."""

import exporting
import pytest
import yaml

from prunenas.export import read_architecture, read_config
from prunenas.export.preprocessing import pretrained_cfg

PROVENANCE = {
    "study": "quickstart",
    "trial": 9,
    "method": "network_slimming",
    "parameters": {"strength": 0.0001, "keep": 0.5},
    "accuracy": 0.9125,
    "split": "validation",
    "data": "digits",
    "images": {"train": 1150, "validation": 287},
    "mean": [0.3],
    "std": [0.4],
    "crop_pct": 1.0,
    "seeds": {"training": 7},
    "versions": {"torch": "2.15.0"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    architecture = exporting.space().fit(flops_ratio=0.5)
    return exporting.export(
        tmp_path_factory.mktemp("card") / "best",
        architecture,
        dense_flops=exporting.space().dense.flops,
        provenance=PROVENANCE,
        weights=exporting.trained(architecture),
        picture=b"PNG",
    )


def test_people_find_figures_origin_and_the_way_to_load_it(folder):
    text = (folder / "README.md").read_text()
    config = read_config(folder)
    for part in (
        "| accuracy | 91.25 % (validation, n = 287) |",
        f"{config.architecture.flops:,} fused multiply-adds",
        f"| parameters | {config.architecture.params:,} |",
        "| study | quickstart |",
        "| trial | 9 |",
        "| method | network_slimming |",
        "| hyperparameters | strength 0.0001, keep 0.5 |",
        "| seeds | training 7 |",
        "| versions | torch 2.15.0 |",
        "![Channels that each group of layers keeps](widths.png)",
        "from modeling import from_pretrained",
        "mean (0.3000), std (0.4000)",
        "modeling.py within 1e-05",
    ):
        assert part in text


def test_the_hub_reads_the_front_matter(folder):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    data = huggingface_hub.ModelCard.load(folder / "README.md").data
    assert data.library_name == "prunenas"
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.9125)
    assert result.metric_name == "accuracy (validation, n = 287)"
    assert (result.dataset_name, result.dataset_split) == ("digits", "validation")
    assert "license" not in data.to_dict()


def test_an_architecture_without_figures_has_a_card_without_results(tmp_path):
    folder = exporting.export(tmp_path / "bare", exporting.space().dense, dense_flops=10**9)
    text = (folder / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert "model-index" not in front
    assert "none: an architecture to train" in text
    assert "accuracy" not in text
    assert ".png" not in text


def test_marks_in_values_do_not_break_the_tables(tmp_path):
    odd = {"study": "a | b\n# c", "parameters": {"x": ["1|2", 3]}}
    folder = exporting.export(tmp_path / "odd", exporting.space().dense, provenance=odd)
    assert "| study | a \\| b # c |" in (folder / "README.md").read_text()


def test_the_architecture_is_there_to_read_and_reads_back(folder):
    text = (folder / "architecture.yaml").read_text()
    assert "\n- [features.0, conv, 1, " in text
    assert read_architecture(folder / "architecture.yaml") == read_config(folder).architecture


def test_timm_resolves_the_preprocessing(folder):
    data = pytest.importorskip("timm.data")
    cfg = read_config(folder).pretrained_cfg
    resolved = data.resolve_data_config(pretrained_cfg=cfg)
    assert resolved["input_size"] == (1, 8, 8) or resolved["input_size"] == [1, 8, 8]
    assert (list(resolved["mean"]), list(resolved["std"])) == ([0.3], [0.4])
    assert resolved["crop_pct"] == 1.0
    assert (cfg["first_conv"], cfg["classifier"]) == ("features.0", "classifier")
    assert (cfg["architecture"], cfg["num_classes"]) == ("vgg_mini", 10)


def test_metadata_says_only_what_is_known():
    dense = exporting.space().dense
    assert not {"mean", "std", "crop_pct", "interpolation"} & pretrained_cfg(dense, {}).keys()
    assert "mean" not in pretrained_cfg(dense, {"mean": [0.5, 0.5, 0.5]})
