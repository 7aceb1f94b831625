"""What a round takes, as ``federation.time`` says it: a preset, a file, or the values.

A path that ends with ``.yaml`` or ``.yml`` is that of a file that ``prunenas profile`` wrote, read
relative to the file that names it. A study or a run file is made of what it says, wherever it lies.
"""

import os
from pathlib import Path
from typing import Any

from prunenas.errors import FederatedError, unknown
from prunenas.federated import TimeModel, TimeSection
from prunenas.federated.presets import PRESETS
from prunenas.spec.document import Document, Mistake, Place, read
from prunenas.spec.laws import Part
from prunenas.spec.mistakes import plain, validate

AUTO = "auto"
_ENDINGS = (".yaml", ".yml")


def fill_in_time(federation: Part) -> list[Mistake]:
    """Put what a file says in the place of its path, and check ``time`` whatever it is.

    What has mistakes is taken out, so that nothing is told twice.

    Args:
        federation: The section as written; its value is changed in place.

    Returns:
        Mistakes of ``time``, those of a file at its lines.
    """
    if "time" not in federation.mapping():
        return []
    part = federation.get("time")
    if isinstance(part.value, str) and part.value.endswith(_ENDINGS):
        found = _from_file(part, federation)
    elif isinstance(part.value, str):
        known = [AUTO, *PRESETS, "a file that ends with .yaml"]
        wrong = part.value not in (AUTO, *PRESETS)
        found = [part.mistake(unknown("time model", part.value, known))] if wrong else []
    elif isinstance(part.value, dict):
        found = _mistakes(part.document, part.base, part.value)
    elif part.base in part.document.spoiled:  # told with the YAML's own
        found = []
    else:
        text = f"time must be a preset, a file or a mapping, but is {plain(part.value)}"
        found = [part.mistake(text)]
    if found or part.value is None:
        del federation.value["time"]
    return found


def _from_file(part: Part, federation: Part) -> list[Mistake]:
    path = Path(os.path.normpath(Path(part.document.path).parent / part.value))
    document = read(path)
    if document.broken and document.mistakes[0].line is None:  # told where the path is written
        return [part.mistake(str(document.mistakes[0]))]
    if document.mistakes:
        return list(document.mistakes)
    if not isinstance(document.value, dict):
        keys = ", ".join(TimeSection.model_fields)
        text = f"a time model must be a mapping with the keys {keys}, but is "
        return [document.mistake((), f"{text}{plain(document.value)}")]
    # It says more than is needed here: where and how it was measured.
    values = {key: document.value[key] for key in TimeSection.model_fields if key in document.value}
    federation.value["time"] = values
    return _mistakes(document, (), values)


def _mistakes(document: Document, base: Place, values: dict[str, Any]) -> list[Mistake]:
    section, findings = validate(TimeSection, values, "time")
    if section is not None:
        try:
            TimeModel.from_dict(section.model_dump())
        except FederatedError as error:
            return [document.mistake(base, str(error))]
    return [
        document.mistake((*base, *place), text)
        for place, text in findings
        if (*base, *place) not in document.spoiled
    ]
