"""The one place the version is written."""

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Versions of everything that decides a trial's figures."""
    # Not above: this file is what the command line's help waits for.
    import platform
    from importlib.metadata import version

    libraries = ("torch", "torchvision", "fvcore", "optuna", "numpy")
    return {
        "prunenas": __version__,
        "python": platform.python_version(),
        **{library: version(library) for library in libraries},
    }
