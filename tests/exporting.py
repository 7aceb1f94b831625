"""What tests of exports share: one fresh process for all, and small networks to write."""

import atexit
import functools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prunenas.architecture import Architecture, Space, build, count_flops, trace
from prunenas.architecture.construction import construct
from prunenas.architecture.source import constructor
from prunenas.export import Verifier, write_export

TRAINING: dict[str, Any] = {
    "data": {"name": "digits"},
    "recipe": {"epochs": 4, "lr": 0.1},
    "seed": 7,
    "epochs": 4,
    "train_images": 1150,
    "validation": {"accuracy": 0.9375, "n": 287},
    "test": {"accuracy": 0.925, "n": 360},
    "protocol": "scratch_e",
    "versions": {"torch": torch.__version__},
    "finished": "2026-01-02T03:04:05+00:00",
}

# Stands for an environment without prunenas: the import fails as if it were not installed.
WITHOUT_PRUNENAS = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("prunenas", "safetensors", "fvcore", "mlflow", "optuna"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


@functools.cache
def verifier() -> Verifier:
    """One process for the whole session; starting one takes seconds."""
    shared = Verifier()
    atexit.register(shared.close)
    return shared


@functools.cache
def space(source: str = "vgg_mini", *shape: int) -> Space:
    """A traced network; on digits' pictures where no shape is given."""
    return trace(source, input_shape=shape or (1, 8, 8))


def recorded(source: str, *shape: int, **arguments: Any) -> Architecture:
    """The dense architecture as its constructor makes it, without the time that tracing takes."""
    layers = construct(constructor(source), arguments).layers
    return counted(Architecture(source, arguments, shape, {}, layers, 0, 0))


def counted(architecture: Architecture) -> Architecture:
    """With the figures that its network has."""
    network = build(architecture, trust=True)
    return replace(
        architecture,
        flops=count_flops(network, architecture.input_shape),
        params=sum(each.numel() for each in network.parameters()),
    )


def selecting() -> Architecture:
    """A network whose first selection layer passes on the last three channels of its stream."""
    dense = recorded("densenet40", 3, 8, 8)
    layers = list(dense.layers)
    place = next(i for i, layer in enumerate(layers) if layer.kind == "select")
    name, channels = layers[place].name, layers[place].sizes[0]
    assert name is not None
    layers[place] = replace(layers[place], sizes=(channels, 3))
    # What reads the selection follows it, with a normalisation between them or none.
    after = [i for i in range(place + 1, place + 3) if layers[i].sizes[0] == channels]
    for i in after:
        layers[i] = replace(layers[i], sizes=(3, *layers[i].sizes[1:]))
        if layers[i].kind == "conv":
            break
    chosen = {name: (channels - 3, channels - 2, channels - 1)}
    return counted(replace(dense, layers=tuple(layers), selections=chosen))


def trained(architecture: Architecture, seed: int = 1) -> dict[str, Tensor]:
    """A state whose running statistics have moved, as training moves them."""
    network = build(architecture, seed=seed, trust=True)
    network(images(architecture, 16))
    return network.state_dict()


def images(architecture: Architecture, count: int = 4) -> Tensor:
    """A batch that the architecture takes."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, *architecture.input_shape, generator=generator)


def export(folder: Path, architecture: Architecture, **changes: Any) -> Path:
    """Write an export as the command line does."""
    settings: dict[str, Any] = {
        "dense_flops": 2 * architecture.flops,
        "provenance": {"study": "demo"},
        "verifier": verifier(),
    }
    return write_export(folder, architecture, **settings | changes)


def without_prunenas(code: str, *arguments: object, cwd: Path) -> str:
    """What a script prints in a process that has torch and torchvision alone."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PRUNENAS + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
