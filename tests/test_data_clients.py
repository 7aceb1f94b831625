"""Partitions among clients against counting and closed forms; the batches of their rounds."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from prunenas.data import Partition, client_splits, load, statistics
from prunenas.data._base import generator
from prunenas.data.clients import partition
from prunenas.data.tensors import Augmentation, TensorSplit
from prunenas.errors import DataError

IID = Partition("iid")
SHARDS = Partition("shards")
USERS = Partition("users")
HALF = Partition("dirichlet", alpha=0.5)
_SHARDED: Any = "sharded"
MISSPELT = Partition(_SHARDED)
EVERY = (IID, SHARDS, Partition("shards", per_client=3), HALF, USERS)

# 1,000 images of ten classes by 50 users, in no order.
LABELS = torch.arange(1000)[torch.randperm(1000, generator=generator("labels"))] % 10
OWNERS = torch.arange(1000)[torch.randperm(1000, generator=generator("owners"))] % 50 + 7


def name(how: Partition) -> str:
    return f"{how.kind}-{how.alpha or how.per_client or ''}"


@pytest.mark.parametrize("clients", [1, 7, 50])
@pytest.mark.parametrize("how", EVERY, ids=name)
def test_every_image_has_one_client_and_no_client_is_empty(how: Partition, clients: int) -> None:
    parts = partition(LABELS, OWNERS, clients, how, seed=0)
    assert len(parts) == clients
    assert all(len(part) for part in parts)
    assert all(part.dtype == torch.int64 and part.tolist() == sorted(part) for part in parts)
    assert sorted(torch.cat(parts).tolist()) == list(range(1000))


@pytest.mark.parametrize("how", EVERY, ids=name)
def test_a_partition_depends_on_its_seed_alone(how: Partition) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = partition(LABELS, OWNERS, 5, how, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    again, other = (partition(LABELS, OWNERS, 5, how, seed=seed) for seed in (3, 4))
    assert all(map(torch.equal, first, again))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True) if len(a) == len(b))


@pytest.mark.slow
def test_another_process_deals_alike() -> None:
    code = (
        "import torch; from prunenas.data.clients import Partition, partition\n"
        "torch.manual_seed(5); labels = torch.arange(200) % 7\n"
        "for how in (Partition('iid'), Partition('shards'), Partition('dirichlet', alpha=0.3), "
        "Partition('users')):\n"
        "    print([part.tolist() for part in partition(labels, labels + 3, 4, how, 9)])"
    )
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    labels = torch.arange(200) % 7
    kinds = (IID, SHARDS, Partition("dirichlet", alpha=0.3), USERS)
    here = [partition(labels, labels + 3, 4, how, 9) for how in kinds]
    assert there == [str([part.tolist() for part in parts]) for parts in here]


def test_iid_parts_are_as_large_as_each_other_and_of_all_classes() -> None:
    parts = partition(LABELS, None, 7, IID, seed=0)
    assert sorted(map(len, parts)) == [142] * 1 + [143] * 6
    # A client's images of one class: hypergeometric, 142 of 1,000 with 100 of the class.
    counts = statistics(parts, LABELS, 10).counts.double()
    variance = 142.86 * 0.1 * 0.9 * (1000 - 142.86) / 999
    assert float(((counts - 14.286) ** 2).mean()) == pytest.approx(variance, rel=0.35)


@pytest.mark.parametrize("per_client", [1, 2, 5])
def test_a_client_has_no_more_classes_than_shards(per_client: int) -> None:
    """McMahan et al. 2017: 600 images for each of 100 clients, of two digits at most."""
    labels = torch.arange(10).repeat_interleave(6000)[
        torch.randperm(60_000, generator=generator("mnist"))
    ]
    how = Partition("shards", per_client=per_client)
    found = statistics(partition(labels, None, 100, how, seed=1), labels, 10)
    assert found.images.tolist() == [600] * 100
    assert int(found.classes.max()) == per_client
    assert bool((found.counts % (600 // per_client) == 0).all())
    if per_client > 1:  # shards are dealt by chance: some clients get two of one class
        assert int(found.classes.min()) < per_client
        assert len(set(map(tuple, found.counts.tolist()))) > 10


def test_two_shards_are_the_default_and_uneven_ones_differ_by_one_image() -> None:
    two = partition(LABELS, None, 7, Partition("shards", per_client=2), seed=0)
    assert all(map(torch.equal, partition(LABELS, None, 7, SHARDS, seed=0), two))
    assert {len(part) for part in two} <= {142, 143, 144}  # 1,000 / 14 is 71.4


@pytest.mark.parametrize("how", [Partition("shards", per_client=1), HALF], ids=name)
def test_which_images_of_a_class_a_client_gets_is_left_to_chance(how: Partition) -> None:
    for part in partition(torch.zeros(1000, dtype=torch.int64), None, 3, how, seed=0):
        steps = part.diff()
        assert int(steps.max()) > 1
        # Of m in 1,000 places, a step is of one place with probability about m / 1,000.
        assert float(steps.eq(1).double().mean()) == pytest.approx(len(part) / 1000, abs=0.15)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 10.0])
def test_shares_of_a_class_have_a_dirichlet_distributions_moments(alpha: float) -> None:
    classes, members, clients = 400, 200, 4
    labels = torch.arange(classes).repeat(members)
    parts = partition(labels, None, clients, Partition("dirichlet", alpha=alpha), seed=2)
    shares = statistics(parts, labels, classes).counts.double().T / members  # (classes, clients)
    covariance = torch.cov(shares.T)
    mean = 1 / clients
    variance = mean * (1 - mean) / (clients * alpha + 1)
    assert shares.mean(0).tolist() == pytest.approx(
        [mean] * clients, abs=4 * (variance / 400) ** 0.5
    )
    assert float(covariance.diagonal().mean()) == pytest.approx(variance, rel=0.12)
    between = (covariance.sum() - covariance.diagonal().sum()) / (clients * (clients - 1))
    assert float(between) == pytest.approx(-variance / (clients - 1), rel=0.12)


def test_clients_are_the_more_alike_the_larger_alpha_is() -> None:
    found = [
        statistics(partition(LABELS, None, 10, Partition("dirichlet", alpha=a), seed=0), LABELS, 10)
        for a in (0.05, 0.5, 5.0, 1e6)
    ]
    distances = [each.distance for each in found]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 0.6
    assert float(found[0].classes.double().mean()) < 4
    assert bool((found[3].counts == 10).all())


def test_empty_clients_are_drawn_again() -> None:
    """Two classes, four clients, a small alpha: most draws leave somebody without images."""
    labels = torch.arange(100) % 2
    empty = 0
    for seed in range(30):
        parts = partition(labels, None, 4, Partition("dirichlet", alpha=0.1), seed=seed)
        empty += sum(len(part) == 0 for part in parts)
    assert empty == 0


def test_users_are_never_divided() -> None:
    parts = partition(LABELS, OWNERS, 7, USERS, seed=0)
    owners = [set(OWNERS[part].tolist()) for part in parts]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 50
    assert sorted(map(len, owners)) == [7] * 6 + [8]


@pytest.mark.parametrize(
    ("how", "users", "clients", "message"),
    [
        (MISSPELT, None, 2, "unknown partition 'sharded' (did you mean 'shards'?)"),
        (Partition("dirichlet"), None, 2, "partition dirichlet needs an alpha above 0, got None"),
        (Partition("dirichlet", alpha=0.0), None, 2, "partition dirichlet needs an alpha above 0"),
        (Partition("dirichlet", alpha=float("nan")), None, 2, "partition dirichlet needs an alpha"),
        (Partition("dirichlet", alpha=float("inf")), None, 2, "partition dirichlet needs an alpha"),
        (Partition("iid", alpha=1.0), None, 2, "alpha is of partition dirichlet alone, got it"),
        (Partition("users", per_client=1), OWNERS, 2, "per_client is of partition shards alone"),
        (Partition("shards", per_client=0), None, 2, "partition shards needs per_client of 1"),
        (IID, None, 0, "clients must number 1 to 1000, one an image, got 0"),
        (IID, None, 1001, "clients must number 1 to 1000, one an image, got 1001"),
        (SHARDS, None, 501, "partition shards needs an image for each of clients × per_client"),
        (USERS, None, 2, "partition users needs a data set that knows its users; known: dirichlet"),
        (USERS, OWNERS, 51, "partition users needs a user for each client, got 51 clients and 50"),
        (
            *(Partition("dirichlet", alpha=1e-9), None, 20),
            "partition dirichlet must leave no client empty, but with alpha 1e-09 and 20 clients",
        ),
    ],
)
def test_what_cannot_be_dealt_is_refused_in_one_line(
    how: Partition, users: Tensor | None, clients: int, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        partition(LABELS, users, clients, how, seed=0)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_statistics_are_those_counted_by_hand() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
    found = statistics((torch.tensor([0, 1, 3]), torch.tensor([2, 4, 5, 6, 7])), labels, 4)
    assert found.counts.tolist() == [[2, 1, 0, 0], [1, 1, 3, 0]]
    assert found.images.tolist() == [3, 5]
    assert found.classes.tolist() == [2, 3]
    # All: 3/8, 2/8, 3/8. First: 2/3, 1/3, 0; it has 7/24 + 2/24 more, 9/24 less. Second: 8, 2 less
    # and 9 more fortieths, of 1/5, 1/5 and 3/5.
    assert found.distances.tolist() == pytest.approx([9 / 24, 9 / 40])
    assert found.distance == pytest.approx((9 / 24 + 9 / 40) / 2)


def test_distances_reach_from_equal_clients_to_clients_of_their_own_classes() -> None:
    labels = torch.arange(100) % 10
    alike = statistics(tuple(torch.arange(100).split(20)), labels, 10)
    assert alike.distance == pytest.approx(0, abs=1e-12)
    apart = statistics(tuple(torch.nonzero(labels == k).flatten() for k in range(10)), labels, 10)
    assert apart.distances.tolist() == pytest.approx([0.9] * 10)


def numbered(count: int) -> TensorSplit:
    """A split whose labels are its images' numbers."""
    images = (torch.arange(count) % 256).to(torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)
    augmentation = Augmentation(pad=2, flip=True)
    return TensorSplit(images, torch.arange(count), torch.zeros(1), torch.ones(1), augmentation)


