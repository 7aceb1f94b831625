"""From a constructor to its space: record the layers, follow the channels, prove the result.

What was found is tried out before it is believed: the network is built at other widths (without
memory) and run, forward in training mode, and its multiply-adds are counted. A group that does not
survive this, because the forward pass writes out a size, is frozen with the reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from prunenas.architecture.assembly import Assembly
from prunenas.architecture.branches import Branch, branches
from prunenas.architecture.channels import Channels
from prunenas.architecture.construction import Construction, construct
from prunenas.architecture.graph import BATCH, Walk, export, follow
from prunenas.architecture.groups import Block
from prunenas.architecture.proof import Trial, suspects
from prunenas.architecture.rules import apply
from prunenas.architecture.shapes import Shapes
from prunenas.architecture.source import Constructor, constructor
from prunenas.architecture.space import Space
from prunenas.architecture.tensors import loose_tensors
from prunenas.errors import SourceError, TraceError


def trace(
    source: str,
    *,
    arguments: Mapping[str, Any] | None = None,
    input_shape: Sequence[int],
) -> Space:
    """Find the channel groups of a dense network.

    Args:
        source: The network's constructor; see ``source``.
        arguments: The constructor's keyword arguments, JSON values.
        input_shape: ``(C, H, W)`` of one input, without the batch.

    Returns:
        Its space: groups, closed-form FLOPs, architectures.

    Raises:
        SourceError: The source is unknown or its constructor refuses the arguments.
        TraceError: The network can't be traced or has no channels that can vary.
    """
    arguments, shape = dict(arguments or {}), tuple(input_shape)
    make = constructor(source)
    dense, device = _record(make, arguments)
    walk, residual = _walk(dense, shape)
    found = Assembly(source, arguments, shape, dense, walk)
    trial = Trial(make, device, dense, found.findings.sizings())
    refused: dict[str, str] = {}
    space = found.space(refused)
    checks = (trial.fails, trial.fails_at_narrowest, trial.cuts_elsewhere, trial.miscounts)
    for refuses in checks:
        if refuses(space, [group.name for group in space.groups]) is None:
            continue
        assumed = found.findings.assumed()
        refused |= suspects(refuses, space, assumed)
        space = found.space(refused)
        reason = refuses(space, [group.name for group in space.groups])
        if reason is not None:  # some fail together only: those of which something was assumed
            refused = dict.fromkeys(assumed, reason) | refused
            space = found.space(refused)
            reason = refuses(space, [group.name for group in space.groups])
        if reason is not None:
            raise TraceError(f"{source}: {reason}")
    if not space.groups:
        reasons = sorted({group.reason for group in space.frozen})
        raise TraceError(f"{source} has no channels that can vary: {'; '.join(reasons)[:300]}")
    return _with_blocks(space, residual, trial)


def _with_blocks(space: Space, residual: Sequence[Branch], trial: Trial) -> Space:
    """The space, with those of its residual branches that it runs without."""
    blocks = tuple(Block(branch.name, branch.modules, 0) for branch in residual)
    whole = replace(space, blocks=blocks)

    def costs(names: Sequence[str]) -> int:
        return space.dense.flops - whole.without(names).dense.flops

    names = [block.name for block in blocks]
    for refuses in (trial.needs, trial.needs_count):
        if names and refuses(whole.without(names)) is not None:
            names = [name for name in names if refuses(whole.without([name])) is None]
    return replace(
        space,
        blocks=tuple(
            replace(block, flops=costs([block.name])) for block in blocks if block.name in names
        ),
    )


def _record(make: Constructor, arguments: Mapping[str, Any]) -> tuple[Construction, str | None]:
    """The dense network without memory; with it where the constructor reads its weights' values."""
    try:
        return construct(make, arguments, device="meta"), "meta"
    except SourceError as error:
        try:
            return construct(make, arguments), None
        except SourceError as real:
            raise real from error


def _walk(dense: Construction, shape: tuple[int, ...]) -> tuple[Walk, tuple[Branch, ...]]:
    recorded = {layer.name: layer for layer in dense.layers if layer.name is not None}
    loose = loose_tensors(dense.network, recorded)
    network = dense.network.to("meta")
    own = {id(module): name for name, module in network.named_modules()}
    layers = {
        name: recorded[own[id(module)]]
        for name, module in network.named_modules(remove_duplicate=False)
        if own[id(module)] in recorded
    }
    walk = Walk(Channels(), layers)
    for name, tensor in loose.items():
        walk.tensors[name] = tuple(
            None if size is None else walk.channels.loose(size) for size in tensor.sizes
        )
        if tensor.why is not None:
            walk.fixed[name] = tensor.why
    program = export(network, shape, train=True)
    follow(program, walk, apply)
    residual = branches(program, network)
    if _multiplications(network, shape, train=True) != _multiplications(
        network, shape, train=False
    ):  # auxiliary heads, say: inference is what counts, the groups of both must hold
        walk.products.clear()
        walk.train = False
        follow(export(network, shape, train=False), walk, apply)
    return walk, residual


def _multiplications(network: nn.Module, shape: tuple[int, ...], *, train: bool) -> Any:
    """Multiplications of every module by torch's own counter, on the meta device."""
    network.train(train)
    # Gradients stay on: without them the counter stumbles over views of parameters.
    with torch.enable_grad(), Shapes(), FlopCounterMode(display=False) as counter:
        network(torch.empty((BATCH, *shape), device="meta"))
    return counter.get_flop_counts()
