"""Image folders: one folder per class, streamed from disk through worker processes.

::

    ROOT/train/CLASS/*.jpg        what networks learn from
    ROOT/val/CLASS/*.jpg          or validation/
    ROOT/test/CLASS/*.jpg

With all three, each is what its name says. Where ``test`` is missing, ``val`` is the test split
(as in ImageNet, whose test labels are secret) and validation is split from ``train``; where
``val`` is missing, validation is split from ``train`` as well.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from prunenas.data._base import Data, Request, generator, one_line
from prunenas.data.partition import hold_out, limit
from prunenas.data.tensors import index_batches
from prunenas.errors import DataError

if TYPE_CHECKING:
    from torchvision.datasets import ImageFolder

# Of ImageNet's training images, pixels in [0, 1]; what pretrained networks of torchvision expect.
# Grey: the means of the three.
MEAN = {3: (0.485, 0.456, 0.406), 1: (0.449,)}
STD = {3: (0.229, 0.224, 0.225), 1: (0.226,)}
MODES = {3: "RGB", 1: "L"}

# What one image becomes: its pixels and label, or, for the parent to raise, what is wrong with it.
Item = tuple[Tensor, int] | DataError


class _Files(Dataset[Item]):
    """Decoded and transformed images of one pass; a worker process gets a copy of it.

    An image's crop and flip depend on ``seed``, ``epoch`` and its index alone, so that the number
    of workers changes nothing.
    """

    def __init__(
        self,
        samples: Sequence[tuple[str, int]],
        channels: int,
        size: int,
        seed: int | None,
        epoch: int,
    ) -> None:
        from torchvision.transforms import v2  # imported on use: it takes a second

        self._samples = samples
        self._mode = MODES[channels]
        self._random = None if seed is None else (seed, epoch)
        if seed is None:
            # The customary 256 for 224.
            steps = [v2.Resize(round(size * 256 / 224), antialias=True), v2.CenterCrop(size)]
        else:
            steps = [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()]
        self._transform = v2.Compose([*steps, v2.PILToTensor()])

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Item:
        path, label = self._samples[index]
        try:
            with Image.open(path) as file:
                image = file.convert(self._mode)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            return DataError(f"damaged or unreadable image {path}: {one_line(error)}")
        with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's global numbers
            if self._random is not None:
                torch.set_rng_state(generator("image", *self._random, index).get_state())
            return self._transform(image), label


def _collate(items: list[Item]) -> tuple[Tensor, Tensor] | DataError:
    images, labels = [], []
    for item in items:
        if isinstance(item, DataError):
            return item
        images.append(item[0])
        labels.append(item[1])
    return torch.stack(images), torch.tensor(labels)


class FolderSplit:
    """A split read from files, batch by batch.

    Args:
        samples: Path and label of each image.
        channels: 3, or 1 for grey.
        size: Height and width after the crop, in pixels.
        workers: Processes that decode; 0 decodes in this one.
        device: Where batches go.
    """

    def __init__(
        self,
        samples: Sequence[tuple[str, int]],
        *,
        channels: int,
        size: int,
        workers: int,
        device: torch.device,
    ) -> None:
        self.samples = tuple(samples)
        self._channels = channels
        self._size = size
        self._workers = workers
        self._device = device
        mean, std = torch.tensor(MEAN[channels]), torch.tensor(STD[channels])
        self._scale = (1 / (255 * std)).to(device)[:, None, None]
        self._shift = (-mean / std).to(device)[:, None, None]

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def labels(self) -> Tensor:
        """The label of each image, int64 ``(N,)``."""
        return torch.tensor([label for _, label in self.samples], dtype=torch.int64)

    @property
    def users(self) -> None:
        """Nobody is known to have made these images."""
        return None

    def at(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Some images and labels; see :meth:`prunenas.data.IndexedSplit.at`.

        They are decoded in this process: starting workers takes longer than a batch.
        """
        files = _Files(self.samples, self._channels, self._size, None, 0)
        return self._normalised(_collate([files[index] for index in indices.tolist()]))

    def batches(
        self, batch_size: int, *, seed: int | None = None, epoch: int = 0, augment: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over the split; see :meth:`prunenas.data.Split.batches`.

        Images are normalised to ImageNet's mean and standard deviation, not to their own, which
        would take a pass over all files.
        """
        batches = index_batches(len(self), batch_size, seed, epoch, augment)
        files = _Files(self.samples, self._channels, self._size, seed if augment else None, epoch)
        loader: DataLoader[Item] = DataLoader(
            files,
            batch_sampler=[batch.tolist() for batch in batches],
            num_workers=self._workers,
            collate_fn=_collate,
            pin_memory=self._device.type == "cuda",
            generator=torch.Generator(),  # else it draws from torch's global numbers
        )
        for batch in loader:
            yield self._normalised(batch)

    def _normalised(self, batch: tuple[Tensor, Tensor] | DataError) -> tuple[Tensor, Tensor]:
        if isinstance(batch, DataError):
            raise batch
        images, labels = (tensor.to(self._device, non_blocking=True) for tensor in batch)
        return torch.addcmul(self._shift, images.float(), self._scale), labels


def load_folder(request: Request) -> Data:
    """Find the three splits of an image folder; no image is opened yet.

    Raises:
        DataError: A folder is missing or holds no images, or the splits' classes differ.
    """
    root = request.folder
    names = {name: root / name for name in ("train", "validation", "val", "test")}
    present = {name: path for name, path in names.items() if path.is_dir()}
    held = present.get("validation") or present.get("val")
    test_path = present.get("test") or held
    if "train" not in present or test_path is None:
        raise DataError(
            f"image_folder needs {root}/train/CLASS/*.jpg and {root}/test/CLASS/*.jpg (or val), "
            f"found {', '.join(sorted(present)) or 'neither'}; set 'root' under 'data' (--root)"
        )
    train = _scan(present["train"])
    test = _scan(test_path, classes=train.classes)
    labels = torch.tensor(train.targets)
    if held is not None and held != test_path:
        kept = torch.arange(len(labels))
        validation_samples = _scan(held, classes=train.classes).samples
    else:
        kept, validation = hold_out(labels, request.validation, generator("split", request.seed))
        validation_samples = [train.samples[i] for i in validation.tolist()]
    kept = limit(kept, labels, request.train_limit, generator("limit", request.seed))
    channels = 3 if request.channels is None else request.channels

    def split(samples: Sequence[tuple[str, int]]) -> FolderSplit:
        return FolderSplit(
            samples,
            channels=channels,
            size=request.image_size,
            workers=request.workers,
            device=request.device,
        )

    return Data(
        name=request.name,
        classes=len(train.classes),
        input_shape=(channels, request.image_size, request.image_size),
        train=split([train.samples[i] for i in kept.tolist()]),
        validation=split(validation_samples),
        test=split(test.samples),
        digest=request.digest(
            content=_digest(root, train.samples, validation_samples, test.samples),
            image_size=request.image_size,
        ),
        mean=MEAN[channels],
        std=STD[channels],
    )


def _scan(path: Path, classes: Sequence[str] | None = None) -> "ImageFolder":
    from torchvision.datasets import ImageFolder  # imported on use: it takes a second

    try:
        found = ImageFolder(path)
    except (OSError, RuntimeError) as error:
        raise DataError(f"image_folder can't use {path}: {one_line(error)}") from error
    if classes is not None and found.classes != list(classes):
        odd = sorted(set(found.classes) ^ set(classes))
        raise DataError(
            f"image_folder needs the same class folders in each split, but {path} differs from "
            f"train in {', '.join(odd[:5])}{' …' if len(odd) > 5 else ''}"
        )
    return found


def _digest(root: Path, *splits: Sequence[tuple[str, int]]) -> str:
    """Hash of the images' paths under ``root`` and their sizes in bytes."""
    content = hashlib.sha256()
    for samples in splits:
        for path, label in samples:
            file = Path(path)
            line = f"{file.relative_to(root).as_posix()}\t{file.stat().st_size}\t{label}\n"
            content.update(line.encode())
        content.update(b"\n")
    return content.hexdigest()
