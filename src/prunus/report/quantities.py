"""Numbers as a reader wants them: about three figures, and a unit."""

import math


def _decimals(value: float) -> int:
    """Decimals that show three figures of `value`, none above 100."""
    return max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0


def _scaled(value: float, units: tuple[tuple[float, str], ...], rest: str) -> str:
    for factor, unit in units:
        if value >= factor:
            return f"{value / factor:.{_decimals(value / factor)}f} {unit}"
    return f"{value:.0f}{rest}"


def count(value: float) -> str:
    """Parameters or MACs with an SI prefix: 269722 -> "270 k"."""
    return _scaled(value, ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")), "")


def size(value: float) -> str:
    """Bytes with a binary prefix: 1122304 -> "1.07 MiB"."""
    return _scaled(value, ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")), " B")


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction of 1 in per cent: 0.4971 -> "49.7 %"."""
    return f"{100 * fraction:.{digits}f} %"


def milliseconds(value: float) -> str:
    """A time: 0.03174 -> "0.0317 ms"."""
    return f"{value:.{_decimals(value)}f} ms"


def times(value: float) -> str:
    """How many times faster: 1.7234 -> "1.72x"."""
    return f"{value:.2f}x"


def interval(low: float | None, high: float | None) -> str:
    """Both ends of an interval, or nothing where one is unknown: "1.65 to 1.79"."""
    if low is None or high is None:
        return ""
    digits = _decimals(high)
    return f"{low:.{digits}f} to {high:.{digits}f}"