def taken(batches: Iterable[tuple[Tensor, Tensor]]) -> list[list[int]]:
    return [labels.tolist() for _, labels in batches]


def test_a_clients_batches_hold_its_images_as_they_are() -> None:
    split = numbered(20)
    client = client_splits(split, 3, IID, seed=0)[1]
    assert len(client) == 7
    for images, labels in client.batches_from(0, 4, 3, seed=0):
        assert images.shape == (3, 1, 2, 2)
        assert set(labels.tolist()) <= set(client.indices.tolist())
        assert torch.equal(images[:, 0, 0, 0], labels.float())  # mean 0, deviation 1


@pytest.mark.parametrize(("batch_size", "updates"), [(1, 1), (3, 5), (5, 2), (7, 1), (64, 3)])
def test_rounds_read_pass_after_pass(batch_size: int, updates: int) -> None:
    client = client_splits(numbered(20), 3, IID, seed=0)[1]  # of 7 images
    rounds = [taken(client.batches_from(number, updates, batch_size, 0)) for number in range(30)]
    assert all(len(batches) == updates for batches in rounds)
    flat = [batch for batches in rounds for batch in batches]
    assert {len(batch) for batch in flat} == {min(batch_size, 7)}
    stream = [image for batch in flat for image in batch]
    passes = [tuple(stream[start : start + 7]) for start in range(0, len(stream) - 6, 7)]
    assert all(sorted(each) == client.indices.tolist() for each in passes)
    assert len(set(passes)) > 0.9 * len(passes)  # shuffled anew
    seen = Counter(stream)
    assert max(seen.values()) - min(seen.values()) <= 1


