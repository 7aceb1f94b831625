"""Names of layers, shortened: what differs only in a number is told once."""

import re
from collections.abc import Iterable

Token = str | frozenset[int]
"""A stretch of a name: text, or the numbers that may stand there."""


def shortened(names: Iterable[str]) -> list[str]:
    """Tell names that differ in a number as one, with braces; the braces stand for exactly these.

    >>> shortened(["conv1", "layer1.0.conv2", "layer1.1.conv2", "layer1.2.conv2", "fc"])
    ['conv1', 'layer1.{0-2}.conv2', 'fc']
    """
    found = list(dict.fromkeys(_tokens(name) for name in names))
    while (merged := _merged(found)) != found:
        found = merged
    return ["".join(map(_text, tokens)) for tokens in found]


def _merged(found: list[tuple[Token, ...]]) -> list[tuple[Token, ...]]:
    """Names that are alike but for the numbers in one place, made one; the last place first."""
    longest = max((len(tokens) for tokens in found), default=0)
    for place in sorted(range(1, longest, 2), reverse=True):
        alike: dict[tuple[object, ...], list[tuple[Token, ...]]] = {}
        for tokens in found:
            whole = place < len(tokens)
            key = (*tokens[:place], None, *tokens[place + 1 :]) if whole else (*tokens, "")
            alike.setdefault(key, []).append(tokens)
        if len(alike) < len(found):
            return [_union(group, place) for group in alike.values()]
    return found


def _union(group: list[tuple[Token, ...]], place: int) -> tuple[Token, ...]:
    first = group[0]
    if len(group) == 1:
        return first
    numbers = frozenset(
        number for tokens in group for number in tokens[place] if isinstance(number, int)
    )
    return (*first[:place], numbers, *first[place + 1 :])


def _tokens(name: str) -> tuple[Token, ...]:
    """Text and numbers by turns; a number written with leading zeros stays text."""
    parts: list[Token] = []
    for index, part in enumerate(re.split(r"((?<!\d)(?:0|[1-9]\d*)(?!\d))", name)):
        parts.append(frozenset({int(part)}) if index % 2 else part)
    return tuple(parts)


def _text(token: Token) -> str:
    if isinstance(token, str):
        return token
    spans: list[list[int]] = []
    for number in sorted(token):
        if spans and number == spans[-1][-1] + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    words = [
        f"{span[0]}-{span[-1]}" if len(span) > 2 else ",".join(map(str, span)) for span in spans
    ]
    return words[0] if len(token) == 1 else f"{{{','.join(words)}}}"
