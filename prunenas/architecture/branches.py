"""Residual branches: what can be taken out of a network so that its streams go on without it.

A branch is everything between two points of a stream that reaches the stream again by one addition
alone: the convolutions of a residual block, say. Where both sides of an addition hold layers, the
side with fewer is the shortcut (a transition block's projection), and stays.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_WEIGHTED = ("aten.conv", "aten.linear", "aten.addmm")
_ADDITIONS = ("aten.add.Tensor", "aten.add_.Tensor")


@dataclass(frozen=True, slots=True)
class Branch:
    """A residual branch.

    Attributes:
        name: The block that adds it to its stream, ``block#2`` for a block's second one.
        modules: What makes it, in the order of the forward pass; the last one's output is added.
    """

    name: str
    modules: tuple[str, ...]


def branches(program: Any, network: nn.Module) -> tuple[Branch, ...]:
    """The residual branches of a network, in the order of its exported graph.

    Only those whose modules can be told apart from the rest of the network: no other part of the
    graph reads what they compute or uses their weights, and the last of them makes the summand.
    """
    graph = _Graph(program, network)
    found: dict[str, list[tuple[str, ...]]] = {}
    for node in graph.nodes:
        if str(node.target) in _ADDITIONS:
            modules = graph.branch(node)
            if modules:
                found.setdefault(graph.owner(node), []).append(modules)
    return tuple(
        Branch(block if position == 0 else f"{block}#{position + 1}", modules)
        for block, listed in found.items()
        for position, modules in enumerate(listed)
        if block  # an addition in the network's own forward is no block's
    )


class _Graph:
    """Who computes what from whom; sets of nodes are the bits of an int."""

    def __init__(self, program: Any, network: nn.Module) -> None:
        self._network = network
        self.nodes = _alive(program.graph)
        self._position = {node: index for index, node in enumerate(self.nodes)}
        self._before: list[int] = []  # each node's ancestors and itself
        for index, node in enumerate(self.nodes):
            bits = 1 << index
            for source in node.all_input_nodes:
                if source in self._position:
                    bits |= self._before[self._position[source]]
            self._before.append(bits)
        self._owned: dict[str, int] = {}  # nodes of each module and of those within it
        for index, node in enumerate(self.nodes):
            for module in _stack(node):
                self._owned[module] = self._owned.get(module, 0) | 1 << index

    def owner(self, node: torch.fx.Node) -> str:
        """The innermost module that runs a node."""
        stack = _stack(node)
        return stack[-1] if stack else ""

    def branch(self, addition: torch.fx.Node) -> tuple[str, ...]:
        """The modules of the branch that an addition adds; empty where there is none."""
        sides = [a for a in addition.args[:2] if isinstance(a, torch.fx.Node)]
        if len(sides) < 2 or any(side not in self._position for side in sides):
            return ()
        left, right = (self._before[self._position[side]] for side in sides)
        apart = [(left & ~right, sides[0]), (right & ~left, sides[1])]
        weights = [sum(map(self._weighted, self._listed(bits))) for bits, _ in apart]
        if weights[0] == weights[1]:
            return ()
        bits, summand = apart[weights[0] < weights[1]]
        for node in self._listed(bits):
            for user in node.users:
                inside = user in self._position and bits >> self._position[user] & 1
                if not inside and not (node is summand and user is addition):
                    return ()
        return self._modules(bits, summand, addition)

    def _modules(
        self, bits: int, summand: torch.fx.Node, addition: torch.fx.Node
    ) -> tuple[str, ...]:
        around = set(_stack(addition))
        chosen: list[str] = []
        for node in self._listed(bits):
            stack = [module for module in _stack(node) if module not in around]
            if not stack:
                if self._weighted(node):
                    return ()
                continue  # the block's own code runs on nothing
            # The outermost that lies in the branch as a whole.
            whole = next((m for m in stack if self._owned[m] & ~bits == 0), None)
            if whole is None:
                shared = self._network.get_submodule(stack[-1])
                if next(shared.parameters(), None) is not None:
                    return ()
                continue  # an activation used elsewhere too
            if whole not in chosen:
                chosen.append(whole)
        last = [module for module in _stack(summand) if module in chosen]
        if not last:
            return ()
        chosen.remove(last[0])
        return (*chosen, last[0])

    def _weighted(self, node: torch.fx.Node) -> bool:
        return str(node.target).startswith(_WEIGHTED)

    def _listed(self, bits: int) -> list[torch.fx.Node]:
        return [self.nodes[i] for i in range(bits.bit_length()) if bits >> i & 1]


def _alive(graph: torch.fx.Graph) -> list[torch.fx.Node]:
    """The operators that the network's output depends on: not those that count batches."""
    (output,) = (node for node in graph.nodes if node.op == "output")
    needed = set(output.all_input_nodes)
    for node in reversed(graph.nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    return [node for node in graph.nodes if node in needed and node.op == "call_function"]


def _stack(node: torch.fx.Node) -> list[str]:
    """Names of the modules that run a node, the outermost first, without the network itself."""
    stack: Mapping[str, tuple[str, Any]] = node.meta.get("nn_module_stack") or {}
    return [name for name, _ in stack.values() if name]
