"""The value in the middle: an architecture is a constructor plus the sizes of its layers."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

from prunenas.errors import ExportError

LAYER_FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "conv": ("in_channels", "out_channels", "groups"),
        "linear": ("in_features", "out_features"),
        "norm": ("features",),
    }
)
"""The sizes each kind of layer records, in order."""

MAX_SIZE = 1 << 20
"""No layer of a real network is wider; a bound on what a damaged file can make us allocate."""

MAX_LAYERS = 100_000


@dataclass(frozen=True, slots=True)
class Layer:
    """The sizes of one convolution, linear or normalisation layer.

    Attributes:
        name: Its name in ``network.named_modules()``; None when the constructor makes and
            discards it.
        kind: ``"conv"``, ``"linear"`` or ``"norm"``.
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
        flops: Fused multiply-adds of one input in convolutions, linear layers and matrix products.
        params: Number of trainable parameters.
        tensors: Shapes of parameters and buffers that no layer holds but that follow a channel
            group (ConvNeXt's layer scales), by name.
    """

    source: str
    arguments: Mapping[str, Any]
    input_shape: tuple[int, ...]
    widths: Mapping[str, int]
    layers: tuple[Layer, ...]
    flops: int
    params: int
    tensors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("arguments", "widths", "tensors"):  # a copy nobody else holds, and read-only
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal characters of the SHA-256 of everything but ``flops`` and ``params``."""
        plain = self.to_dict()
        del plain["flops"], plain["params"]
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[Any, ...]:
        return Architecture.from_dict, (self.to_dict(),)  # mapping proxies can't be pickled

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON or YAML; layers are ``[name, kind, size, ...]``."""
        return {
            "source": self.source,
            "arguments": dict(self.arguments),
            "input_shape": list(self.input_shape),
            "widths": dict(self.widths),
            "layers": [[layer.name, layer.kind, *layer.sizes] for layer in self.layers],
            "flops": self.flops,
            "params": self.params,
            # Left out where there are none, so that digests from before there were any hold.
            **({"tensors": {k: list(v) for k, v in self.tensors.items()}} if self.tensors else {}),
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
        if keys != set(plain) - {"tensors"}:
            missing, extra = (
                sorted(keys - set(plain)),
                sorted(map(str, set(plain) - keys - {"tensors"})),
            )
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
        return cls(
            source=plain["source"],
            arguments=arguments,
            input_shape=tuple(shape),
            widths=widths,
            layers=tuple(_layer(row) for row in layers),
            flops=plain["flops"],
            params=plain["params"],
            tensors=_tensors(plain.get("tensors", {})),
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


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SIZE


def _must(holds: bool, law: str, value: Any) -> None:
    if not holds:
        raise ExportError(f"{law}, but got {_short(value)}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
