"""Data sets as batches on the device, split into train, validation and test.

>>> from prunenas.data import load
>>> data = load("digits", validation=0.2, seed=0)
>>> data.input_shape, data.classes
((1, 8, 8), 10)
>>> images, labels = next(data.train.batches(32, seed=0, epoch=1, augment=True))
>>> images.shape, labels.shape
(torch.Size([32, 1, 8, 8]), torch.Size([32]))
"""

from prunenas.data._base import Data, Split
from prunenas.data.catalog import DATASETS, DataSet, load

__all__ = ["DATASETS", "Data", "DataSet", "Split", "load"]
