"""What a server has come to: a validation, and the whole training; wherever its clients are."""

from torch import nn

from prunenas.federated.history import FederatedRun, History, Point
from prunenas.federated.server import Server
from prunenas.federated.setting import Setting
from prunenas.training import evaluate


def validated(server: Server, network: nn.Module, setting: Setting, history: History) -> Point:
    """Return how good a server's network is, on the validation split.

    Args:
        server: Between two rounds.
        network: Of the setting; takes the server's weights.
        setting: Data and device.
        history: All rounds so far.
    """
    network.load_state_dict(server.network_state(), strict=False)
    metrics = evaluate(network, setting.data.validation, device=setting.device)
    return Point(
        round=server.round,
        seconds=history.seconds,
        accuracy=metrics.accuracy,
        loss=metrics.loss,
        density=server.packing.density,
        sent=history.sent,
        received=history.received,
    )


def ended(server: Server, history: History, *, stopped: bool = False) -> FederatedRun:
    """Return what a training came to.

    Args:
        server: After its last round.
        history: All rounds and validations.
        stopped: Whether it was ended early on purpose.
    """
    return FederatedRun(
        history=history,
        mask_digest=server.packing.digest,
        masks=server.masks,
        weights={name: each.cpu() for name, each in server.network_state().items()},
        stopped=stopped,
    )
