"""Architectures leave the study: a folder that loads anywhere, and is checked as it is written."""

from prunenas.export.config import CONFIG_FILE, FORMATS, ExportConfig, data_name, read_config
from prunenas.export.document import read_architecture
from prunenas.export.folder import add_format, update_export, write_export
from prunenas.export.formats import check_format
from prunenas.export.loading import load, load_architecture
from prunenas.export.masks import read_masks
from prunenas.export.safety import examine
from prunenas.export.verification import Verifier

__all__ = [
    "CONFIG_FILE",
    "FORMATS",
    "ExportConfig",
    "Verifier",
    "add_format",
    "check_format",
    "data_name",
    "examine",
    "load",
    "load_architecture",
    "read_architecture",
    "read_config",
    "read_masks",
    "update_export",
    "write_export",
]
