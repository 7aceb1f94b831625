"""Exports of masked architectures: they load as they were, and nothing they claim is believed."""

import json
import shutil
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import exporting
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prunenas.architecture import Architecture, Granularity, build, masked_weights, with_masks
from prunenas.errors import ExportError
from prunenas.export import add_format, load, load_architecture, read_config, read_masks
from prunenas.export.safety import examine
from prunenas.export.weights import sha256

DIMS: dict[Granularity, int] = {"weight": 4, "kernel": 2, "filter": 1}


def sparse(granularity: Granularity = "weight", density: float = 0.3) -> Architecture:
    space = exporting.space()
    network, random = build(space.dense), torch.Generator().manual_seed(0)
    keep = {
        name: torch.rand(weight.shape[: DIMS[granularity]], generator=random) < density
        for name, weight in masked_weights(network).items()
    }
    for each in keep.values():
        each.view(-1)[0] = True
    return with_masks(space, space.dense, network, keep, granularity)


def trained(architecture: Architecture) -> dict[str, Tensor]:
    return exporting.trained(architecture)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An export of each granularity, with weights; and one without."""
    root, found = tmp_path_factory.mktemp("exports"), {}
    dense = exporting.space().dense.flops
    for granularity in DIMS:
        architecture = sparse(granularity)
        found[granularity] = exporting.export(
            root / granularity,
            architecture,
            dense_flops=dense,
            weights=trained(architecture),
        )
    found["bare"] = exporting.export(root / "bare", sparse(), dense_flops=dense)
    return found


@pytest.fixture
def folder(exported: dict[str, Path], tmp_path: Path) -> Path:
    return shutil.copytree(exported["weight"], tmp_path / "export")


def modeling_of(folder: Path) -> ModuleType:
    spec = spec_from_file_location("modeling_of_export", folder / "modeling.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("granularity", DIMS)
def test_it_loads_as_it_was_with_prunenas_and_without(
    granularity: Granularity, exported: dict[str, Path]
) -> None:
    folder, architecture = exported[granularity], sparse(granularity)
    read = read_masks(folder, read_config(folder).architecture)
    assert read == architecture
    assert (read.flops, read.params) == (architecture.flops, architecture.params)
    assert read.bits() == architecture.bits()
    state, images = trained(architecture), exporting.images(architecture)
    mine, theirs = load(folder), modeling_of(folder).from_pretrained()
    assert torch.equal(mine(images), theirs(images))
    for network in (mine, theirs):
        assert not network.training
        for name, value in network.state_dict().items():
            assert torch.equal(value, state[name])
        for name, mask in architecture.masks.items():
            layer = network.get_submodule(name.removesuffix(".weight"))
            assert torch.equal(layer.weight_mask, mask.tensor())


def test_whoever_may_read_the_export_may_read_its_masks(exported: dict[str, Path]) -> None:
    for folder in exported.values():
        modes = {path.stat().st_mode & 0o444 for path in folder.iterdir()}
        assert (folder / "masks.safetensors").is_file()
        assert modes == {folder.stat().st_mode & 0o444}


def test_fresh_weights_have_masks_and_the_variance_of_what_is_left(
    exported: dict[str, Path],
) -> None:
    folder, architecture = exported["bare"], sparse()
    torch.manual_seed(4)
    mine = modeling_of(folder).from_pretrained()
    torch.manual_seed(4)
    theirs = load(folder)
    torch.manual_seed(4)
    written = load_architecture(folder / "architecture.yaml")
    expected = build(architecture, seed=4).state_dict()
    for network in (mine, theirs, written):
        assert network.training
        for name, value in network.state_dict().items():
            if name in architecture.masks:
                assert not value[~architecture.masks[name].tensor()].any()
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, expected[name])
        assert torch.equal(value, written.state_dict()[name])
        if value.dim() != 4:  # drawn in the same order: convolutions are drawn again, after all
            assert torch.equal(value, mine.state_dict()[name])
    for layer in mine.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 4000:
            left = layer.weight.detach()[layer.weight != 0]
            assert left.var().item() == pytest.approx(2 * layer.in_channels / len(left), rel=0.15)


OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "sgd": lambda network: torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True
    ),
    "adamw": lambda network: torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("loader", ["modeling", "prunenas"])
def test_plain_training_leaves_dropped_weights_at_zero(
    kind: str, loader: str, exported: dict[str, Path]
) -> None:
    folder, masks = exported["weight"], sparse().masks
    network = (modeling_of(folder).from_pretrained if loader == "modeling" else load)(
        *([] if loader == "modeling" else [folder])
    ).train()
    before = {name: value.clone() for name, value in network.named_parameters()}
    optimizer = OPTIMIZERS[kind](network)
    images, labels = exporting.images(sparse(), 4), torch.arange(4)
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    for name, value in network.named_parameters():
        assert not torch.equal(value, before[name])
        if name in masks:
            assert not value[~masks[name].tensor()].any()


def test_a_copy_is_held_when_that_is_said(exported: dict[str, Path]) -> None:
    from copy import deepcopy

    module = modeling_of(exported["weight"])
    images = exporting.images(sparse())
    for held in (False, True):
        network = deepcopy(module.from_pretrained())
        if held:
            module.hold(network)
        network(images).square().sum().backward()
        moves = any(
            network.get_parameter(name).grad[~mask.tensor()].any()
            for name, mask in sparse().masks.items()
        )
        assert moves != held


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def rename(path: Path) -> None:
    tensors = load_file(path)
    tensors["features.99.weight"] = tensors.pop("features.0.weight")
    save_file(tensors, path)


def swap(path: Path) -> None:
    tensors = load_file(path)
    names = sorted(tensors)
    save_file(dict(zip(names, [tensors[n] for n in reversed(names)], strict=True)), path)


def add(path: Path) -> None:
    save_file({**load_file(path), "stranger.weight": torch.zeros(1, dtype=torch.uint8)}, path)


DAMAGES: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "missing": (Path.unlink, "missing, though the architecture has masks", "No such file"),
    "empty": (lambda path: path.write_bytes(b"") and None, "damaged", "damaged"),
    "truncated": (truncate, "damaged", "damaged"),
    "a flipped bit": (flip, "must have the digest", "damaged"),
    "another layer's": (rename, r"incomplete: features\.0\.weight", "in one of them only"),
    "in another order": (swap, "must have the digest", "damaged"),
    "one too many": (add, r"none of stranger\.weight", "in one of them only"),
}


@pytest.mark.parametrize(("damage", "told", "without"), DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_masks_are_refused_in_one_line(
    damage: Callable[[Path], None], told: str, without: str, folder: Path
) -> None:
    damage(folder / "masks.safetensors")
    with pytest.raises(ExportError, match=told) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    with pytest.raises((ValueError, OSError), match=without) as plain:
        modeling_of(folder).from_pretrained()
    assert "\n" not in str(plain.value)


def rewritten(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The export with another architecture, all other figures made to fit it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config["architecture"])
    architecture = Architecture.from_dict(config["architecture"])
    config |= {name: getattr(architecture, name) for name in ("digest", "flops", "params")}
    path.write_text(json.dumps(config))
    return folder


NAME = "features.4.weight"


def more_uses(plain: dict[str, Any]) -> None:
    """Fewer FLOPs survive, and all counted ones are as many as fvcore says."""
    mask = plain["masks"][NAME]
    units = mask["shape"][0] * mask["shape"][1] * 9
    mask["uses"] += 1
    plain["flops"] -= units - mask["kept"]


def fewer_kept(plain: dict[str, Any]) -> None:
    mask = plain["masks"][NAME]
    mask["kept"] -= 5
    plain["flops"] -= 5 * mask["uses"]
    plain["params"] -= 5


def fewer_flops(plain: dict[str, Any]) -> None:
    plain["flops"] -= 1


def none_kept(plain: dict[str, Any]) -> None:
    plain["masks"][NAME]["kept"] = 0


def of_no_layer(plain: dict[str, Any]) -> None:
    plain["masks"]["features.1.weight"] = plain["masks"].pop(NAME)


def of_another_shape(plain: dict[str, Any]) -> None:
    plain["masks"][NAME]["shape"] = list(reversed(plain["masks"][NAME]["shape"]))


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        (more_uses, rf"uses of {NAME} must be the multiply-adds .*, 16, but are 17"),
        (fewer_kept, rf"{NAME}: a mask's kept must be what its bits keep"),
        (fewer_flops, "flops must be what fvcore counts"),
        (of_no_layer, "must have the shape of a layer's weight"),
        (of_another_shape, "must have the shape of a layer's weight"),
    ],
)
def test_lies_about_masks_are_refused_in_one_line(
    lie: Callable[[dict[str, Any]], None], told: str, folder: Path
) -> None:
    with pytest.raises(ExportError, match=told) as caught:
        load(rewritten(folder, lie))
    assert "\n" not in str(caught.value)


def test_a_mask_that_keeps_nothing_is_refused(folder: Path) -> None:
    with pytest.raises(ExportError, match=r"a mask must keep 1\.\.\d+, but keeps 0"):
        rewritten(folder, none_kept)


def test_without_prunenas_shapes_and_numbers_are_checked_too(folder: Path) -> None:
    for lie, told in ((fewer_kept, "but config.json says"), (of_another_shape, "must have the")):
        copy = shutil.copytree(folder, folder.with_name(lie.__name__))
        with pytest.raises(ValueError, match=told):
            modeling_of(rewritten(copy, lie)).from_pretrained()


def test_weights_that_are_there_all_the_same_are_refused(folder: Path) -> None:
    path, config = folder / "model.safetensors", folder / "config.json"
    before = sha256(path)
    tensors = load_file(path)
    gone = (~sparse().masks[NAME].tensor()).nonzero()[0]
    tensors[NAME][tuple(gone)] = float("nan")
    save_file(tensors, path)
    config.write_text(config.read_text().replace(before, sha256(path)))
    with pytest.raises(ExportError, match="weights that masks drop must be 0, but 1 are not"):
        load(folder)
    with pytest.raises(ValueError, match=f"must be 0, but some of {NAME} are not"):
        modeling_of(folder).from_pretrained()


class Twice(nn.Module):
    """One layer runs at two places, another over tokens, a third not at all, one by its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.tokens = nn.Linear(4, 6)
        self.idle = nn.Linear(4, 6)
        self.lent = nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.twice(self.twice(images))
        rows = self.tokens(maps.flatten(2).transpose(1, 2))
        return nn.functional.linear(rows.mean(dim=1), self.lent.weight)


