"""The public surface: a short list that stays light until it is used."""

import inspect
import subprocess
import sys

import pytest

import prunenas

PUBLIC = ["Architecture", "__version__", "build", "count_flops", "load", "run", "trace"]
HEAVY = ("torch", "torchvision", "optuna", "mlflow", "matplotlib", "pydantic", "rich", "numpy")


def loaded_after(code):
    """Return which of the heavy packages a fresh process has loaded after ``code``."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules, file=sys.stderr)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split()) & set(HEAVY)


def test_the_public_names_are_these():
    assert sorted(prunenas.__all__) == sorted(PUBLIC)


def test_every_public_name_is_there_and_documented():
    for name in PUBLIC:
        value = getattr(prunenas, name)
        assert name in dir(prunenas)
        assert name == "__version__" or inspect.getdoc(value)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'prunenas' has no attribute 'prune'"):
        _ = prunenas.prune


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_after("import prunenas; prunenas.__version__; dir(prunenas)") == set()


def test_a_name_loads_what_it_needs_and_no_more():
    assert loaded_after("import prunenas; prunenas.trace") & {"optuna", "mlflow", "rich"} == set()


def test_the_documented_example_holds():
    space = prunenas.trace("lenet5", input_shape=(1, 28, 28))
    architecture = space.fit(flops_ratio=0.5)
    network = prunenas.build(architecture, seed=0)
    assert prunenas.count_flops(network, (1, 28, 28)) == architecture.flops
    assert architecture.flops <= 0.5 * space.dense.flops
    assert prunenas.Architecture.from_dict(architecture.to_dict()) == architecture
