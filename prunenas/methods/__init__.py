"""Pruning methods: dense network in, architecture out.

A method is one file here and one line in `METHODS`; the conformance tests
(``tests/test_methods_conformance.py``) pick it up from there.
"""

from prunenas.methods._base import Derivation, Inheritance, Method, groups_of
from prunenas.methods._densities import sparse_flops
from prunenas.methods._positions import mean as mean_maps
from prunenas.methods._positions import survival as survival_maps
from prunenas.methods.channel_regression import ChannelRegression
from prunenas.methods.dense import Dense, Trained
from prunenas.methods.drop_pruning import DropPruning
from prunenas.methods.fpgm import FPGM
from prunenas.methods.gibbs import Gibbs
from prunenas.methods.group_norm import GroupNorm
from prunenas.methods.guided_sparse import GuidedSparse
from prunenas.methods.l1_norm import L1Norm
from prunenas.methods.magnitude import Magnitude
from prunenas.methods.netadapt import NetAdapt
from prunenas.methods.network_slimming import NetworkSlimming
from prunenas.methods.prunefl import PruneFL
from prunenas.methods.random import Random
from prunenas.methods.random_sparse import RandomSparse
from prunenas.methods.soft_filter_pruning import SoftFilterPruning
from prunenas.methods.sparse_structure import SparseStructure
from prunenas.methods.taylor import Taylor
from prunenas.methods.thinet import ThiNet
from prunenas.methods.trainable_gates import TrainableGates
from prunenas.methods.uniform import Uniform

METHODS: dict[str, type[Method]] = {
    "uniform": Uniform,
    "random": Random,
    "l1_norm": L1Norm,
    "fpgm": FPGM,
    "thinet": ThiNet,
    "channel_regression": ChannelRegression,
    "network_slimming": NetworkSlimming,
    "soft_filter_pruning": SoftFilterPruning,
    "sparse_structure": SparseStructure,
    "trainable_gates": TrainableGates,
    "taylor": Taylor,
    "group_norm": GroupNorm,
    "netadapt": NetAdapt,
    "magnitude": Magnitude,
    "random_sparse": RandomSparse,
    "guided_sparse": GuidedSparse,
    "gibbs": Gibbs,
    "drop_pruning": DropPruning,
    "prunefl": PruneFL,
}
"""Every method by its name in study files."""

__all__ = [
    "METHODS",
    "Dense",
    "Derivation",
    "Inheritance",
    "Method",
    "Trained",
    "groups_of",
    "mean_maps",
    "sparse_flops",
    "survival_maps",
]
