"""How figures are worded: FLOPs, parameters, shares, accuracies, durations."""

_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def count(number: float | None) -> str:
    """Word a count of FLOPs or parameters with three significant digits or more.

    >>> count(313_201_664), count(5_530), count(0), count(None)
    ('313 M', '5.53 k', '0', '–')
    """
    if number is None:
        return "–"
    for scale, letter in _SCALES:
        if number >= scale * 0.9995:  # 999,700 reads 1.00 M, not 1000 k
            value = number / scale
            digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
            return f"{value:.{digits}f} {letter}"
    return f"{number:.0f}"


def milliseconds(latency: float | None) -> str:
    """Word a latency in milliseconds with three significant digits.

    >>> milliseconds(2.3456), milliseconds(0.0512), milliseconds(1234.5), milliseconds(None)
    ('2.35 ms', '0.0512 ms', '1,234 ms', '–')
    """
    if latency is None:
        return "–"
    return f"{latency:,.0f} ms" if latency >= 1000 else f"{latency:#.3g}".rstrip(".") + " ms"


def seconds(time: float | None) -> str:
    """Word a round's time in seconds with three significant digits.

    >>> seconds(51.081), seconds(0.0512), seconds(1234.5), seconds(None)
    ('51.1 s', '0.0512 s', '1,234 s', '–')
    """
    if time is None:
        return "–"
    return f"{time:,.0f} s" if time >= 1000 else f"{time:#.3g}".rstrip(".") + " s"


def share(ratio: float | None) -> str:
    """Word a share in [0, 1] in per cent.

    >>> share(0.3412), share(None)
    ('34.1 %', '–')
    """
    return "–" if ratio is None else f"{100 * ratio:.1f} %"


def accuracy(value: float | None) -> str:
    """Word an accuracy, a share in [0, 1].

    >>> accuracy(0.95125), accuracy(None)
    ('0.9513', '–')
    """
    return "–" if value is None else f"{value:.4f}"


def duration(seconds: float | None) -> str:
    """Word a span of time with its two largest units.

    >>> duration(7.3), duration(192), duration(7_500), duration(180_000), duration(None)
    ('7 s', '3 min 12 s', '2 h 05 min', '2 d 02 h', '–')
    """
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02d} h"


def size(number: int) -> str:
    """Word a number of bytes, in powers of 1,000.

    >>> size(512), size(45_300), size(1_250_000_000)
    ('512 B', '45.3 kB', '1.25 GB')
    """
    return f"{number} B" if number < 1000 else f"{count(number)}B"


def plural(number: int, noun: str) -> str:
    """Word a number of things whose plural ends in s.

    >>> plural(1, "trial"), plural(16, "trial")
    ('1 trial', '16 trials')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
