"""Where things are kept unless the user says otherwise; relative to the current folder."""

from pathlib import Path

HOME = Path(".prunenas")
"""Folder of studies, and of what can be computed again: dense networks, checkpoints, weights."""

STUDIES = "sqlite:///.prunenas/studies.db"
"""URL of the storage that studies and their trials live in."""

TRACKING_CONFIG = "mlflow.yml"
"""File that says where tracking goes and how its server starts; need not exist."""
