"""Architectures leave the study: a folder with a config, and weights where they are wanted."""

from prunenas.export.config import CONFIG_FILE, ExportConfig, read_config
from prunenas.export.folder import load, write_export

__all__ = ["CONFIG_FILE", "ExportConfig", "load", "read_config", "write_export"]
