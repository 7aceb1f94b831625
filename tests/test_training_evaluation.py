"""Metrics of a split, against a computation image by image."""

import math

import pytest
import torch
from training_digits import Tensors, digits, small_network

from prunenas.errors import TrainingError
from prunenas.training import Recipe, evaluate, train

DATA = digits()


def test_equals_a_computation_image_by_image() -> None:
    network = small_network()
    train(network, DATA, Recipe(epochs=1, lr=0.02), seed=0)
    metrics = evaluate(network, DATA.test)
    network.eval()
    split = DATA.test
    assert isinstance(split, Tensors)
    losses, right = [], 0
    with torch.no_grad():
        for image, label in zip(split.images, split.labels, strict=True):
            logits = network(image[None])[0].double().tolist()
            losses.append(math.log(sum(math.exp(z) for z in logits)) - logits[int(label)])
            right += logits.index(max(logits)) == int(label)
    assert metrics.loss == pytest.approx(sum(losses) / 100, rel=1e-5)
    assert metrics.accuracy == right / 100


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_batches_do_not_matter(batch_size: int) -> None:
    network = small_network()
    one, other = (evaluate(network, DATA.test, batch_size=b) for b in (batch_size, 50))
    assert one.loss == pytest.approx(other.loss, rel=1e-5)
    assert one.accuracy == other.accuracy


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training: bool) -> None:
    network = small_network(dropout=0.5).train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert evaluate(network, DATA.test) == evaluate(network, DATA.test)
    assert network.training is training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None and p.is_contiguous() for p in network.parameters())


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(TrainingError, match="must have images") as caught:
        evaluate(small_network(), Tensors(torch.empty(0, 1, 8, 8), torch.empty(0).long()))
    assert caught.value.reason == "no images"
