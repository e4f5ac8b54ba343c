"""A number as it stands in print: the value, and the range of true values that print so."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_GROUPED = re.compile(r"\d{1,3}(?:[,\u202f\u00a0 ]\d{3})+")
_WRITTEN = re.compile(
    rf"(?P<about>[~≈]?)\s*(?P<number>{_NUMBER})\s*(?P<percent>%?)"
    rf"(?:\s*(?:±|\+/-)\s*(?P<spread>{_NUMBER})\s*(?P<percent_too>%?))?"
)
_FRACTION = re.compile(r"(\d+)\s*/\s*(\d+)")
_BLANK = {"", "-", "–", "—", "n/a", "na", "nan", "null", "none"}
# above the error of float arithmetic on shares, far below any printed digit
SLACK = 1e-9


@dataclass(frozen=True)
class Printed:
    """A printed number. low, high: the true values that round to it, half a unit of its last digit to each side.

    about: written with ≈ or ~, hence twice as wide. averaged: written with ±, hence a mean over runs, to which only
    sums and means apply.
    """

    text: str
    value: float
    low: float
    high: float
    about: bool = False
    averaged: bool = False

    def meets(self, low: float, high: float) -> bool:
        """Whether some value of [low, high] prints as this number."""
        return self.low <= high + SLACK and low <= self.high + SLACK


def read_printed(written: str, percent: bool = False) -> Printed | None:
    """A number from its text; None for a blank, a dash, n/a.

    Understood: .143, 0.143, 14.3%, 14.3 with `percent`, 1,494 (thousands), 4/1494 (exact), ≈21.17, 0.14 ± 0.02, 1.5e-3,
    0.143* and **0.143**. Raises `ValueError` with what is wrong, a decimal comma among it.
    """
    text = " ".join(written.split())
    bare = text.strip("*†‡ ").replace("−", "-")
    if bare.lower() in _BLANK:
        return None
    fraction = _FRACTION.fullmatch(bare)
    if fraction is not None and int(fraction[2]) > 0:
        share = int(fraction[1]) / int(fraction[2])
        return Printed(text, share, share, share)
    if _GROUPED.fullmatch(bare.lstrip("~≈ ")) and not bare.lstrip("~≈ ").startswith("0"):
        bare = re.sub("[,\u202f\u00a0 ]", "", bare)
    elif "," in bare:
        raise ValueError("it has a comma that parts no thousands; write a decimal point, as in 0.143")
    found = _WRITTEN.fullmatch(bare)
    if found is None:
        raise ValueError("it is no number; expected such as 0.143, 14.3%, 1,494, ≈0.14, 0.14 ± 0.02, or a blank")
    scale = 0.01 if percent or found["percent"] else 1.0
    number = Decimal(found["number"])
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    # ≈ promises no rounding: a whole unit to each side
    half = (1.0 if found["about"] else 0.5) * 10.0**exponent
    value = float(number)
    return Printed(
        text=text + (" %" if percent and not found["percent"] else ""),
        value=value * scale,
        low=(value - half) * scale,
        high=(value + half) * scale,
        about=bool(found["about"]),
        averaged=found["spread"] is not None,
    )


def span(function: Callable[..., float], *numbers: Printed) -> tuple[float, float]:
    """Least and greatest value of a function over all true values behind the numbers.

    The function must be monotone in each argument; then its extremes lie at the corners.
    """
    corners = [function(*corner) for corner in itertools.product(*((x.low, x.high) for x in numbers))]
    return min(corners), max(corners)
