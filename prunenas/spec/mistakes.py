"""Pydantic's findings, said our way: the law, then the value, then the known choices."""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from prunenas.errors import unknown
from prunenas.spec.document import Place

Finding = tuple[Place, str]
"""Where a law is broken, and the sentence that says so."""

_KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}

_BOUNDS = {
    "greater_than": (">", "gt"),
    "greater_than_equal": (">=", "ge"),
    "less_than": ("<", "lt"),
    "less_than_equal": ("<=", "le"),
}


def validate(model: type[BaseModel], value: Any, title: str) -> tuple[Any, tuple[Finding, ...]]:
    """Validate plain values against a model.

    They are validated as JSON and strictly: ``true`` is no number and ``"4"`` is no count, while
    a list may become a tuple and a whole number a float.

    Args:
        model: A pydantic model.
        value: JSON values.
        title: What the whole is called in sentences, such as ``"study"``.

    Returns:
        The model, or ``None`` where there are findings; and the findings, in pydantic's order.
    """
    try:
        return model.model_validate_json(json.dumps(value), strict=True), ()
    except ValidationError as error:
        return None, tuple(_told(model, title, error.errors(include_url=False)))


def dotted(place: Place) -> str:
    """Return a place as users write it: ``methods[0].space``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")


def _told(model: type[BaseModel], title: str, errors: list[ErrorDetails]) -> Iterator[Finding]:
    misspelt = {
        (*error["loc"][:-1], guess)
        for error in errors
        if error["type"] == "extra_forbidden"
        for guess in _guesses(str(error["loc"][-1]), _keys(model, error["loc"][:-1]))
    }
    for error in errors:
        # A key that was misspelt isn't missing as well: one mistake, one line.
        if not (error["type"] == "missing" and error["loc"] in misspelt):
            sentence = _sentence(model, title, error)
            yield error["loc"] or _subject(model, sentence), sentence


def _subject(model: type[BaseModel], sentence: str) -> Place:
    """The key that a law between sections begins with, such as ``search.fidelity``: its place."""
    word = sentence.partition(" ")[0].removesuffix(":")
    place: Place = ()
    for part in word.split("."):
        if part not in _keys(model, place):
            break
        place = (*place, part)
    return place


def _sentence(model: type[BaseModel], title: str, error: ErrorDetails) -> str:
    place, kind, context = error["loc"], error["type"], error.get("ctx", {})
    name, value = dotted(place) or title, error["input"]
    if kind == "extra_forbidden":
        section = dotted(place[:-1]) or title
        return unknown(f"{section} key", str(place[-1]), _keys(model, place[:-1]))
    if kind == "missing":
        return f"{name} must be given"
    if kind == "literal_error":
        return unknown(str(place[-1]), str(value), _choices(model, place))
    if kind in _KINDS:
        return f"{name} must be {_KINDS[kind]}, but is {plain(value)}"
    if kind in _BOUNDS:
        sign, key = _BOUNDS[kind]
        return f"`{name} {sign} {context[key]:g}` must hold, but it is {plain(value)}"
    if kind == "too_short":
        return f"{name} must have at least {context['min_length']} entry, but has none"
    if kind == "value_error":
        told = str(context["error"])
        return f"{dotted(place)}: {told}" if place and isinstance(value, Mapping) else told
    return f"{name}: {error['msg'][:1].lower()}{error['msg'][1:]}, but it is {plain(value)}"


def plain(value: Any) -> str:
    """Return a value as short text in one line."""
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            text = repr(value)
            return text if len(text) <= 60 else f"{text[:57]}..."


def _guesses(name: str, known: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(name, sorted(known), n=1)


def _keys(model: type[BaseModel], place: Place) -> list[str]:
    """Keys that the mapping at ``place`` may have."""
    found = _annotation(model, place)
    for part in (found, *_flat(found)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return [field.alias or name for name, field in part.model_fields.items()]
    return []


def _choices(model: type[BaseModel], place: Place) -> list[str]:
    found = _annotation(model, place)
    return [str(choice) for choice in _flat(found) if isinstance(choice, str | int)]


def _annotation(model: type[BaseModel], place: Place) -> Any:
    """The type that the model declares at ``place``."""
    found: Any = model
    for part in place:
        for option in (found, *_flat(found)):
            if isinstance(option, type) and issubclass(option, BaseModel):
                fields = {f.alias or name: f for name, f in option.model_fields.items()}
                if part in fields:
                    found = fields[str(part)].annotation
                    break
        else:  # inside a list or mapping: what it holds
            held = get_args(found)
            found = held[-1 if isinstance(part, str) else 0] if held else None
    return found


def _flat(annotation: Any) -> Iterator[Any]:
    """The arguments of a type such as ``Literal``, ``X | None`` or ``Annotated``, all levels."""
    for argument in get_args(annotation):
        yield argument
        yield from _flat(argument)
