"""Taking a residual branch out of a network: what made it becomes nothing, the stream goes on."""

from collections.abc import Sequence

from torch import Tensor, nn

from prunenas.errors import SourceError


class Nothing(nn.Module):
    """Stands where a removed branch had a module; its answer is zero, without a shape."""

    def forward(self, first: Tensor, *others: object, **named: object) -> Tensor:
        """Whatever comes in, a zero of its kind comes out, shape ``()``."""
        del others, named
        return first.new_zeros(())


class Joint(nn.Module):
    """Stands where a removed branch met its stream: a plain 0.0, which any addition takes.

    A tensor without a shape would not do: ``branch += stream`` can't change it in place.
    """

    def forward(self, *_: object, **__: object) -> float:
        """0.0, whatever comes in."""
        return 0.0


def remove(network: nn.Module, modules: Sequence[str]) -> None:
    """Take the modules of one residual branch out of a network, in place.

    The rest of the forward pass is the network's own: with 0 for the branch a plain block passes
    its stream on, and one with a projection passes the projection on.

    Args:
        network: Any network.
        modules: Names of the branch's modules in the order of the forward pass; the last one's
            output is what is added to the stream.

    Raises:
        SourceError: The network has no module of such a name.
    """
    for name in modules:
        parent, _, last = name.rpartition(".")
        try:
            network.get_submodule(name)
        except AttributeError as error:
            raise SourceError(
                f"a removed branch's modules must be the network's, but it has no {name!r}"
            ) from error
        setattr(network.get_submodule(parent), last, Joint() if name == modules[-1] else Nothing())
