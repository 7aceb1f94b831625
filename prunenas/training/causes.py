"""Everything a training's figures depend on: what its result is stored under."""

import hashlib
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from prunenas.architecture import Architecture
from prunenas.data import Data
from prunenas.training.precision import Numerics
from prunenas.training.recipe import Recipe
from prunenas.version import __version__

_ROOMS = ("architecture", "data", "models", "training")


def causes(
    architecture: Architecture,
    data: Data,
    recipe: Recipe,
    *,
    epochs: int,
    seed: int,
    device: torch.device | str,
    rooms: tuple[str, ...] = (),
) -> dict[str, Any]:
    """JSON values; two trainings with the same ones give the same figures.

    To the last bit on the same machine; another one of that kind sums in another order, and its
    results are taken all the same.

    Args:
        architecture: Of the network, which starts from the weights that ``seed`` gives it.
        data: Their digest holds identity, split and limits.
        recipe: What it says of retraining protocols has come to ``epochs`` and is left out.
        epochs: Length of the training.
        seed: Of weights, batch order, augmentation and dropout.
        device: Where; only its kind and arithmetic count, not its number.
        rooms: Rooms of the package whose code counts too.

    Raises:
        TrainingError: The device can't compute in the recipe's precision.
    """
    numerics = Numerics.choose(
        device, precision=recipe.precision, memory_format=recipe.memory_format
    )
    settled = {"protocol", "scratch_b_cap", "epochs", "precision", "memory_format"}
    settled |= {"initial", "rewind_epochs"}  # a job says itself what it begins with
    return {
        "architecture": architecture.digest,
        "data": data.digest,
        "recipe": recipe.model_dump(mode="json", exclude=settled),
        "epochs": epochs,
        "seed": seed,
        "numerics": numerics.to_dict(),
        # Threads share a sum, and with their number its order changes.
        "threads": torch.get_num_threads() if numerics.device.type == "cpu" else None,
        "versions": versions(architecture.source),
        "code": own_code((*_ROOMS, *rooms)),
        "source": users_code(architecture.source),
    }


def versions(source: str) -> dict[str, str]:
    """Versions of the package, of torch, and of the library that a source's network is from."""
    library = source.partition("/")[0]
    of_model = {library: version(library)} if library in ("torchvision", "timm") else {}
    return {"prunenas": __version__, "torch": torch.__version__, **of_model}


@cache
def own_code(rooms: tuple[str, ...]) -> str:
    """Digest of the package's code that decides figures: a version stands still while it's edited.

    >>> own_code(("training",)) != own_code(("training", "data"))
    True
    """
    home = Path(__file__).parents[1]
    return _digest(home, (path for room in rooms for path in (home / room).rglob("*.py")))


@cache  # once a process: modules that are imported later must not rename what is stored
def users_code(source: str) -> str | None:
    """Digest of a user's own modules that a source comes from; None for a library's network.

    These are the loaded modules of its package; for a module outside of packages, those that lie
    in the same folder or below.
    """
    if ":" not in source:
        return None
    name = source.partition(":")[0].partition(".")[0]
    top = sys.modules.get(name)
    if top is None or not getattr(top, "__file__", None):
        return None
    home = Path(str(top.__file__)).resolve().parent
    return _digest(home, _loaded(home))


def _loaded(home: Path) -> Iterator[Path]:
    for module in tuple(sys.modules.values()):
        file = getattr(module, "__file__", None)
        path = Path(file if isinstance(file, str) else "/").resolve()
        # A virtual environment beside a user's module is no part of it.
        inside = path.relative_to(home).parts if path.is_relative_to(home) else None
        if inside and "site-packages" not in inside and path.is_file():
            yield path


def _digest(home: Path, paths: Iterable[Path]) -> str:
    content = hashlib.sha256()
    for path in sorted(set(paths)):
        code = path.read_bytes()
        content.update(f"{path.relative_to(home).as_posix()} {len(code)}\n".encode())
        content.update(code)
    return content.hexdigest()
