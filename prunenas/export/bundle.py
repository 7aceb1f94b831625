"""``modeling.py``: the loader that goes with an export, and the code of prunenas' own models.

The loader is :mod:`prunenas.export.modeling`, copied. Where the network is one of
``prunenas.models``, the definitions that its constructor needs are copied into it: the function,
the classes and functions that it names, and what those name, from whichever of prunenas' files
they come. What they import from elsewhere (torch, the standard library) is imported.
"""

import ast
import importlib.util
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from prunenas.architecture import Architecture
from prunenas.errors import ExportError

MODELING_FILE = "modeling.py"

_PACKAGE = "prunenas"
_SELECTION = ("prunenas.architecture.selection", "ChannelSelection")
_MODELS_LINE = "MODELS: dict[str, Callable[..., nn.Module]] = {}"


def modeling(architecture: Architecture) -> str:
    """The text of ``modeling.py`` for an architecture.

    Raises:
        ExportError: Two of prunenas' files give different things the same name.
    """
    bundle = Bundle()
    added: list[str] = []
    if "/" not in architecture.source and ":" not in architecture.source:
        bundle.include("prunenas.models", architecture.source)
        added.append(f'MODELS = {{"{architecture.source}": {architecture.source}}}')
    if any(layer.kind == "select" for layer in architecture.layers):
        if ":" in architecture.source:  # the user's module imports prunenas, and so must this
            bundle.imports.add(_SELECTION)
        else:
            bundle.include(*_SELECTION)
        added.append('SIZED += ((ChannelSelection, "select", ("channels", "selected")),)')
    text = _text("prunenas.export.modeling")
    if not added:
        return text
    module = ast.parse(text)
    head = [node for node in module.body if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in head:
        bundle.imports |= set(_imported(node).values())
    taken = {name for node in module.body for name in _bound(node)} & bundle.places.keys()
    if taken:
        raise ExportError(f"a model and {MODELING_FILE} must not share names: {sorted(taken)}")
    lines = text.splitlines()
    first, last = head[0].lineno - 1, head[-1].end_lineno or 0
    before, after = "\n".join(lines[:first]), "\n".join(lines[last:]).strip("\n")
    own = "\n\n\n".join([*bundle.definitions, "\n".join(added)])
    after = after.replace(_MODELS_LINE, f"{_MODELS_LINE}\n\n\n{own}\n", 1)
    return f"{before}\n{_import_lines(bundle.imports)}\n\n{after}\n"


@dataclass
class Bundle:
    """Definitions copied out of a package's files, each after those that it needs.

    Attributes:
        definitions: Their texts.
        imports: What they import from outside, as (module, name); a module alone has no name.
        places: Which file each name came from.
    """

    definitions: list[str] = field(default_factory=list)
    imports: set[tuple[str, str]] = field(default_factory=set)
    places: dict[str, str] = field(default_factory=dict)

    def include(self, module: str, name: str) -> None:
        """Copy a name of a module, and whatever it needs."""
        node = _definitions(module).get(name)
        if node is None:
            return  # a builtin, or an argument
        if isinstance(node, ast.Import | ast.ImportFrom):
            source, original = _imported(node)[name]
            if source.partition(".")[0] != _PACKAGE:
                self.imports.add((source, original))
            elif original != name:
                raise ExportError(f"{module} must import {original} under its own name")
            else:
                self.include(source, original)
            return
        if name in self.places:
            if self.places[name] != module:
                raise ExportError(f"{module} and {self.places[name]} must not both define {name}")
            return
        self.places |= dict.fromkeys(_bound(node), module)
        for needed in _names(node):
            if needed not in _bound(node):
                self.include(module, needed)
        self.definitions.append(_source(module, node))


@cache
def _text(module: str) -> str:
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).read_text(encoding="utf-8")


@cache
def _definitions(module: str) -> dict[str, ast.stmt]:
    body = ast.parse(_text(module)).body
    return {name: node for node in body for name in _bound(node)}


def _bound(node: ast.stmt) -> set[str]:
    """Names that a statement of a module binds."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return set(_imported(node))
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return {
        each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)
    }


def _imported(node: ast.Import | ast.ImportFrom) -> dict[str, tuple[str, str]]:
    """What an import binds, each with its module and its name there."""
    if isinstance(node, ast.Import):
        return {alias.name: (alias.name, "") for alias in node.names}
    return {alias.asname or alias.name: (node.module or "", alias.name) for alias in node.names}


def _names(node: ast.stmt) -> list[str]:
    """Names that a statement uses, in order; those in quoted annotations too."""
    return [each.id for each in ast.walk(node) if isinstance(each, ast.Name)]


def _source(module: str, node: ast.stmt) -> str:
    """A statement's text with its decorators, and the comment above it."""
    lines = _text(module).splitlines()
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(each.lineno for each in decorators)]) - 1
    while first > 0 and lines[first - 1].startswith("#"):
        first -= 1
    return "\n".join(lines[first : node.end_lineno])


def _import_lines(imports: set[tuple[str, str]]) -> str:
    """Import statements, outside libraries after the standard library's."""
    modules: dict[str, set[str]] = {}
    for module, name in imports:
        modules.setdefault(module, set()).update([name])
    groups: list[list[str]] = [[], [], []]
    for module, names in sorted(modules.items()):
        top = module.partition(".")[0]
        group = groups[2 if top == _PACKAGE else int(top in ("torch", "torchvision"))]
        if "" in names:
            group.append(f"import {module}")
        if listed := sorted(names - {""}, key=lambda name: (not name.isupper(), name)):
            group.append(f"from {module} import {', '.join(listed)}")
    plain = [sorted(group, key=lambda line: line.startswith("from")) for group in groups]
    return "\n\n".join("\n".join(group) for group in plain if group)
