"""A recipe on its own: a file with what a study says under ``train:``, and single settings."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunenas.errors import SpecError
from prunenas.spec.document import Document, Place, read
from prunenas.spec.mistakes import validate
from prunenas.spec.study import Study
from prunenas.training import Recipe

EPOCHS = 160
"""Epochs where nobody says how many: those of Liu et al. 2019 on CIFAR, as the other defaults."""


def load_recipe(
    path: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    defaults: Mapping[str, Any] | None = None,
) -> Recipe:
    """Read a recipe.

    Args:
        path: A YAML file with the keys of a study's ``train:``, or a study, whose ``train:`` is
            taken; the defaults without it.
        settings: Single fields, which come before the file's; JSON values.
        defaults: Fields where neither says anything, which come before the recipe's own.

    Raises:
        SpecError: With every mistake: those of the file each a line ``path:line: ...``, those of
            the settings without a place.

    >>> load_recipe("studies/quickstart.yaml", {"epochs": 3}).schedule
    'one_cycle'
    """
    settings = dict(settings or {})
    document = None if path is None else read(Path(path))
    if document is not None and document.broken:
        raise SpecError(map(str, document.mistakes))
    within: Place = ("train",) if document is not None and _is_study(document) else ()
    written = {} if document is None else document.value["train"] if within else document.value
    if isinstance(written, Mapping):
        written = {"epochs": EPOCHS, **(defaults or {}), **written, **settings}
    recipe: Recipe | None
    recipe, findings = validate(Recipe, written, "recipe")
    mistakes = [str(mistake) for mistake in document.mistakes] if document else []
    for place, text in findings:
        if document is None or (place and place[0] in settings):
            mistakes.append(text)
        elif (*within, *place) not in document.spoiled:
            mistakes.append(str(document.mistake((*within, *place), text)))
    if recipe is None or mistakes:
        raise SpecError(dict.fromkeys(mistakes))
    return recipe


def _is_study(document: Document) -> bool:
    value = document.value
    return isinstance(value, dict) and "train" in value and value.keys() <= set(Study.model_fields)
