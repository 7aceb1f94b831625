"""Batches of the small data sets: order, normalisation, augmentation, replay."""

import pytest
import torch
from torch import Tensor

from prunenas.data import load
from prunenas.data._base import generator
from prunenas.data.tensors import Augmentation, TensorSplit, moments
from prunenas.errors import DataError


def ramp(count: int, *, channels: int = 1, side: int = 6) -> TensorSplit:
    """Images that are all different, normalised to pixels over 255, with their index as label."""
    shape = (count, channels, side, side)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator("ramp"))
    mean, std = torch.zeros(channels), torch.full((channels,), 255.0)
    return TensorSplit(images, torch.arange(count), mean, std, Augmentation(pad=2, flip=True))


def labels_of(split: TensorSplit, batch_size: int, **arguments: int | None) -> list[int]:
    return [int(y) for _, labels in split.batches(batch_size, **arguments) for y in labels]


def test_without_a_seed_order_and_every_image_are_kept() -> None:
    split = ramp(13)
    batches = list(split.batches(4))
    assert [len(labels) for _, labels in batches] == [4, 4, 4, 1]
    assert torch.equal(torch.cat([labels for _, labels in batches]), torch.arange(13))
    images = torch.cat([images for images, _ in batches])
    assert images.dtype == torch.float32
    assert torch.allclose(images, split.images / 255, atol=1e-6)


def test_a_shuffled_pass_visits_every_image_once() -> None:
    assert sorted(labels_of(ramp(14), 4, seed=0)) == list(range(14))


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(13, 4, [4, 4, 4]), (14, 4, [4, 4, 4, 2]), (3, 1, [1, 1, 1]), (1, 8, [1]), (0, 8, [])],
)
def test_a_last_shuffled_batch_of_one_is_dropped(
    count: int, batch_size: int, sizes: list[int]
) -> None:
    batches = ramp(count).batches(batch_size, seed=0)
    assert [len(labels) for _, labels in batches if len(labels)] == sizes


def test_an_epoch_is_replayed_alone_and_differs_from_the_next() -> None:
    split = ramp(32)
    run = [list(split.batches(8, seed=5, epoch=epoch, augment=True)) for epoch in range(3)]
    torch.manual_seed(9)  # the global numbers have no say
    again = list(split.batches(8, seed=5, epoch=2, augment=True))
    for (images, labels), (images_again, labels_again) in zip(run[2], again, strict=True):
        assert torch.equal(images, images_again)
        assert torch.equal(labels, labels_again)
    orders = {tuple(int(y) for _, labels in epoch for y in labels) for epoch in run}
    assert len(orders) == 3
    assert labels_of(split, 8, seed=5) != labels_of(split, 8, seed=6)


def test_an_images_augmentation_does_not_depend_on_the_batch_size() -> None:
    split = ramp(24)
    small = {
        int(y): x
        for images, labels in split.batches(6, seed=1, augment=True)
        for x, y in zip(images, labels, strict=True)
    }
    ((images, labels),) = split.batches(24, seed=1, augment=True)
    assert all(torch.equal(small[int(y)], x) for x, y in zip(images, labels, strict=True))


def crop_by_hand(image: Tensor, row: int, column: int, pad: int, flip: bool) -> Tensor:
    channels, height, width = image.shape
    out = torch.zeros_like(image)
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                source_y = y + row - pad
                source_x = (width - 1 - x if flip else x) + column - pad
                if 0 <= source_y < height and 0 <= source_x < width:
                    out[c, y, x] = image[c, source_y, source_x]
    return out


def test_crops_and_flips_are_those_of_a_loop_over_pixels() -> None:
    images = ramp(50, channels=2, side=5).images
    random = generator("test")
    shifts = torch.randint(5, (50, 2), generator=random)
    flips = torch.rand(50, generator=random) < 0.5
    augmented = Augmentation(pad=2, flip=True).apply(images, shifts, flips)
    for image, (row, column), flip, result in zip(
        images, shifts.tolist(), flips.tolist(), augmented, strict=True
    ):
        assert torch.equal(result, crop_by_hand(image, row, column, 2, flip))
    assert torch.equal(Augmentation(pad=0, flip=False).apply(images, shifts, flips), images)


def test_paper_around_an_image_has_the_value_asked_for() -> None:
    image = torch.full((1, 1, 4, 4), 7, dtype=torch.uint8)
    corner, flips = torch.tensor([[0, 0]]), torch.tensor([False])
    (moved,) = Augmentation(pad=1, flip=False, fill=255).apply(image, corner, flips)
    assert moved[0, 0].tolist() == [255] * 4
    assert moved[0, :, 0].tolist() == [255] * 4
    assert moved[0, 1:, 1:].unique().tolist() == [7]