def test_a_round_is_replayed_alone() -> None:
    split = numbered(100)
    clients = client_splits(split, 4, HALF, seed=0)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    run = [[taken(client.batches_from(r, 3, 8, 5)) for r in range(6)] for client in clients]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    restarted = client_splits(numbered(100), 4, HALF, seed=0)
    for client, own in zip(reversed(restarted), reversed(run), strict=True):
        assert taken(client.batches_from(4, 3, 8, 5)) == own[4]
    assert taken(clients[0].batches_from(4, 3, 8, 6)) != run[0][4]


def test_clients_of_the_same_images_shuffle_them_differently() -> None:
    first, second = client_splits(numbered(60), 2, IID, seed=0)
    places = [
        torch.searchsorted(client.indices, torch.tensor(taken(client.batches_from(0, 1, 30, 0))[0]))
        for client in (first, second)
    ]
    assert not torch.equal(*places)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 1, 1), "round must be at least 0, got -1"),
        ((0, 0, 1), "updates must be at least 1, got 0"),
        ((0, 1, 0), "batch_size must be at least 1, got 0"),
    ],
)
def test_impossible_rounds_are_refused(arguments: tuple[int, int, int], message: str) -> None:
    client = client_splits(numbered(4), 2, IID, seed=0)[0]
    with pytest.raises(DataError, match=f"^{message}$"):
        next(client.batches_from(*arguments, seed=0))


def test_any_data_set_is_dealt_out() -> None:
    data = load("digits")
    clients = client_splits(data.train, 5, HALF, seed=0)
    counts = torch.zeros(10, dtype=torch.int64)
    for client in clients:
        rounds = -(-len(client) // 16)
        labels = torch.cat([y for _, y in client.batches_from(0, rounds, 16, 0)])[: len(client)]
        counts += torch.bincount(labels, minlength=10)
    assert torch.equal(counts, torch.bincount(data.train.labels, minlength=10))
