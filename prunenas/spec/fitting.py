"""What keeps a study from fitting its model: the channel groups and layers that it names."""

from fnmatch import fnmatchcase

from prunenas.architecture import Space
from prunenas.errors import MethodError, WidthError, unknown
from prunenas.methods import groups_of
from prunenas.spec.space import SearchSpace
from prunenas.spec.study import MethodEntry


def check_widths(space: SearchSpace, model: Space) -> tuple[str, ...]:
    """Return what keeps a search space from fitting a model, one line for each mistake.

    Args:
        space: A search space, as loaded.
        model: The traced model.

    Returns:
        ``path:line: ...`` for each pattern of ``widths.fixed`` that matches no channel group, or
        one that can't vary; and one line where nothing is left to search.
    """
    if space.widths is None:
        return ()
    names = [group.name for group in model.groups]
    mistakes = []
    for pattern, ratio in space.widths.fixed.items():
        if any(fnmatchcase(name, pattern) for name in names):
            continue
        place = ("widths", "fixed", pattern)
        frozen = [group for group in model.frozen if fnmatchcase(group.name, pattern)]
        if not frozen:
            text = unknown(f"channel group of {model.source}", pattern, names)
            mistakes.append(space.locate(place, text))
        elif ratio != 1:
            text = f"channel group {frozen[0].name!r} of {model.source} can't vary: "
            mistakes.append(space.locate(place, text + frozen[0].reason))
    if not space.widths.knobs(model.groups) and not mistakes:
        text = f"no channel group of {model.source} is left to search: all are fixed or can't vary"
        mistakes.append(space.locate(("widths",), text))
    return tuple(mistakes)


def check_densities(entry: MethodEntry, model: Space) -> tuple[str, ...]:
    """Return what keeps searched densities from fitting a model, one line for each mistake.

    Args:
        entry: Of a study, as loaded.
        model: The traced model.

    Returns:
        ``path:line: ...`` for each pattern of ``densities.fixed`` that matches no layer that may
        lose weights; and one line where nothing is left to search.
    """
    space, densities = entry.space, entry.space.densities
    if densities is None:
        return ()
    try:
        # What decides the layers is never searched along with them.
        layers = entry.kind.model_validate(entry.hyperparameters).density_layers(model)
    except (MethodError, WidthError) as error:
        return (space.locate(("densities",), f"{entry.name}: {error}"),)
    mistakes = []
    for pattern in densities.fixed:
        if not any(fnmatchcase(name, pattern) for name in layers):
            text = unknown(f"layer of {model.source} that loses weights", pattern, layers)
            mistakes.append(space.locate(("densities", "fixed", pattern), text))
    if not densities.knobs(layers) and not mistakes:
        text = f"no layer of {model.source} is left to search: the densities of all are fixed"
        mistakes.append(space.locate(("densities",), text))
    return tuple(mistakes)


def check_whole(entry: MethodEntry, model: Space) -> tuple[str, ...]:
    """Return what keeps the layers that a method is to leave whole from being the model's.

    Args:
        entry: Of a study, as loaded.
        model: The traced model.

    Returns:
        One line for the first name that is no layer, or nothing.
    """
    names = entry.hyperparameters.get("whole")
    try:
        groups_of(model, [str(name) for name in names] if isinstance(names, list) else [])
    except WidthError as error:
        return (f"{entry.name}: whole: {error}",)
    return ()
