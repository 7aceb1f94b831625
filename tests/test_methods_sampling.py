"""Which images are sampled, and that memory stays within its bound."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from methods_networks import dense, digits
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from prunenas.architecture import Slice
from prunenas.errors import MethodError
from prunenas.methods._front_to_back import trained
from prunenas.methods._least_squares import solve, spectrum
from prunenas.methods._reading import Reader, readers
from prunenas.methods._reconstruction import targets
from prunenas.methods._sampling import Sample, batch_size, draw, draw_distinct
from prunenas.methods.channel_regression import choose
from prunenas.methods.thinet import sampled_grams


class Counted:
    """A split of synthetic images that counts how often it is read, and makes each batch anew."""

    def __init__(self, count: int, shape: tuple[int, ...]) -> None:
        self.count, self.shape, self.passes = count, shape, 0

    def __len__(self) -> int:
        return self.count

    def batches(
        self, batch_size: int, *, seed: int | None = None, epoch: int = 0, augment: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        del epoch, augment
        self.passes += 1
        random = torch.Generator().manual_seed(seed or 0)
        for start in range(0, self.count, batch_size):
            size = min(batch_size, self.count - start)
            yield (
                torch.randn(size, *self.shape, generator=random),
                torch.randint(3, (size,), generator=random),
            )


class Live(TorchDispatchMode):
    """Counts the bytes of tensors that operators made and that are still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, tuple[int, int]] = {}  # address: bytes, tensors that share it

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor):
                self._add(tensor)
        return made

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        size, shared = self._known.get(address, (storage.nbytes(), 0))
        self._known[address] = (size, shared + 1)
        if not shared:
            self.now += size
            self.peak = max(self.peak, self.now)
        weakref.finalize(tensor, self._remove, address)

    def _remove(self, address: int) -> None:
        size, shared = self._known[address]
        if shared == 1:
            del self._known[address]
            self.now -= size
        else:
            self._known[address] = (size, shared - 1)


def test_as_many_of_each_class_as_asked_and_always_the_same() -> None:
    split = digits().train
    sample = Sample(split, 30, 3, seed=1)
    first = torch.cat(list(sample.batches(7)))
    assert first.shape == (30, 1, 8, 8)
    assert torch.equal(first, torch.cat(list(sample.batches(30))))
    everything, labels = next(split.batches(1000))
    found = [
        int(labels[(everything == image).flatten(1).all(dim=1).nonzero()[0, 0]]) for image in first
    ]
    assert sorted(found) == sorted(list(range(10)) * 3)
    other = torch.cat(list(Sample(split, 30, 3, seed=2).batches(30)))
    assert not torch.equal(first, other)


def test_no_more_images_than_there_are() -> None:
    split = digits().train
    assert sum(map(len, Sample(split, 1000, None, seed=0).batches(64))) == len(split)
    assert sum(map(len, Sample(split, 55, None, seed=0).batches(8))) == 55
    with pytest.raises(MethodError, match="there are none"):
        Sample(Counted(0, (1, 8, 8)), 10, None, seed=0)


def test_images_that_do_not_fit_are_read_anew_and_are_the_same() -> None:
    split = Counted(200, (3, 16, 16))
    large = Sample(split, 150, None, seed=3)
    small = Sample(split, 150, None, seed=3, memory=100_000)
    for _ in range(2):
        held = torch.cat(list(large.batches(40)))
        passes = split.passes
        assert torch.equal(held, torch.cat(list(small.batches(7))))
        assert split.passes > passes
    passes = split.passes
    list(large.batches(40))
    assert split.passes == passes


def test_draws_lie_in_range_and_distinct_ones_differ() -> None:
    random = torch.Generator().manual_seed(0)
    like = torch.zeros(1)
    assert draw(3, (50, 9), random, like).unique().tolist() == [0, 1, 2]
    distinct = draw_distinct(12, (50, 9), random, like)
    assert all(len(set(row)) == 9 for row in distinct.tolist())
    assert draw_distinct(4, (50, 9), random, like).sort().values.unique(dim=0).tolist() == [
        [0, 1, 2, 3]
    ]


