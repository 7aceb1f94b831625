"""Architectures: the value, a dense network's channel groups, FLOPs, and building."""

from prunenas.architecture.construction import build
from prunenas.architecture.flops import count_flops
from prunenas.architecture.groups import Block, ChannelGroup, FrozenGroup
from prunenas.architecture.inheritance import Slice
from prunenas.architecture.masking import drop, hold, masked
from prunenas.architecture.masks import Granularity, Mask, density_of, pack, unpack, weights_kept
from prunenas.architecture.selection import ChannelSelection
from prunenas.architecture.source import (
    check_source,
    fill_arguments,
    needs_trust,
    own_models,
    timm_input,
    timm_models,
    torchvision_models,
)
from prunenas.architecture.space import Space
from prunenas.architecture.sparsity import masked_weights, with_masks
from prunenas.architecture.tracing import trace
from prunenas.architecture.value import Architecture, Layer

__all__ = [
    "Architecture",
    "Block",
    "ChannelGroup",
    "ChannelSelection",
    "FrozenGroup",
    "Granularity",
    "Layer",
    "Mask",
    "Slice",
    "Space",
    "build",
    "check_source",
    "count_flops",
    "density_of",
    "drop",
    "fill_arguments",
    "hold",
    "masked",
    "masked_weights",
    "needs_trust",
    "own_models",
    "pack",
    "timm_input",
    "timm_models",
    "torchvision_models",
    "trace",
    "unpack",
    "weights_kept",
    "with_masks",
]
