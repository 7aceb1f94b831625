"""Data sets as batches on the device, split into train, validation and test, and among clients.

>>> from prunenas.data import load
>>> data = load("digits", validation=0.2, seed=0)
>>> data.input_shape, data.classes
((1, 8, 8), 10)
>>> images, labels = next(data.train.batches(32, seed=0, epoch=1, augment=True))
>>> images.shape, labels.shape
(torch.Size([32, 1, 8, 8]), torch.Size([32]))
>>> clients = client_splits(data.train, 5, Partition("dirichlet", alpha=0.5), seed=0)
>>> len(clients), sum(len(client) for client in clients) == len(data.train)
(5, True)
"""

from prunenas.data._base import Data, IndexedSplit, Split, generator
from prunenas.data.catalog import DATASETS, DataSet, load
from prunenas.data.client_split import ClientSplit, client_splits
from prunenas.data.clients import Partition, Statistics, statistics

__all__ = [
    "DATASETS",
    "ClientSplit",
    "Data",
    "DataSet",
    "IndexedSplit",
    "Partition",
    "Split",
    "Statistics",
    "client_splits",
    "generator",
    "load",
    "statistics",
]
