"""What each ATen operator does to the channels: a table of small functions.

A rule gets the operator's arguments by name (tensors as ``Value``), the shape of each output, and
the walk it may write into; it returns the axes of the output, or a list of them. An operator
without a rule is never taken for element-wise: the channels that go in are frozen, with the
operator and its layer as the reason.
"""

import operator
from collections.abc import Mapping
from typing import Any

import torch

from prunenas.architecture.graph import BATCH, Value, Walk
from prunenas.architecture.rules._base import Arguments, Rule, opaque, operands, settled
from prunenas.architecture.rules.cuts import cut, glu
from prunenas.architecture.rules.elementwise import new, pointwise, same
from prunenas.architecture.rules.layers import convolution, layer_norm, linear, norm, prelu
from prunenas.architecture.rules.products import addmm, attention, matmul
from prunenas.architecture.rules.selection import index_select
from prunenas.architecture.rules.shapes import (
    cat,
    expand,
    moved,
    pad,
    permute,
    pixel_shuffle,
    pixel_unshuffle,
    pool,
    reduce,
    repeat,
    reshape,
    select,
    squeeze,
    stack,
)


def apply(node: torch.fx.Node, values: Mapping[torch.fx.Node, Any], walk: Walk) -> Any:
    """The value or list of values that an operator returns, by its rule."""
    if node.target is operator.getitem:
        source, index = node.args[0], node.args[1]
        assert isinstance(source, torch.fx.Node)
        found = values[source]
        return found[index] if isinstance(found, list) and isinstance(index, int) else None
    example: Any = node.meta.get("val")
    many = isinstance(example, (list, tuple))
    outputs = [e for e in (example if many else [example]) if isinstance(e, torch.Tensor)]
    shapes = [tuple(output.shape) for output in outputs]
    if not shapes:
        return None
    schema = getattr(node.target, "_schema", None)
    given = torch.fx.node.map_arg((node.args, node.kwargs), lambda n: values[n])
    if schema is None:
        arguments: Arguments = {str(i): value for i, value in enumerate(given[0])}
        rule: Rule = opaque
    else:
        names = [argument.name for argument in schema.arguments]
        defaults = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
        arguments = {**defaults, **dict(zip(names, given[0], strict=False)), **given[1]}
        name = schema.name.removeprefix("aten::").rstrip("_")
        # torch.max(a, b) shares its name with the maximum over an axis.
        rule = pointwise if schema.overload_name == "other" else RULES.get(name, opaque)
        if rule is opaque and torch.Tag.pointwise in getattr(node.target, "tags", ()):
            rule = pointwise
    if rule not in _LOOSE:
        arguments = {name: settled(value, walk, node) for name, value in arguments.items()}
    batched = any(value.batched for value in operands(arguments)) or (
        rule in (new, expand, repeat) and shapes[0][:1] == (BATCH,)
    )
    known = len(walk.products)
    sources = operands(arguments)
    origin = sources[0].origin if len(sources) == 1 else None
    axes = rule(arguments, shapes, walk, node)
    for product in walk.products[known:]:
        product.module = walk.module(node) or ""
    if many:
        listed = axes if isinstance(axes, list) else [axes] * len(shapes)
        return [
            Value(shape, axis, batched=batched, origin=origin)
            for shape, axis in zip(shapes, listed, strict=True)
        ]
    assert isinstance(axes, tuple)
    return Value(shapes[0], axes, batched=batched, origin=origin)


def _table() -> dict[str, Rule]:
    groups: list[tuple[Rule, str]] = [
        (convolution, "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"),
        (linear, "linear"),
        (norm, "batch_norm instance_norm group_norm"),
        (layer_norm, "layer_norm rms_norm"),
        (prelu, "prelu _prelu_kernel"),
        (cat, "cat concat concatenate"),
        (reshape, "view reshape _unsafe_view flatten unflatten unsqueeze view_as reshape_as"),
        (squeeze, "squeeze"),
        (permute, "permute transpose swapaxes swapdims movedim moveaxis t numpy_T mT"),
        (
            reduce,
            "mean sum amax amin prod var std var_mean std_mean norm linalg_vector_norm max min "
            "logsumexp argmax argmin median any all",
        ),
        (
            pool,
            "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d lp_pool2d "
            "max_pool2d_with_indices adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
            "adaptive_max_pool2d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d "
            "upsample_nearest1d upsample_linear1d upsample_nearest3d upsample_trilinear3d "
            "_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d "
            "_upsample_bilinear2d_aa _upsample_bicubic2d_aa lp_pool3d "
            "adaptive_max_pool1d adaptive_max_pool3d reflection_pad2d replication_pad2d",
        ),
        (pad, "pad constant_pad_nd"),
        (
            cut,
            "slice narrow chunk split split_with_sizes tensor_split unsafe_chunk unsafe_split "
            "unsafe_split_with_sizes",
        ),
        (glu, "glu"),
        (select, "select unbind"),
        (expand, "expand expand_as broadcast_to"),
        (matmul, "matmul bmm mm"),
        (addmm, "addmm baddbmm"),
        (attention, "scaled_dot_product_attention"),
        (moved, "flip roll"),
        (index_select, "index_select"),
        (stack, "stack"),
        (repeat, "repeat tile"),
        (pixel_shuffle, "pixel_shuffle"),
        (pixel_unshuffle, "pixel_unshuffle"),
        (pointwise, "copy log_sigmoid"),
        (
            same,
            "dropout feature_dropout alpha_dropout feature_alpha_dropout softmax log_softmax "
            "contiguous clone detach alias lift_fresh_copy hardswish hardsigmoid hardtanh "
            "bernoulli zeros_like ones_like empty_like rand_like randn_like full_like to "
            "type_as float celu selu elu cumsum uniform normal fill zero",
        ),
        (
            new,
            "empty zeros ones full rand randn arange scalar_tensor bernoulli_like eye "
            "new_empty new_zeros new_ones new_full",
        ),
    ]
    return {name: rule for rule, names in groups for name in names.split()}


_LOOSE: frozenset[Rule] = frozenset(
    {pointwise, same, cat, stack, reshape, squeeze, permute, expand, cut, select, norm, layer_norm}
    | {prelu}
)
"""Rules after which a parameter that no layer holds may still meet channels; see ``tensors``."""

RULES: Mapping[str, Rule] = _table()
"""From operator name (without ``aten::`` and the ``_`` of in-place forms) to its rule."""
