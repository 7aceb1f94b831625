"""Load this folder's network with torch alone (torchvision or timm where it comes from there).

::

    from modeling import from_pretrained

    network = from_pretrained()         # of this folder, or of another one
    logits = network(images)            # images: (N, C, H, W)

``python modeling.py`` says what the network is and runs it once. How it is built: the model's own
constructor is called while the sizes of its layers are replaced, in construction order, by those
that ``config.json`` lists. Weights are read from ``model.safetensors``; nothing is unpickled.
"""

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Sized = tuple[type[nn.Module], str, tuple[str, ...]]

SIZED: tuple[Sized, ...] = (
    (nn.modules.conv._ConvNd, "conv", ("in_channels", "out_channels", "groups")),
    (nn.Linear, "linear", ("in_features", "out_features")),
    (nn.modules.batchnorm._NormBase, "norm", ("num_features",)),
    (nn.LayerNorm, "norm", ("normalized_shape",)),
    (nn.RMSNorm, "norm", ("normalized_shape",)),
    (nn.GroupNorm, "norm", ("num_channels",)),
    (nn.PReLU, "norm", ("num_parameters",)),
)
"""Layers whose sizes are replaced: the class, its kind in ``config.json``, its arguments."""

MODELS: dict[str, Callable[..., nn.Module]] = {}

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def from_pretrained(folder: str | Path | None = None, *, trust: bool = False) -> nn.Module:
    """The network of an export: with its weights and in evaluation mode.

    Where no weights were exported it has fresh random ones and is in training mode.

    Args:
        folder: The export; the folder of this file by default.
        trust: Whether the network's source may be a module of the exporter's own; importing it
            runs its code.
    """
    folder = Path(__file__).resolve().parent if folder is None else Path(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    network: nn.Module = build(config["architecture"], trust=trust)
    masks = config["architecture"].get("masks", {})
    if masks:
        mask(network, masks, read_tensors(folder / "masks.safetensors"))
    if config["weights"] is None:
        return network.train()
    path = folder / "model.safetensors"
    if hashlib.sha256(path.read_bytes()).hexdigest() != config["weights"]["sha256"]:
        raise ValueError(f"{path}: damaged, its checksum is not the one in config.json")
    fill(network, read_tensors(path))
    return network.eval()


def hold(network: nn.Module) -> nn.Module:
    """Let dropped weights have no gradient from now on, so that training leaves them at 0.

    Networks of ``from_pretrained`` are held already; a copy of one (``copy.deepcopy``, ``pickle``)
    is not until it is passed to this. Momentum, weight decay, SGD and Adam all leave a weight at 0
    whose gradient has always been 0; an optimiser that adds noise to weights would not.
    """
    for layer in network.modules():
        if isinstance(getattr(layer, "weight_mask", None), Tensor):
            weight: Any = layer.get_parameter("weight")  # torch declares no types of its hooks
            weight.register_hook(_silence(layer))
    return network


def _silence(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    # The mask is looked up each time: it moves to another device with its layer.
    return lambda gradient: gradient.masked_fill(~layer.get_buffer("weight_mask"), 0.0)


def build(architecture: Mapping[str, Any], *, trust: bool = False) -> nn.Module:
    """A network with fresh random weights, from the block ``architecture`` of ``config.json``."""
    make = constructor(architecture["source"], trust)
    with resized(architecture["layers"]) as made:
        network: nn.Module = make(**architecture["arguments"])
    names = {id(module): name for name, module in network.named_modules()}
    if [[names.get(id(module)), *row] for module, row in made] != architecture["layers"]:
        raise ValueError(
            f"{architecture['source']} of this version makes other layers than the exported one"
        )
    for name, shape in architecture.get("tensors", {}).items():
        cut(network, name, shape)
    for name, kept in architecture.get("selections", {}).items():
        network.get_submodule(name).get_buffer("index").copy_(torch.tensor(kept))
    for modules in architecture.get("removed", {}).values():
        remove(network, modules)
    return network


def constructor(source: str, trust: bool) -> Callable[..., Any]:
    """The callable that a source names: one of ``MODELS``, torchvision/NAME, timm/NAME, or any."""
    library, _, name = source.partition("/")
    if library == "torchvision":
        from torchvision import models

        given = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
        return lambda **arguments: models.get_model(name, weights=None, **given | arguments)
    if library == "timm":
        create: Callable[..., Any] = import_module("timm").create_model
        return lambda **arguments: create(name, pretrained=False, **arguments)
    if ":" not in source:
        return MODELS[source]
    if not trust:
        raise ValueError(f"{source!r} is imported, which runs its code: pass trust=True (--trust)")
    module, _, path = source.partition(":")
    found: Any = import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    result: Callable[..., Any] = found
    return result


@contextmanager
def resized(layers: Sequence[Sequence[Any]]) -> Iterator[list[tuple[nn.Module, list[Any]]]]:
    """Give the layers that are made in here the sizes that are listed; yields what was made."""
    made: list[tuple[nn.Module, list[Any]]] = []
    originals = [(owner, owner.__init__) for owner, _, _ in SIZED]
    for owner, kind, names in SIZED:  # a constructor is a method that type checkers guard
        owner.__init__ = _resizing(owner.__init__, kind, names, layers, made)  # type: ignore[method-assign]
    try:
        yield made
    finally:
        for owner, original in originals:
            owner.__init__ = original  # type: ignore[method-assign]


def _resizing(
    original: Callable[..., None],
    kind: str,
    names: tuple[str, ...],
    layers: Sequence[Sequence[Any]],
    made: list[tuple[nn.Module, list[Any]]],
) -> Callable[..., None]:
    signature = inspect.signature(original)

    @wraps(original)
    def initialise(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        own = [bound.arguments[name] for name in names]
        if any(isinstance(size, (tuple, list)) and len(size) != 1 for size in own):
            return original(self, *args, **kwargs)  # over several axes: as its author sized it
        _, listed, *sizes = layers[len(made)] if len(made) < len(layers) else (None, "no layer")
        if listed != kind:
            raise ValueError(f"layer {len(made)} is {kind}, but config.json lists {listed}")
        bound.arguments.update(zip(names, sizes, strict=True))
        made.append((self, [kind, *sizes]))
        return original(*bound.args, **bound.kwargs)

    return initialise


def cut(network: nn.Module, name: str, shape: Sequence[int]) -> None:
    """Keep the first entries of a parameter or buffer along each axis, in place."""
    whole = dict(chain(network.named_parameters(), network.named_buffers()))[name]
    whole.data = whole.data[tuple(slice(size) for size in shape)].clone()


@torch.no_grad()
def mask(
    network: nn.Module, masks: Mapping[str, Mapping[str, Any]], bits: Mapping[str, Tensor]
) -> None:
    """Drop the weights that masks drop, and keep the masks beside them as ``weight_mask``.

    They stay at 0 when the network is trained; see ``hold``. Convolutions are drawn anew for what
    is left: variance 2 / n, n the weights that are left for each input channel.
    """
    if strange := sorted(masks.keys() ^ bits.keys()):
        raise ValueError(f"masks must be the network's, but {strange[0]} is in one of them only")
    for name, about in masks.items():
        layer = network.get_submodule(name.rpartition(".")[0])
        weight = layer.get_parameter("weight")
        packed = bits[name]
        if hashlib.sha256(packed.numpy().tobytes()).hexdigest()[:16] != about["digest"]:
            raise ValueError(f"masks.safetensors: damaged, {name} is not what config.json says")
        shape = tuple(weight.shape)
        if shape != tuple(about["shape"]):
            raise ValueError(f"a mask must have the shape of {name}, {shape}, not {about['shape']}")
        units = {"weight": shape, "kernel": shape[:2], "filter": shape[:1]}[about["granularity"]]
        places = torch.arange(7, -1, -1, dtype=torch.uint8)
        flat = ((packed[:, None] >> places) & 1).bool().flatten()[: prod(units)]
        if (kept := int(flat.sum())) != about["kept"]:
            raise ValueError(
                f"the mask of {name} keeps {kept}, but config.json says {about['kept']}"
            )
        keep = flat.reshape(*units, *[1] * (len(shape) - len(units))).expand(shape).contiguous()
        layer.register_buffer("weight_mask", keep, persistent=False)
        if isinstance(layer, nn.modules.conv._ConvNd):
            nn.init.normal_(weight, 0.0, (2 * layer.in_channels / int(keep.sum())) ** 0.5)
        weight.masked_fill_(~keep, 0.0)
    hold(network)


class Nothing(nn.Module):
    """Stands where a removed branch had a module: its answer is a zero without a shape."""

    def forward(self, first: Tensor, *others: object, **named: object) -> Tensor:
        """A zero of the input's kind."""
        del others, named
        return first.new_zeros(())


class Joint(nn.Module):
    """Stands where a removed branch met its stream: a plain 0.0, which any addition takes."""

    def forward(self, *_: object, **__: object) -> float:
        """0.0, whatever comes in."""
        return 0.0


def remove(network: nn.Module, modules: Sequence[str]) -> None:
    """Take a residual branch out; the last of its modules made what is added to the stream."""
    for name in modules:
        parent, _, last = name.rpartition(".")
        network.get_submodule(name)  # must be there
        zero = Joint() if name == modules[-1] else Nothing()
        setattr(network.get_submodule(parent), last, zero)


def fill(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load a network's state."""
    state = network.state_dict()  # knows its modules' versions, which a file of tensors does not
    if strange := sorted(state.keys() ^ tensors.keys()):
        raise ValueError(f"weights must be the network's, but {strange[0]} is in one of them only")
    state.update(tensors)
    network.load_state_dict(state)
    for name, layer in network.named_modules():
        keep = getattr(layer, "weight_mask", None)
        if isinstance(keep, Tensor) and layer.get_parameter("weight")[~keep].any():
            raise ValueError(
                f"weights that masks drop must be 0, but some of {name}.weight are not"
            )


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read a safetensors file: the length of a JSON header, the header, then raw numbers."""
    content = Path(path).read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    if not 8 < end <= len(content):
        raise ValueError(f"{path}: damaged, its header is longer than the file")
    header = json.loads(content[8:end])
    header.pop("__metadata__", None)
    data = bytearray(content[end:])
    tensors = {}
    for name, entry in header.items():
        dtype, shape, (first, last) = DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        count = prod(shape)
        if not 0 <= first <= last <= len(data) or last - first != count * dtype.itemsize:
            raise ValueError(f"{path}: damaged, {name} lies outside the file or is of another size")
        flat = torch.frombuffer(data, dtype=dtype, count=count, offset=first) if count else None
        tensors[name] = torch.empty(shape, dtype=dtype) if flat is None else flat.reshape(shape)
    return tensors


def main() -> None:
    """Say what the network is, and run it once."""
    folder = Path(__file__).resolve().parent
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    network = from_pretrained(folder, trust="--trust" in sys.argv[1:]).eval()
    count = sum(parameter.numel() for parameter in network.parameters())
    with torch.no_grad():
        output = network(torch.zeros(2, *config["input_shape"]))
    shape = "x".join(map(str, config["input_shape"]))
    kept = f", {config['params']:,} of them kept" if config["architecture"].get("masks") else ""
    print(f"{config['architecture']['source']}: {count:,} parameters{kept}")
    print(f"{config['flops']:,} FLOPs for one input of {shape} ({config['flops_unit']})")
    print(f"weights: {'random' if config['weights'] is None else 'as exported'}")
    print(f"a batch of two zeros gives {tuple(output.shape)}")


if __name__ == "__main__":
    main()
