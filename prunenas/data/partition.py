"""Splitting labelled images into two parts that keep the classes' proportions."""

import torch
from torch import Tensor

from prunenas.errors import DataError


def stratified(labels: Tensor, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pick ``count`` images so that each class has its share of them, to within one image.

    Args:
        labels: int64 ``(N,)``.
        count: How many to pick, 0 to N.
        random: Which images of a class, and which classes get the images left over by rounding
            when several have an equal claim.

    Returns:
        Indices picked, and the others; both sorted, int64.
    """
    classes, members = torch.unique(labels, return_counts=True)
    # In integers: each class's exact share is members * count / N; the largest remainders win
    # the images that rounding down leaves over.
    quota = members * count // len(labels)
    remainder = members * count % len(labels)
    tie = torch.rand(len(classes), generator=random, dtype=torch.float64)
    order = sorted(range(len(classes)), key=lambda c: (-int(remainder[c]), float(tie[c])))
    for position in order[: count - int(quota.sum())]:
        quota[position] += 1
    picked = torch.zeros(len(labels), dtype=torch.bool)
    for label, wanted in zip(classes, quota.tolist(), strict=True):
        indices = torch.nonzero(labels == label).flatten()
        picked[indices[torch.randperm(len(indices), generator=random)[:wanted]]] = True
    return torch.nonzero(picked).flatten(), torch.nonzero(~picked).flatten()


def hold_out(labels: Tensor, share: float, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Split off a validation part.

    Args:
        labels: int64 ``(N,)``.
        share: Of all images, in [0, 1); rounded to whole images. 0 holds none out.
        random: As in :func:`stratified`.

    Returns:
        Indices for training, and for validation; both sorted, int64.

    Raises:
        DataError: One of the two parts would be empty, though a share above 0 was asked for.
    """
    count = round(share * len(labels))
    if share and not 0 < count < len(labels):
        raise DataError(
            f"validation must leave images on both sides, got {share:g} of {len(labels)} images"
        )
    validation, train = stratified(labels, count, random)
    return train, validation


def limit(indices: Tensor, labels: Tensor, count: int | None, random: torch.Generator) -> Tensor:
    """Keep ``count`` of ``indices``, stratified by all images' ``labels``; ``None`` keeps all."""
    if count is None or count >= len(indices):
        return indices
    kept, _ = stratified(labels[indices], count, random)
    return indices[kept]
