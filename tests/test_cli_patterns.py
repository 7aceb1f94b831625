"""``prunenas patterns``: maps of studies and exports, as a table, JSON, a file and a picture."""

import contextlib
import io
import json
import re
from pathlib import Path

import exporting
import numpy as np
import pytest
import torch
import tracked
from matplotlib.image import imread
from rich.console import Console
from tiny_studies import L1, write_study

import prunenas
from prunenas.architecture import Architecture, build, masked_weights, trace, with_masks
from prunenas.cli import main
from prunenas.cli.patterns import _table
from prunenas.errors import SpecError
from prunenas.export import write_export
from prunenas.methods.guided_sparse import GuidedSparse
from prunenas.pictures import patterns_picture
from prunenas.search import open_study, run_study, whole_architecture
from prunenas.spec import check, load_study, maps_text

SMALL = {"in_channels": 1, "input_size": 8}
CROSS = torch.tensor([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=torch.bool)
CORNER = torch.tensor([[1, 0, 0], [0, 0, 0], [0, 0, 0]], dtype=torch.bool)
SPARSE = "  - {name: random_sparse, with: {density: 0.3}}"
STORE = ["--storage", "sqlite:///studies.db"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of two methods, of which one has masks, and two exports."""
    folder = tmp_path_factory.mktemp("patterns")
    (folder / "mlflow.db").write_bytes(tracked.fresh_database())
    with contextlib.chdir(folder):
        methods = f"{L1}\n{SPARSE}"
        path = write_study(folder, methods=methods, epochs=1, trials=4, sampler="random")
        run_study(load_study(path), storage="sqlite:///studies.db", device="cpu")
        for name, kernel in (("cross", CROSS), ("corner", CORNER)):
            exported(folder / name, kernel)
    return folder


@pytest.fixture(autouse=True)
def here(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)


def exported(folder: Path, kernel: torch.Tensor) -> None:
    space = trace("vgg_mini", arguments=SMALL, input_shape=(1, 8, 8))
    keep = {
        name: kernel.expand(weight.shape).clone()
        for name, weight in masked_weights(build(space.dense)).items()
        if weight.shape[2:] == (3, 3)
    }
    write_export(
        folder,
        with_masks(space, space.dense, build(space.dense), keep),
        dense_flops=space.dense.flops,
        provenance={"study": "by_hand", "trial": 0, "method": "magnitude"},
        verifier=exporting.verifier(),
    )


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    capsys.readouterr()
    assert main(["patterns", *arguments, "--json", *STORE]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["patterns", *arguments, *STORE]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    [line] = err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def test_an_exports_maps_are_its_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    maps = told(capsys, "cross")["maps"]
    assert isinstance(maps, dict)
    assert len(maps) == 3
    assert all(places == CROSS.double().tolist() for places in maps.values())


def test_of_several_networks_it_is_the_mean(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "cross", "corner", "cross")
    maps, networks = found["maps"], found["networks"]
    assert isinstance(maps, dict)
    assert isinstance(networks, list)
    expected = (2 * CROSS.double() + CORNER.double()) / 3
    for places in maps.values():
        assert np.allclose(places, expected.numpy())
    assert [each["name"] for each in networks] == ["cross", "corner", "cross"]


def test_a_studys_maps_are_those_of_its_masks(capsys: pytest.CaptureFixture[str]) -> None:
    view = open_study("sqlite:///studies.db", "tiny")
    sparse = [record for record in view.records if record.method == "random_sparse"]
    assert 0 < len(sparse) < len(view.records)
    for record in sparse:
        architecture = whole_architecture(view, record)
        maps = told(capsys, "tiny", "--trial", str(record.number))["maps"]
        assert isinstance(maps, dict)
        names = ["features.0", "features.4", "features.8", "features.11"]
        shapes = build(architecture).state_dict()
        each = [  # a layer that lost nothing has no mask
            architecture.masks[weight].tensor()
            if weight in architecture.masks
            else torch.ones(shapes[weight].shape)
            for weight in (f"{name}.weight" for name in names)
        ]
        # Its last two convolutions are at one resolution.
        last = torch.cat([mask.flatten(0, 1) for mask in each[2:]])
        for places, kernels in zip(
            maps.values(), (each[0].flatten(0, 1), each[1].flatten(0, 1), last), strict=True
        ):
            assert np.allclose(places, kernels.double().mean(0).numpy())


def test_the_table_is_plain_in_pipes_and_coloured_in_terminals(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["patterns", "cross"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    figures = [word for word in shown.split() if word in ("0.0", "100.0")]
    assert figures == ["0.0", "100.0", "0.0", *["100.0"] * 3, "0.0", "100.0", "0.0"] * 3
    assert shown.count("55.6") == 3  # five places of nine
    terminal = Console(force_terminal=True, color_system="truecolor", file=io.StringIO(), width=80)
    terminal.print(_table({0: CROSS.double().tolist()}, "maps"))
    drawn = terminal.file.getvalue() if isinstance(terminal.file, io.StringIO) else ""
    assert drawn.count("48;2;8;48;107") == 5 or drawn.count("48;2;8;48;107m") >= 3
    assert "48;2;255;255;255" in drawn


def test_a_file_of_maps_reads_back_and_its_contents_are_the_study(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file, picture = tmp_path / "maps.yaml", tmp_path / "maps.png"
    assert main(["patterns", "cross", "corner", "--out", str(file), "--picture", str(picture)]) == 0
    assert imread(io.BytesIO(picture.read_bytes())).shape[1] > 200
    entry = "  - {name: guided_sparse, with: {maps: maps.yaml}, space: {method: {density: {}}}}"
    study = load_study(write_study(tmp_path, methods=entry))
    expected = (CROSS.double() + CORNER.double()) / 2
    method = study.methods[0].method({"density": 0.2})
    assert isinstance(method, GuidedSparse)
    assert len(method.maps) == 3
    for places in method.maps:
        assert np.allclose(places, expected.numpy(), atol=1e-6)
    check(file, tmp_path / "tiny.yaml")
    # Elsewhere and under another name it is the same study; with other contents it is not.
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "other.yaml").write_text(file.read_text())
    moved = load_study(write_study(tmp_path, methods=entry.replace("maps.yaml", "deep/other.yaml")))
    assert moved.settings() == study.settings()
    (tmp_path / "deep" / "other.yaml").write_text(maps_text({0: CROSS.double().tolist()}, []))
    assert load_study(moved.path or "").settings() != study.settings()
    capsys.readouterr()
    assert "is there already" in refused(capsys, "cross", "--out", str(file))
    assert main(["patterns", "cross", "--out", str(file), "--replace"]) == 0


def test_a_study_of_a_maps_file_runs_on_another_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["patterns", "cross", "--out", str(tmp_path / "maps.yaml")]) == 0
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(tracked.fresh_database())
    path = write_study(
        tmp_path,
        methods="  - {name: guided_sparse, with: {maps: maps.yaml}}",
        objective="{maximize: accuracy, flops_ratio: 0.3}",
        epochs=1,
        trials=1,
        sampler="random",
    )
    path.write_text(path.read_text().replace("vgg_mini", "resnet20"))
    view = prunenas.run(path)
    [record] = view.records
    assert record.state == "complete"
    assert record.architecture is not None
    found = whole_architecture(view, record)
    assert Architecture.from_dict(record.architecture) == found
    assert 0.999 * 0.3 * view.dense_flops <= found.flops <= 0.3 * view.dense_flops
    for mask in found.masks.values():
        assert not mask.tensor()[:, :, ~CROSS].any()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "tiny.yaml:5: {folder}/maps.yaml: no such file. In {folder}: tiny.yaml"),
        ("maps: [[[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]]]\n", "maps.yaml:1: maps[0][2] must be given"),
        (
            "maps:\n- [[0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.1, 0.2, 1.3]]\n",
            "maps.yaml:2: `maps[0][2][2] <= 1` must hold, but it is 1.3",
        ),
        (
            "maps: [[[0, 0, 0], [0, 0, 0], [0, 0, 0]]]\n",
            "maps.yaml:1: every map must keep a place, but maps[0] has nothing above 0",
        ),
        ("map: 3\n", "maps.yaml:1: unknown key of a file of maps 'map'"),
        ("[]\n", "maps.yaml:1: a file of maps must be a mapping with the key maps, but is a list"),
        ("maps: [\n", "maps.yaml:2: broken YAML"),
    ],
)
def test_mistakes_of_a_maps_file_are_told_at_their_line(
    text: str | None, told: str, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "maps.yaml").write_text(text)
    path = write_study(
        tmp_path, methods="  - {name: guided_sparse, with: {maps: maps.yaml, density: 0.1}}"
    )
    with pytest.raises(SpecError) as caught:
        load_study(path)
    [line] = str(caught.value).splitlines()
    assert told.format(folder=tmp_path) in line
    if text and text.startswith("maps:"):  # and the same of the file itself
        with pytest.raises(SpecError, match=re.escape(line)):
            check(tmp_path / "maps.yaml")


def test_what_has_no_patterns_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    view = open_study("sqlite:///studies.db", "tiny")
    number = next(record.number for record in view.records if record.method == "l1_norm")
    assert refused(capsys, "tiny", "--trial", str(number)) == (
        f"patterns are of masks, but trial {number} of study 'tiny' has none"
    )
    assert "has no trial 99. Complete: 0, 1, 2, 3" in refused(capsys, "tiny", "--trial", "99")
    assert "'nowhere'" in refused(capsys, "nowhere")
    assert "trials are of one study" in refused(capsys, "cross", "--trial", "0")
    assert "trials are of one study" in refused(capsys, "tiny", "tiny", "--trial", "0")
    space = trace("vgg_mini", arguments=SMALL, input_shape=(1, 8, 8))
    dense = {"dense_flops": space.dense.flops, "provenance": {}, "verifier": exporting.verifier()}
    write_export(tmp_path / "dense", space.dense, **dense)
    assert refused(capsys, str(tmp_path / "dense")) == (
        f"{tmp_path}/dense: patterns are of masks, but this architecture has none"
    )
    linear = {
        name: torch.arange(weight.numel()).reshape(weight.shape) % 2 == 0
        for name, weight in masked_weights(build(space.dense)).items()
        if weight.dim() == 2
    }
    masked = with_masks(space, space.dense, build(space.dense), linear)
    write_export(tmp_path / "linear", masked, **dense)
    assert refused(capsys, str(tmp_path / "linear")).endswith("no 3 x 3 kernels have lost weights")


def test_the_picture_is_darkest_where_most_survive() -> None:
    places = [[0.1, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.1]]
    pixels = imread(io.BytesIO(patterns_picture({0: places, 1: places}, title="tiny")))[..., :3]
    dark = pixels.mean(axis=2) < 0.35
    columns = np.flatnonzero(dark.sum(axis=0) > 20)
    found = np.split(columns, np.flatnonzero(np.diff(columns) > 5) + 1)
    assert len([run for run in found if len(run) > 20]) == 2  # squares, not letters
