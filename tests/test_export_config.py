"""What an export's config.json holds, and what is refused."""

import copy
import json

import pytest

from prunenas.architecture import trace
from prunenas.errors import ExportError
from prunenas.export import ExportConfig, read_config


@pytest.fixture(scope="module")
def space():
    return trace("vgg_mini", arguments={"num_classes": 3}, input_shape=(1, 28, 28))


@pytest.fixture(scope="module")
def config(space):
    architecture = space.architecture(0.5)
    ratio = architecture.flops / space.dense.flops
    return ExportConfig(architecture, ratio, {"study": "demo", "trial": 3}, None)


def write(folder, plain):
    (folder / "config.json").write_text(json.dumps(plain), encoding="utf-8")
    return folder


def test_the_config_reads_back_equal(config, tmp_path):
    assert read_config(write(tmp_path, config.to_dict())) == config


def test_the_config_says_its_format_unit_and_figures(config, space):
    plain = config.to_dict()
    assert plain["format"] == "prunenas"
    assert plain["format_version"] == 2
    assert "multiply-adds" in plain["flops_unit"]
    assert plain["input_shape"] == [1, 28, 28]
    assert plain["architecture"]["widths"]["features.0"] == 8
    assert plain["flops"] == space.flops({"features.0": 8, "features.4": 16} | halves(space))
    assert plain["flops_ratio"] == plain["flops"] / space.dense.flops
    assert plain["weights"] is None
    assert plain["provenance"] == {"study": "demo", "trial": 3}


def halves(space):
    return {group.name: group.width // 2 for group in space.groups}


DAMAGES = {
    "another format": ({"format": "onnx"}, "not an export of prunenas"),
    "a later version": ({"format_version": 3}, "format_version must be 1 to 2, but is 3"),
    "a version that is a truth": ({"format_version": True}, "format_version must be 1 to 2"),
    "no version": ({"format_version": "1"}, "format_version must be"),
    "flops that are not the architecture's": ({"flops": 1}, "damaged, flops is 1"),
    "params that are not": ({"params": 7}, "damaged, params is 7"),
    "another digest": ({"digest": "0" * 16}, "damaged, digest is"),
    "another shape": ({"input_shape": [3, 28, 28]}, "damaged, input_shape"),
    "a share above one": ({"flops_ratio": 1.5}, r"flops_ratio must be in \(0, 1\], but is 1.5"),
    "a share that is none": ({"flops_ratio": True}, "flops_ratio must be in"),
    "provenance that is a list": ({"provenance": []}, "provenance must be a mapping"),
    "weights somewhere else": (
        {"weights": {"file": "../../secret", "sha256": "0"}},
        "weights must hold file: model.safetensors",
    ),
    "a format that is none": ({"formats": {"onx": {}}}, r"unknown format 'onx' \(did you mean"),
    "a format somewhere else": (
        {"formats": {"onnx": {"file": "/etc/passwd", "sha256": "0"}}},
        r"formats\.onnx must hold file: model\.onnx",
    ),
    "training that says nothing": ({"training": {"data": "digits"}}, "training must have epochs"),
    "a number that is none": ({"flops_ratio": float("nan")}, "numbers must be finite"),
    "a number of seventy bits": ({"params": 1 << 70}, "must fit 64 bits"),
    "text that is none": ({"provenance": {"study": "\ud800"}}, "text must be Unicode"),
    "an architecture that is none": (
        {"architecture": {"source": 3}},
        "an architecture has the keys",
    ),
}


@pytest.mark.parametrize(("change", "message"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_config_is_refused_and_named(config, tmp_path, change, message):
    folder = write(tmp_path, {**config.to_dict(), **change})
    with pytest.raises(ExportError, match=message) as caught:
        read_config(folder)
    assert str(folder / "config.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_export_of_the_first_version_still_reads(config, tmp_path):
    plain = config.to_dict()
    for name in ("training", "formats", "tolerance", "tolerance_unit", "pretrained_cfg"):
        del plain[name]
    assert read_config(write(tmp_path, {**plain, "format_version": 1})) == config


def test_every_field_is_needed(config, tmp_path):
    for name in config.to_dict():
        plain = copy.deepcopy(config.to_dict())
        del plain[name]
        with pytest.raises(ExportError):
            read_config(write(tmp_path, plain))


def test_a_folder_without_config_is_no_export(tmp_path):
    with pytest.raises(ExportError, match=r"not an export, there is no config\.json"):
        read_config(tmp_path)
    with pytest.raises(ExportError, match="not an export"):
        read_config(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"null", b"[]", b"9" * 5000]
)
def test_a_file_that_is_no_json_object_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ExportError):
        read_config(tmp_path)


def test_what_never_ends_is_not_read(config, tmp_path):
    (tmp_path / "config.json").symlink_to("/dev/zero")
    with pytest.raises(ExportError, match="not a plain file"):
        read_config(tmp_path)


def test_a_config_is_refused_by_its_size_before_it_is_parsed(tmp_path):
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(1 << 40)  # a hole, which takes no room on the disk
    with pytest.raises(ExportError, match="must be at most 64 MiB"):
        read_config(tmp_path)


def test_nesting_has_an_end(config, tmp_path):
    nested = []
    for _ in range(200):
        nested = [nested]
    with pytest.raises(ExportError, match="nested at most 64 deep"):
        read_config(write(tmp_path, {**config.to_dict(), "provenance": {"deep": nested}}))