class Deciding(Twice):
    """Looks at numbers, which it can't on the meta device."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if images.sum() >= 0 else -images)


@pytest.mark.parametrize("kind", [Twice, Deciding])
def test_uses_are_those_of_the_layers_that_run(kind: type[Twice]) -> None:
    source = f"test_export_masks:{kind.__name__}"
    dense = exporting.recorded(source, 4, 6, 5)
    network = kind()
    keep = {name: torch.rand(w.shape) < 0.5 for name, w in masked_weights(network).items()}
    expected = {"twice.weight": 2 * 30, "tokens.weight": 30, "idle.weight": 0, "lent.weight": 0}

    class Space:
        """Knows what its layers cost."""

        def layer_flops(self, widths: object) -> dict[str, int]:
            return {
                name.removesuffix(".weight"): uses * network.get_parameter(name).numel()
                for name, uses in expected.items()
            }

    assert keep.keys() == expected.keys()
    space: Any = Space()
    honest = with_masks(space, dense, network, keep)
    examine(honest, trust=True)
    for name in expected:
        expected[name] += 1
        with pytest.raises(ExportError, match=f"uses of {name} must be .*, {expected[name] - 1}, "):
            examine(with_masks(space, dense, network, keep), trust=True)
        expected[name] -= 1


@pytest.mark.parametrize("name", ["pt2", "onnx"])
@pytest.mark.slow
def test_other_formats_hold_zeros_where_weights_are_dropped(name: str, folder: Path) -> None:
    if name == "onnx":
        pytest.importorskip("onnxruntime")
    path = add_format(folder, name, verifier=exporting.verifier())  # which compares the outputs
    if name == "pt2":
        values = list(torch.export.load(path).state_dict.values())
    else:
        onnx = pytest.importorskip("onnx")
        values = [
            torch.from_numpy(onnx.numpy_helper.to_array(each).copy())
            for each in onnx.load(path).graph.initializer
        ]
    for mask in sparse().masks.values():
        gone = ~mask.tensor()
        alike = [value for value in values if value.shape == gone.shape]
        assert any(not value[gone].any() and value[~gone].any() for value in alike)


def test_no_damage_passes_for_the_masks_that_were_written(folder: Path) -> None:
    path, plain = folder / "masks.safetensors", read_config(folder).architecture
    whole, random, module = path.read_bytes(), Random(0), modeling_of(folder)
    expected = sparse().bits()
    figures = json.loads((folder / "config.json").read_text())["architecture"]
    refused: list[str] = []
    for _ in range(150):
        content = bytearray(whole)
        if random.random() < 0.2:
            content = content[: random.randrange(len(content))]
        else:
            content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        path.write_bytes(content)
        try:
            assert read_masks(folder, plain).bits() == expected
        except ExportError as error:
            refused.append(str(error))
        network = module.build(figures)
        try:
            module.mask(network, figures["masks"], module.read_tensors(path))
        except (ValueError, KeyError, TypeError):
            continue
        for name, mask in sparse().masks.items():
            layer = network.get_submodule(name.removesuffix(".weight"))
            assert torch.equal(layer.weight_mask, mask.tensor())
    assert len(refused) > 100
    assert not any("\n" in line for line in refused)


def test_run_as_a_program_it_says_what_is_kept(
    exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, architecture = exported["kernel"], sparse("kernel")
    module = modeling_of(folder)
    monkeypatch.setattr("sys.argv", ["modeling.py"])
    module.main()
    told = capsys.readouterr().out
    assert f"{architecture.whole_params:,} parameters, {architecture.params:,} of them kept" in told
    assert f"{architecture.flops:,} FLOPs for one input" in told
