"""How much accuracy does dropping most weights cost? Drop pruning, magnitude, and their masks.

For each seed a dense network is trained; it is trained on, unpruned, for as long as the others are
(the fair comparison); its smallest weights are dropped at once and the rest is trained on; and drop
pruning drops them bit by bit. All but the first get the same number of further epochs at the same
rate. Drop pruning's mask is then trained from scratch: from fresh weights, from the dense network's
original ones, and from those of its second epoch. Test accuracy, read once for each network;
differences are paired by seed, with the p of a paired t-test::

    OMP_NUM_THREADS=1 python tests/sparsity_bench.py lenet5 vgg16_narrow
"""

import argparse
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

from scipy.stats import ttest_1samp
from torch import Tensor, nn

from prunenas.architecture import Architecture, build, trace
from prunenas.architecture.masking import put_on
from prunenas.cache import Cache
from prunenas.data import Data, load
from prunenas.methods import METHODS, Dense
from prunenas.models.vgg import VGG, VGG16
from prunenas.training import Recipe, evaluate
from prunenas.training.shared import Trainings
from prunenas.trial import job_of

ROWS = {
    "dense": "dense network",
    "dense_on": "dense network, trained on",
    "magnitude": "`magnitude`, one shot, trained on",
    "drop_pruning": "`drop_pruning`",
    "drop_zero": "`drop_pruning`, `restore: zero`",
    "fresh": "its mask, from scratch",
    "original": "its mask, original weights",
    "rewound": "its mask, rewound to epoch 2",
}


def vgg16_narrow(num_classes: int = 10, in_channels: int = 1) -> VGG:
    """VGG-16's thirteen convolutions with a quarter of its channels, and one linear layer."""
    plan = tuple(width if isinstance(width, str) else width // 4 for width in VGG16)
    return VGG(
        plan, num_classes, in_channels, batch_norm=True, gamma=1.0, hidden=0, linear_std=None
    )


@dataclass(frozen=True)
class Setting:
    """What is trained on what, and how much is dropped.

    Attributes:
        source: The dense network's constructor.
        data: Name of the data set.
        images: Training images.
        density: Share of the weights of convolutions and linear layers that is left.
        recipe: Of the dense network, and of training from scratch.
        steps: Of drop pruning, an epoch after each but the last.
        finish: Epochs after the last.
        lr: Of all training after the dense network's.
    """

    source: str
    data: str
    images: int
    density: float
    recipe: Recipe
    steps: int
    finish: int
    lr: float

    @property
    def further(self) -> int:
        """Epochs of training after the dense network's."""
        return self.steps - 1 + self.finish


SETTINGS = {
    "lenet5": Setting(
        source="lenet5",
        data="mnist5k",
        images=3600,
        density=1 / 14.3,
        recipe=Recipe(epochs=20, batch_size=64, lr=0.02, schedule="one_cycle", augment=False),
        steps=20,
        finish=10,
        lr=0.01,
    ),
    "vgg16_narrow": Setting(
        source=f"{Path(__file__).stem}:vgg16_narrow",
        data="fashion_mnist",
        images=5000,
        density=1 / 11.1,
        recipe=Recipe(epochs=10, batch_size=128, lr=0.1, schedule="one_cycle", augment=False),
        steps=10,
        finish=6,
        lr=0.01,
    ),
}


def measure(setting: Setting, seed: int, cache: Cache) -> dict[str, float]:
    """Return the test accuracy of each row for one seed, and the densities that came out."""
    data = load(setting.data, validation=0.1, train_limit=setting.images)
    space = trace(setting.source, input_shape=data.input_shape)
    dense = Dense(space, data, setting.recipe, cache, seed=seed)
    shared = {"density": setting.density, "layers": "all"}
    magnitude = METHODS["magnitude"].model_validate({**shared, "scope": "global"})
    dropping = METHODS["drop_pruning"].model_validate(
        {
            **shared,
            "scope": "global",
            "steps": setting.steps,
            "finish_epochs": setting.finish,
            "lr": setting.lr,
        }
    )
    trained = dense.state()
    one_shot = magnitude.derive(dense)
    stored = dropping.derive(dense, seed=seed)
    zero = dropping.model_copy(update={"restore": "zero"}).derive(dense, seed=seed)
    found = {
        "dense": tested(space.dense, trained, data),
        "dense_on": tested(space.dense, trained_on(setting, dense, space.dense, trained), data),
        "magnitude": tested(
            one_shot.architecture,
            trained_on(setting, dense, one_shot.architecture, weights_of(one_shot.weights())),
            data,
        ),
        "drop_pruning": tested(stored.architecture, weights_of(stored.weights()), data),
        "drop_zero": tested(zero.architecture, weights_of(zero.weights()), data),
    }
    for initial in ("fresh", "original", "rewound"):
        recipe = setting.recipe.model_copy(update={"initial": initial, "rewind_epochs": 2})
        job = job_of(
            stored.architecture,
            replace(dense, recipe=recipe),
            epochs=setting.recipe.epochs,
            seed=seed + 1000,  # of batch order too: no ticket gets the dense network's own
        )
        training = Trainings(cache).train(job, trial=0)
        found[initial] = tested(stored.architecture, weights_of(training.weights), data)
    found["density"] = stored.architecture.density
    found["surviving_flops"] = stored.architecture.flops / space.dense.flops
    return found


def trained_on(
    setting: Setting, dense: Dense, architecture: Architecture, weights: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return weights after as much further training as drop pruning does."""

    def prepare(network: nn.Module) -> None:
        network.load_state_dict(weights)
        put_on(network, {name: mask.tensor() for name, mask in architecture.masks.items()})

    recipe = setting.recipe.model_copy(
        update={"epochs": setting.further, "lr": setting.lr, "schedule": "constant"}
    )
    key = {"trained on": architecture.digest, "dense": dense.recipe.model_dump(mode="json")}
    return replace(dense, recipe=recipe).train(prepare=prepare, key=key, what="further").state


def tested(architecture: Architecture, weights: dict[str, Tensor], data: Data) -> float:
    """Return a network's accuracy on the test split."""
    network = build(architecture, trust=True)
    network.load_state_dict(weights)
    return evaluate(network, data.test).accuracy


def weights_of(weights: dict[str, Tensor] | None) -> dict[str, Tensor]:
    """Return weights that are there."""
    assert weights is not None
    return weights


def table(found: list[dict[str, float]]) -> str:
    """Return the rows: mean ± standard deviation over seeds, and paired differences."""
    lines = [
        "| network | test accuracy | less the dense network | less the dense one, trained on |",
        "|---|---|---|---|",
    ]
    for row, title in ROWS.items():
        values = [each[row] for each in found]
        cells = [title, f"{fmean(values):.4f} ± {stdev(values):.4f}"]
        for base in ("dense", "dense_on"):
            less = [each[row] - each[base] for each in found]
            p = float(ttest_1samp(less, 0.0).pvalue) if row != base else 1.0
            told = f"{fmean(less):+.4f} ± {stdev(less):.4f}, p = {p:.2g}"
            cells.append(told if row not in ("dense", base) else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table for each network; figures of each seed as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("networks", nargs="+", choices=SETTINGS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cache", type=Path, help="keep trainings there, to go on later")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(chosen.cache or Path(folder))
        for name in chosen.networks:
            found = []
            for seed in range(chosen.seeds):
                found.append(measure(SETTINGS[name], seed, cache))
                print(json.dumps({"network": name, "seed": seed, **found[-1]}), flush=True)
            print(f"\n{name}, n = {len(found)}\n\n{table(found)}\n", flush=True)


if __name__ == "__main__":
    main()
