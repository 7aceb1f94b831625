"""Small data sets: all images as one uint8 tensor on the device, augmented in batches there.

An 8-bit image takes a quarter of its float32 form, a batch is gathered, cropped and flipped by a
few operators, and no worker process is needed.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from prunenas.data._base import Data, Request, generator
from prunenas.data.partition import hold_out, limit
from prunenas.errors import DataError


@dataclass(frozen=True)
class Pixels:
    """Images as read from files, before any split by the user.

    Attributes:
        train: uint8 ``(N, C, H, W)``.
        train_labels: int64 ``(N,)``.
        test: As ``train``.
        test_labels: As ``train_labels``.
        users: Who made each training image, int64 ``(N,)``; ``None`` where that is not known.
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    users: Tensor | None = None

    def digest(self) -> str:
        """Hash of every pixel, label and user."""
        content = hashlib.sha256()
        tensors = [self.train, self.train_labels, self.test, self.test_labels]
        if self.users is not None:
            tensors.append(self.users)
        for tensor in tensors:
            content.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
            content.update(tensor.contiguous().numpy().data)
        return content.hexdigest()


@dataclass(frozen=True)
class Augmentation:
    """Random changes that keep the class.

    Attributes:
        pad: Pixels put around each image before a random crop of the old size.
        flip: Whether every second image, by chance, is mirrored left to right.
        fill: Value of the pixels put around, 0 to 255: that of the images' background.
    """

    pad: int
    flip: bool
    fill: int = 0

    def apply(self, images: Tensor, shifts: Tensor, flips: Tensor) -> Tensor:
        """Crop and flip a batch.

        Args:
            images: ``(N, C, H, W)``, any type.
            shifts: int64 ``(N, 2)``: first row and column of the crop, 0 to ``2 * pad``.
            flips: bool ``(N,)``.
        """
        if self.pad:
            height, width = images.shape[2:]
            padded = functional.pad(images, (self.pad,) * 4, value=self.fill)
            # A view of every possible crop (nothing is copied), of which each image takes its own.
            crops = padded.unfold(2, height, 1).unfold(3, width, 1)
            which = torch.arange(len(images), device=images.device)
            images = crops[which, :, shifts[:, 0], shifts[:, 1]]
        if self.flip:
            images = torch.where(flips[:, None, None, None], images.flip(3), images)
        return images


class TensorSplit:
    """A split held as tensors on one device.

    Args:
        images: uint8 ``(N, C, H, W)``.
        labels: int64 ``(N,)``.
        mean: Per channel, of pixels in [0, 255].
        std: The same way.
        augmentation: What ``augment=True`` does.
        users: int64 ``(N,)``, or ``None`` where they are not known.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        mean: Tensor,
        std: Tensor,
        augmentation: Augmentation,
        users: Tensor | None = None,
    ) -> None:
        self.images = images
        self.labels = labels
        self.users = users
        self._scale = (1 / std).float().to(images.device)[:, None, None]
        self._shift = (-mean / std).float().to(images.device)[:, None, None]
        self._augmentation = augmentation

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self, batch_size: int, *, seed: int | None = None, epoch: int = 0, augment: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over the split; see :meth:`prunenas.data.Split.batches`."""
        device = self.images.device
        shifts = flips = None
        if augment and seed is not None:
            random = generator("augmentation", seed, epoch)
            offsets = 2 * self._augmentation.pad + 1
            shifts = torch.randint(offsets, (len(self), 2), generator=random).to(device)
            flips = torch.rand(len(self), generator=random).lt(0.5).to(device)
        for batch in index_batches(len(self), batch_size, seed, epoch, augment):
            chosen = batch.to(device)
            images = self.images[chosen]
            if shifts is not None and flips is not None:
                images = self._augmentation.apply(images, shifts[chosen], flips[chosen])
            yield self._normalised(images), self.labels[chosen]

    def at(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Some images and labels; see :meth:`prunenas.data.IndexedSplit.at`."""
        chosen = indices.to(self.images.device)
        return self._normalised(self.images[chosen]), self.labels[chosen]

    def _normalised(self, images: Tensor) -> Tensor:
        return torch.addcmul(self._shift, images.float(), self._scale)


def index_batches(
    count: int, batch_size: int, seed: int | None, epoch: int, augment: bool
) -> tuple[Tensor, ...]:
    """Which images each batch holds, by the rules of :meth:`prunenas.data.Split.batches`."""
    if batch_size < 1:
        raise DataError(f"batch_size must be at least 1, got {batch_size}")
    if augment and seed is None:
        raise DataError("augmented batches need a seed, got None")
    if seed is None:
        return torch.split(torch.arange(count), batch_size)
    order = torch.randperm(count, generator=generator("order", seed, epoch))
    batches = torch.split(order, batch_size)
    if batch_size > 1 and len(batches) > 1 and len(batches[-1]) == 1:
        return batches[:-1]
    return batches


def load_tensors(
    request: Request, *, read: Callable[[Request], Pixels], classes: int, augmentation: Augmentation
) -> Data:
    """Read a small data set, split it, and put it on the device.

    Raises:
        DataError: Files are missing or damaged, or the request doesn't fit the images.
    """
    pixels = read(request)
    labels = pixels.train_labels
    train, validation = hold_out(labels, request.validation, generator("split", request.seed))
    train = limit(train, labels, request.train_limit, generator("limit", request.seed))
    images = pixels.train[train]
    mean, std = moments(images)
    shape = images.shape[1:]
    if request.channels not in (None, shape[0]):
        if shape[0] != 1:
            raise DataError(
                f"{request.name} has {shape[0]} channels, got channels {request.channels}"
            )
        shape = torch.Size((request.channels or 1, *shape[1:]))
        mean, std = mean.expand(shape[0]), std.expand(shape[0])

    def split(images: Tensor, labels: Tensor, users: Tensor | None = None) -> TensorSplit:
        images = images.expand(-1, shape[0], -1, -1).contiguous()
        device = request.device
        return TensorSplit(images.to(device), labels.to(device), mean, std, augmentation, users)

    return Data(
        name=request.name,
        classes=classes,
        input_shape=(shape[0], shape[1], shape[2]),
        train=split(images, labels[train], None if pixels.users is None else pixels.users[train]),
        validation=split(pixels.train[validation], labels[validation]),
        test=split(pixels.test, pixels.test_labels),
        digest=request.digest(
            content=pixels.digest(), pad=augmentation.pad, flip=augmentation.flip
        ),
        mean=tuple((mean / 255).tolist()),
        std=tuple((std / 255).tolist()),
    )


def moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel of uint8 ``(N, C, H, W)``, float64, of [0, 255].

    Exact: they come from a histogram of the 256 values. A channel of one value gets deviation 1.
    """
    values = torch.arange(256, dtype=torch.float64)
    means, deviations = [], []
    for channel in images.unbind(1):
        histogram = torch.bincount(channel.flatten(), minlength=256).double()
        share = histogram / histogram.sum()
        mean = (share * values).sum()
        std = (share * (values - mean) ** 2).sum().sqrt()
        means.append(mean)
        deviations.append(std if std > 0 else torch.ones_like(std))
    return torch.stack(means), torch.stack(deviations)