def chain() -> tuple[nn.Sequential, Reader]:
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1)
    ).eval()
    return network, Reader("2", network[2], (Slice("2", 0, 1),), 32)


@pytest.mark.parametrize("memory", [2_000_000, 8_000_000])
def test_memory_stays_within_its_bound_and_below_that_of_all_samples(memory: int) -> None:
    network, reader = chain()
    sample = Sample(Counted(1024, (3, 16, 16)), 1024, None, seed=0, memory=memory)
    with Live() as live:
        sampled_grams(network, [reader], sample, 10, torch.Generator().manual_seed(0))
    assert live.peak <= memory
    at_once = 1024 * 10 * 32 * 9 * 4
    assert at_once > memory  # what all samples' columns would take


def test_a_batch_is_as_large_as_memory_allows() -> None:
    network, reader = chain()
    image = torch.randn(1, 3, 16, 16)
    maps = 3 * 32 * 16 * 16 * 4
    columns = 4 * 10 * 32 * 9 * 4
    assert batch_size(network, image, [reader], 10, 4 * 5 * (maps + columns)) == 5
    assert batch_size(network, image, [reader], 10, 1) == 1
    assert batch_size(network, image, [reader], 10, 10**12) == 64


def test_solutions_of_singular_systems_have_the_least_norm() -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(5, 9, generator=random, dtype=torch.float64)
    y = torch.randn(5, 2, generator=random, dtype=torch.float64)
    expected = torch.linalg.pinv(x) @ y
    torch.testing.assert_close(solve(x.T @ x, x.T @ y), expected, rtol=1e-6, atol=1e-8)
    assert solve(x.T[:0] @ x[:, :0], x.T[:0] @ y).shape == (0, 2)


def test_columns_that_are_zero_are_left_out_of_eigenvalue_problems(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Most of a 3×3 filter reads padding on a map of one place: LAPACK failed on 825 of 900.
    random = torch.Generator().manual_seed(0)
    x = torch.zeros(40, 20, 9, dtype=torch.float64)
    x[:, :12, 4] = torch.randn(40, 12, generator=random, dtype=torch.float64)
    x[:, 5, 4] = x[:, 6, 4]  # and two that move together
    gram = x.flatten(1).T @ x.flatten(1)
    sizes, eigh = [], torch.linalg.eigh

    def sized(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(len(matrix))
        return eigh(matrix)

    def failing(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raise torch.linalg.LinAlgError("failed to converge")

    for library in (sized, failing):  # where one gives up, another is asked
        monkeypatch.setattr(torch.linalg, "eigh", library)
        values, vectors = spectrum(gram)
        assert len(values) == 11
        torch.testing.assert_close((vectors * values) @ vectors.T, gram, rtol=1e-9, atol=1e-9)
    assert sizes == [12]
    nothing = spectrum(torch.zeros(3, 3, dtype=torch.float64))
    assert [tuple(each.shape) for each in nothing] == [(0,), (3, 0)]


@pytest.mark.parametrize("memory", [3_000_000, 12_000_000])
def test_regression_stays_within_its_bound_too(memory: int, tmp_path: Path) -> None:
    source = dense("vgg_mini", tmp_path)
    original, network = trained(source), trained(source)
    sample = Sample(source.data.train, 100, None, seed=0, memory=memory)
    for group in source.space.groups:
        reading = readers(source.space, group, network)
        random = torch.Generator().manual_seed(0)
        with Live() as live:
            found = targets(source.space, network, original, reading, sample, 10, random)
            kept = choose(found, group, group.width // 2)
            for target in found:
                target.apply(kept)
        assert live.peak <= memory
    assert found
