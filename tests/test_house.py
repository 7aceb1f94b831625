"""The house's floors: a file imports only from lower floors; an outside library has its rooms."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import prunenas

ROOT = Path(prunenas.__file__).parent

FLOORS = {
    "errors": 0,
    "version": 0,
    "places": 0,
    "architecture": 1,
    "architectures": 2,
    "data": 2,
    "models": 2,
    "cache": 2,
    "training": 3,
    "federated": 4,
    "methods": 5,
    "tracking": 5,
    "pictures": 5,
    "export": 5,
    "spec": 6,
    "latency": 6,
    "flower": 7,
    "trial": 7,
    "retraining": 8,
    "workers": 8,
    "search": 9,
    "evidence": 10,
    "report": 11,
    "cli": 12,
}
"""A room is a file or folder directly in the package. The package's own ``__init__`` is lazy."""

ONLY_IN = {
    "typer": {"cli"},
    "rich": {"cli"},
    "optuna": {"search"},
    "sqlalchemy": {"search", "tracking"},
    "matplotlib": {"pictures"},
    "mlflow": {"tracking"},
    "safetensors": {"cache", "export"},
    "flwr": {"flower"},
    "ray": {"flower"},
    "filelock": {"cache", "latency", "search"},
    "pydantic": {"federated", "methods", "spec", "training"},
    "yaml": {"architectures", "spec", "tracking", "export"},
    "sklearn": {"data", "methods"},
    "scipy": {"evidence", "methods"},
    "mlxtend": {"data"},
    "fvcore": {"architecture"},
    "torchvision": {"architecture", "data", "export"},  # modeling.py goes out with exports
}

FILES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.stem in FLOORS)


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Modules a file imports, and whether only type checkers see it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in hidden
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                place = ROOT.parent / Path(*whole.split("."))
                is_module = place.is_dir() or place.with_suffix(".py").exists()
                yield whole if is_module else node.module, id(node) in hidden


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    own = room(path)
    for module, _ in imports(path):
        parts = module.split(".")
        if parts[0] != "prunenas" or len(parts) == 1:
            continue
        other = parts[1]
        if other != own:
            assert FLOORS[other] < FLOORS[own], f"{own} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_outside_libraries_stay_in_their_rooms(path: Path) -> None:
    for module, for_types in imports(path):
        library = module.split(".")[0]
        if library in ONLY_IN and not for_types:
            assert room(path) in ONLY_IN[library], f"{path.name} imports {library}"


def test_no_import_cycle() -> None:
    names = {path: ".".join(path.relative_to(ROOT.parent).with_suffix("").parts) for path in FILES}
    modules = {name.removesuffix(".__init__"): path for path, name in names.items()}
    graph = {
        name: {m for m, for_types in imports(path) if m in modules and m != name and not for_types}
        for name, path in modules.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for following in sorted(graph[name]):
                visit(following, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_every_room_has_its_floor_and_files_stay_short() -> None:
    rooms = {room(path) for path in ROOT.rglob("*.py")} - {"__init__", "__main__"}
    assert rooms == set(FLOORS)
    long = {path.name: n for path in FILES if (n := len(path.read_text().splitlines())) > 350}
    assert not long
