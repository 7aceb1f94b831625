"""Time models without a measurement: the coefficients PruneFL's authors published, and a guess.

Their figures are of local updates on a Raspberry Pi, one of 20 inputs each, of layers in sparse
form. For a network of one's own `prunenas profile` measures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from statistics import median

from prunenas.errors import FederatedError, unknown
from prunenas.federated.time import BYTES_PER_WEIGHT, TimeModel, positive

COMMUNICATION = 5.561621025626998e-06
"""Seconds that one weight takes down and up: 1.44 MB a second. Source: the authors' configs, the
same in all four."""


@dataclass(frozen=True)
class Preset:
    """What was published for one of the paper's networks.

    Attributes:
        network: Which, in words.
        constant: Seconds of one local update of which no weight is kept.
        computation: Seconds of one local update for each weight kept, layer after layer.
        projections: Whether 1×1 convolutions are pruned and have figures.
    """

    network: str
    constant: float
    computation: tuple[float, ...]
    projections: bool = True


_CELEBA = (
    0.0003404870760969184,
    6.0777404652307096e-05,
    1.7590354819798735e-05,
    3.7744218545217262e-06,
    0.0,
)
_RESNET18 = (
    0.0,
    2.340521716080689e-06,
    1.0023681746470196e-05,
    1.056062089141079e-05,
    4.237937059382076e-06,
    5.6712687899939165e-06,
    2.1231460738533592e-06,
    2.3287953360690104e-06,
    6.735456426708777e-07,
    6.624979740735464e-06,
    5.137498356286562e-07,
    1.9743886037025985e-07,
    3.703237561077147e-08,
    9.910993133200227e-07,
    1.4966532573161931e-06,
    7.477319510700925e-07,
    8.722523120339614e-07,
    6.128180224224039e-06,
)
_VGG11 = (
    0.0,
    8.95507e-6,
    2.495288e-6,
    2.780686e-6,
    1.024265e-6,
    1.277773e-6,
    1.843831e-6,
    8.066104e-7,
    5.145334e-7,
    2.430023e-7,
    0.0,
)

PRESETS: Mapping[str, Preset] = {
    "femnist": Preset("Conv-2", 1.2492789765, (0.0, 7.09885e-6, 1.927325e-7, 1.782308e-7)),
    "cifar10": Preset("VGG-11", 17.36990105989628, _VGG11),
    # With one weight kept in each layer the authors measured the constant of these two.
    "celeba": Preset("Conv-4", 1.598415535595268 - sum(_CELEBA), _CELEBA),
    # They leave the three projections on ResNet's shortcuts dense, as plain layers of PyTorch.
    "imagenet100": Preset(
        "ResNet-18", 14.560097051459854 - sum(_RESNET18), _RESNET18, projections=False
    ),
}
"""Source: ``configs/`` of the authors' code, by data set."""

# VGG-11 on 3×32×32: multiply-adds of each convolution's weights for one input, and all weights.
_VGG11_USES = (1024, 256, 64, 64, 16, 16, 4, 4)
_VGG11_WEIGHTS = (
    1_728,
    73_728,
    294_912,
    589_824,
    1_179_648,
    2_359_296,
    2_359_296,
    2_359_296,
    262_144,
    262_144,
    5_120,
)


def preset(
    name: str,
    weights: Mapping[str, Sequence[int]],
    *,
    updates: int = 5,
    bandwidth: float | None = None,
) -> TimeModel:
    """Return the time model that the paper's authors published for one of their networks.

    For ``imagenet100`` 1×1 convolutions are left out, and so are not pruned: ResNet-18 has 21
    convolutions and linear layers, the authors 18 figures, because the projections on its three
    shortcuts stay dense in their code.

    Args:
        name: Of `PRESETS`.
        weights: Shapes of the weights of all convolutions and linear layers, by their names in
            module order. Only their number is compared with the preset's: sizes may differ, as
            they do with the number of classes.
        updates: Local updates of a round, >= 1; the authors' is 5.
        bandwidth: Bytes a second, one way; the authors' 1.44 MB without it.

    Raises:
        FederatedError: There is no such preset, or it is of a network with more or fewer layers;
            ``updates`` or ``bandwidth`` is not positive.
    """
    if name not in PRESETS:
        raise FederatedError(unknown("time model", name, PRESETS))
    found = PRESETS[name]
    names = [
        each
        for each, shape in weights.items()
        if found.projections or not _is_projection(tuple(shape))
    ]
    if len(names) != len(found.computation):
        raise FederatedError(
            f"the time model {name} is {found.network}'s, with {len(found.computation)} layers to "
            f"prune, but this network has {len(names)}; `prunenas profile` measures one for it"
        )
    computation = dict(zip(names, found.computation, strict=True))
    return from_updates(computation, found.constant, updates=updates, bandwidth=bandwidth)


def nominal(
    uses: Mapping[str, int],
    sizes: Mapping[str, int],
    *,
    updates: int = 5,
    bandwidth: float | None = None,
) -> TimeModel:
    """Return a time model by multiply-adds, for networks that nobody measured. [our choice]

    The paper has none such. A kept weight takes time in proportion to its multiply-adds, at the
    rate of the preset ``cifar10``: the median over VGG-11's convolutions of seconds for each
    multiply-add of one input. The constant is the same share of a dense local update as there, 56
    per cent. Layers' order is right, and the size of the figures is a Raspberry Pi's; how much one
    machine favours one layer over another only `prunenas profile` tells.

    Args:
        uses: Multiply-adds of each weight for one input, by the weight's name, >= 0.
        sizes: How many weights there are, kept or not, by the same names.
        updates: Local updates of a round, >= 1.
        bandwidth: Bytes a second, one way; the authors' 1.44 MB without it.

    Raises:
        FederatedError: The names differ, nothing is multiplied, or a number is not positive.
    """
    if set(uses) != set(sizes):
        raise FederatedError(
            f"multiply-adds and sizes must be of the same layers, but are of {len(uses)} and "
            f"{len(sizes)}"
        )
    vgg = PRESETS["cifar10"]
    rate = median(
        seconds / used for seconds, used in zip(vgg.computation, _VGG11_USES, strict=False)
    )
    dense = sum(map(mul, vgg.computation, _VGG11_WEIGHTS))
    computation = {name: rate * used for name, used in uses.items()}
    whole = sum(computation[name] * size for name, size in sizes.items())
    positive("the time of a dense local update", whole)
    constant = vgg.constant / dense * whole
    return from_updates(computation, constant, updates=updates, bandwidth=bandwidth)


def from_updates(
    computation: Mapping[str, float], constant: float, *, updates: int, bandwidth: float | None
) -> TimeModel:
    """Return the time model of a round of local updates.

    Args:
        computation: Seconds of one local update for each weight kept, by its name, >= 0.
        constant: Seconds of one local update that no mask changes, > 0.
        updates: Of a round, >= 1.
        bandwidth: Bytes a second, one way; the authors' 1.44 MB without it.

    Raises:
        FederatedError: ``updates``, ``bandwidth`` or a time is not what it must be.
    """
    positive("the number of local updates", updates)
    byte = COMMUNICATION / BYTES_PER_WEIGHT
    if bandwidth is not None:
        byte = 1 / positive("a bandwidth in bytes a second", bandwidth)
    layers = {
        name: BYTES_PER_WEIGHT * byte + updates * seconds for name, seconds in computation.items()
    }
    return TimeModel(updates * constant, layers, byte)


def _is_projection(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[2:] == (1, 1)