def test_images_taken_by_index_are_normalised_and_never_augmented() -> None:
    split = ramp(13)
    chosen = torch.tensor([12, 3, 3])
    images, labels = split.at(chosen)
    assert images.dtype == torch.float32
    assert torch.allclose(images, split.images[chosen] / 255, atol=1e-6)
    assert labels.tolist() == [12, 3, 3]


def test_augmentation_draws_every_crop_equally_often_and_flips_half() -> None:
    side, pad, count = 5, 1, 3600
    image = torch.arange(1, side * side + 1, dtype=torch.uint8).reshape(1, 1, side, side)
    scale = torch.zeros(1), torch.ones(1)
    split = TensorSplit(
        image.expand(count, -1, -1, -1), torch.zeros(count, dtype=torch.int64), *scale,
        Augmentation(pad=pad, flip=True),
    )  # fmt: skip
    ((images, _),) = split.batches(count, seed=0, augment=True)
    kinds, counts = torch.unique(images.flatten(1), dim=0, return_counts=True)
    assert len(kinds) == 9 * 2
    expected = count / 18
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert chi_squared < 40.8  # the 99.9th percentile at 17 degrees of freedom


def test_digits_are_never_mirrored() -> None:
    data = load("digits")
    assert isinstance(data.train, TensorSplit)
    split = TensorSplit(
        data.train.images, torch.arange(len(data.train)), torch.zeros(1), torch.full((1,), 255.0),
        data.train._augmentation,
    )  # fmt: skip
    for images, labels in split.batches(512, seed=0, augment=True):
        for image, label in zip(images[:60], labels[:60], strict=True):
            original = split.images[label] / 255
            shifted = [
                crop_by_hand(original, row, column, 1, flip=False)
                for row in range(3)
                for column in range(3)
            ]
            assert any(torch.allclose(image, one, atol=1e-6) for one in shifted)


@pytest.mark.parametrize("channels", [1, 3])
def test_moments_are_those_of_the_pixels(channels: int) -> None:
    images = ramp(40, channels=channels).images
    mean, std = moments(images)
    pixels = images.double().transpose(0, 1).flatten(1)
    assert torch.allclose(mean, pixels.mean(1))
    assert torch.allclose(std, pixels.std(1, correction=0))


def test_a_blank_channel_does_not_divide_by_zero() -> None:
    mean, std = moments(torch.full((2, 1, 3, 3), 7, dtype=torch.uint8))
    assert (mean.item(), std.item()) == (7.0, 1.0)


@pytest.mark.parametrize("channels", [None, 3])
def test_training_batches_are_normalised_and_the_others_by_the_same_figures(
    channels: int | None,
) -> None:
    data = load("digits", channels=channels)
    images = torch.cat([images for images, _ in data.train.batches(500)])
    assert images.shape[1:] == data.input_shape == (channels or 1, 8, 8)
    assert images.mean((0, 2, 3)).abs().max() < 1e-5
    assert (images.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-5
    assert isinstance(data.test, TensorSplit)
    test = torch.cat([images for images, _ in data.test.batches(500)])
    mean, std = (torch.tensor(figures)[:, None, None] for figures in (data.mean, data.std))
    assert torch.allclose(test, (data.test.images / 255 - mean) / std, atol=1e-5)


def test_bad_arguments_of_a_pass_are_refused() -> None:
    with pytest.raises(DataError, match="batch_size must be at least 1, got 0"):
        next(ramp(4).batches(0))
    with pytest.raises(DataError, match="augmented batches need a seed"):
        next(ramp(4).batches(2, augment=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_a_gpu_are_those_of_the_cpu() -> None:
    cpu, gpu = (load("mnist5k", device=device) for device in ("cpu", "cuda"))
    assert cpu.digest == gpu.digest
    pairs = zip(
        cpu.train.batches(256, seed=0, augment=True),
        gpu.train.batches(256, seed=0, augment=True),
        strict=True,
    )
    for (images, labels), (gpu_images, gpu_labels) in pairs:
        assert gpu_images.is_cuda
        assert gpu_labels.is_cuda
        assert torch.allclose(images, gpu_images.cpu(), atol=1e-5)
        assert torch.equal(labels, gpu_labels.cpu())
