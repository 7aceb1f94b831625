"""The value in the middle: an architecture is a constructor plus the sizes of its layers."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from prunenas.architecture.masks import Mask, share_kept
from prunenas.errors import ExportError

LAYER_FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "conv": ("in_channels", "out_channels", "groups"),
        "linear": ("in_features", "out_features"),
        "norm": ("features",),
        "select": ("channels", "selected"),
    }
)
"""The sizes each kind of layer records, in order."""

MAX_SIZE = 1 << 20
"""No layer of a real network is wider; a bound on what a damaged file can make us allocate."""

MAX_LAYERS = 100_000


@dataclass(frozen=True, slots=True)
class Layer:
    """The sizes of one convolution, linear, normalisation or channel selection layer.

    Attributes:
        name: Its name in ``network.named_modules()``; None when the constructor makes and
            discards it.
        kind: ``"conv"``, ``"linear"``, ``"norm"`` or ``"select"``.
        sizes: Values of ``LAYER_FIELDS[kind]``, each at least 1.
    """

    name: str | None
    kind: str
    sizes: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Architecture:
    """A network's source and the sizes of its layers; no weights.

    Frozen, hashable and equal by ``digest``. It round-trips through a plain dict::

        Architecture.from_dict(architecture.to_dict()) == architecture

    Attributes:
        source: The constructor: ``"torchvision/resnet18"``, ``"vgg_mini"``, ``"my.module:name"``.
        arguments: The constructor's keyword arguments, JSON values.
        input_shape: ``(C, H, W)`` of one input, without the batch.
        widths: Channels left in each channel group, by the group's name.
        layers: Sizes of all layers in the order in which the constructor makes them.
        flops: Fused multiply-adds of one input in convolutions, linear layers and matrix products,
            those of masked weights left out.
        params: Number of trainable parameters, masked weights left out.
        selections: For channel selection layers by name, the ascending indices of the channels
            that they pass on; a layer without an entry passes evenly spaced ones on.
        removed: Residual branches that are taken out, by name: the modules that made them, in the
            order of the forward pass. ``widths`` has no entry for what lived in them alone.
        tensors: Shapes of parameters and buffers that no layer holds but that follow a channel
            group (ConvNeXt's layer scales), by name.
        masks: Which weights there are at all, by the name of a layer's weight.
    """

    source: str
    arguments: Mapping[str, Any]
    input_shape: tuple[int, ...]
    widths: Mapping[str, int]
    layers: tuple[Layer, ...]
    flops: int
    params: int
    selections: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    removed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tensors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    masks: Mapping[str, Mask] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Copies nobody else holds, and read-only.
        for name in ("arguments", "widths", "selections", "removed", "tensors", "masks"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal characters of the SHA-256 of everything but ``flops`` and ``params``."""
        plain = self.to_dict()
        del plain["flops"], plain["params"]
        for mask in plain.get("masks", {}).values():
            del mask["uses"], mask["kept"]  # they follow from the rest
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[Any, ...]:
        return _read, (self.to_dict(), self.bits())  # mapping proxies can't be pickled

    @property
    def whole_flops(self) -> int:
        """Multiply-adds with masked weights counted too: what fvcore counts of the network."""
        return self.flops + sum(mask.whole_flops - mask.flops for mask in self.masks.values())

    @property
    def whole_params(self) -> int:
        """Number of trainable parameters with masked weights counted too."""
        return self.params + sum(mask.total - mask.weights for mask in self.masks.values())

    @property
    def density(self) -> float:
        """Share of the weights of masked layers that are kept, in (0, 1]; 1 without masks."""
        return share_kept(self.masks.values())

    def bits(self) -> dict[str, bytes]:
        """The masks' bits by the weight's name, as far as they are known; see ``Mask``."""
        return {name: mask.bits for name, mask in self.masks.items() if mask.bits is not None}

    def with_bits(self, bits: Mapping[str, bytes]) -> "Architecture":
        """The same architecture with its masks' bits, which ``to_dict`` leaves out.

        Raises:
            ExportError: Bits are missing, or not those of these masks.
        """
        if missing := sorted(self.masks.keys() - bits.keys()):
            raise ExportError(f"masks are incomplete: {', '.join(missing)} are missing")
        if strange := sorted(bits.keys() - self.masks.keys()):
            raise ExportError(f"masks must be the architecture's, which has none of {strange[0]}")
        masks = {}
        for name, mask in self.masks.items():
            try:
                masks[name] = mask.with_bits(bits[name])
            except ExportError as error:
                raise ExportError(f"{name}: {error}") from error
        return replace(self, masks=masks)

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON or YAML; layers are ``[name, kind, size, ...]``.

        ``selections``, ``removed``, ``tensors`` and ``masks`` are there only where they say
        something, so that digests from before there were any hold. Masks are without their bits.
        """
        optional: dict[str, Any] = {
            "selections": {name: list(kept) for name, kept in self.selections.items()},
            "removed": {name: list(modules) for name, modules in self.removed.items()},
            "tensors": {name: list(shape) for name, shape in self.tensors.items()},
            "masks": {name: mask.to_dict() for name, mask in self.masks.items()},
        }
        return {
            "source": self.source,
            "arguments": dict(self.arguments),
            "input_shape": list(self.input_shape),
            "widths": dict(self.widths),
            "layers": [[layer.name, layer.kind, *layer.sizes] for layer in self.layers],
            "flops": self.flops,
            "params": self.params,
            **{name: value for name, value in optional.items() if value},
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Architecture":
        """Read what ``to_dict`` wrote.

        Raises:
            ExportError: A key is missing or unknown, or a value is not what it must be.
        """
        if not isinstance(plain, Mapping):
            raise ExportError(f"an architecture must be a mapping, but got {_short(plain)}")
        keys = {"source", "arguments", "input_shape", "widths", "layers", "flops", "params"}
        given = set(plain) - {"selections", "removed", "tensors", "masks"}
        if keys != given:
            missing, extra = sorted(keys - given), sorted(map(str, given - keys))
            raise ExportError(
                f"an architecture has the keys {', '.join(sorted(keys))}; "
                f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(extra) or 'none'}"
            )
        _must(isinstance(plain["source"], str), "source must be a string", plain["source"])
        arguments = plain["arguments"]
        _must(
            isinstance(arguments, Mapping) and all(isinstance(key, str) for key in arguments),
            "arguments must be a mapping from names",
            arguments,
        )
        shape = plain["input_shape"]
        _must(
            _is_list(shape) and 1 <= len(shape) <= 4 and all(map(_is_size, shape)),
            f"input_shape must hold 1 to 4 sizes in 1..{MAX_SIZE}",
            shape,
        )
        widths = plain["widths"]
        _must(
            isinstance(widths, Mapping)
            and all(isinstance(k, str) and _is_size(v) for k, v in widths.items()),
            f"widths must map group names to sizes in 1..{MAX_SIZE}",
            widths,
        )
        layers = plain["layers"]
        _must(_is_list(layers) and len(layers) <= MAX_LAYERS, "layers must be a list", layers)
        for name in ("flops", "params"):
            value = plain[name]
            _must(
                isinstance(value, int) and not isinstance(value, bool) and value >= 0,
                f"{name} must be an int >= 0",
                value,
            )
        read = tuple(_layer(row) for row in layers)
        return cls(
            source=plain["source"],
            arguments=arguments,
            input_shape=tuple(shape),
            widths=widths,
            layers=read,
            flops=plain["flops"],
            params=plain["params"],
            selections=_selections(plain.get("selections", {}), read),
            removed=_removed(plain.get("removed", {})),
            tensors=_tensors(plain.get("tensors", {})),
            masks=_masks(plain.get("masks", {})),
        )


def _layer(row: Any) -> Layer:
    _must(_is_list(row) and len(row) >= 2, "a layer must be [name, kind, sizes...]", row)
    name, kind, *sizes = row
    _must(name is None or isinstance(name, str), "a layer's name must be a string or null", row)
    _must(
        isinstance(kind, str) and kind in LAYER_FIELDS,
        f"a layer's kind must be one of {', '.join(LAYER_FIELDS)}",
        row,
    )
    fields = LAYER_FIELDS[kind]
    _must(
        len(sizes) == len(fields) and all(map(_is_size, sizes)),
        f"a {kind} layer must have {', '.join(fields)}, each in 1..{MAX_SIZE}",
        row,
    )
    return Layer(name, kind, tuple(sizes))


def _selections(plain: Any, layers: tuple[Layer, ...]) -> dict[str, tuple[int, ...]]:
    _must(isinstance(plain, Mapping), "selections must be a mapping from layers' names", plain)
    sizes = {layer.name: layer.sizes for layer in layers if layer.kind == "select"}
    for name, kept in plain.items():
        _must(name in sizes, "selections must name channel selection layers", name)
        channels, selected = sizes[name]
        _must(
            _is_list(kept)
            and len(kept) == selected
            and all(isinstance(i, int) and not isinstance(i, bool) for i in kept)
            and all(a < b for a, b in pairwise([-1, *kept, channels])),
            f"selections of {name} must be {selected} ascending indices in 0..{channels - 1}",
            kept,
        )
    return {name: tuple(kept) for name, kept in plain.items()}


def _removed(plain: Any) -> dict[str, tuple[str, ...]]:
    law = "removed must map branches' names to the names of the modules that made them"
    _must(isinstance(plain, Mapping), law, plain)
    for name, modules in plain.items():
        _must(isinstance(name, str), law, name)
        _must(
            _is_list(modules) and modules and all(isinstance(m, str) and m for m in modules),
            law,
            modules,
        )
    return {name: tuple(modules) for name, modules in plain.items()}


def _tensors(plain: Any) -> dict[str, tuple[int, ...]]:
    _must(
        isinstance(plain, Mapping) and len(plain) <= MAX_LAYERS,
        "tensors must map names to shapes",
        plain,
    )
    for name, shape in plain.items():
        _must(isinstance(name, str), "a tensor's name must be a string", name)
        _must(
            _is_list(shape) and 1 <= len(shape) <= 8 and all(map(_is_size, shape)),
            f"a tensor's shape must hold 1 to 8 sizes in 1..{MAX_SIZE}",
            shape,
        )
    return {name: tuple(shape) for name, shape in plain.items()}


def _masks(plain: Any) -> dict[str, Mask]:
    law = "masks must map the names of layers' weights to masks"
    _must(isinstance(plain, Mapping) and len(plain) <= MAX_LAYERS, law, plain)
    _must(all(isinstance(name, str) for name in plain), law, plain)
    return {name: Mask.from_dict(mask) for name, mask in plain.items()}


def _read(plain: Mapping[str, Any], bits: Mapping[str, bytes]) -> Architecture:
    architecture = Architecture.from_dict(plain)
    return architecture.with_bits(bits) if bits else architecture


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SIZE


def _must(holds: Any, law: str, value: Any) -> None:
    if not holds:
        raise ExportError(f"{law}, but got {_short(value)}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
