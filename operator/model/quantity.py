"""Kubernetes quantities (`500m`, `1.5Gi`, `2e3`), read and written exactly.

The rules are those of apimachinery's `resource.Quantity`: decimal and binary suffixes, nothing finer than a
nano, nothing beyond a signed 64-bit integer. Whole units are reached by rounding up, as `Quantity.Value()`
and `MilliValue()` do, so that no amount ever becomes too small.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, ROUND_UP, Context, Decimal

KIB, MIB, GIB, TIB = (2**power for power in (10, 20, 30, 40))

_SYNTAX = re.compile(
    r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])|[eE](?P<exponent>[+-]?\d{1,4}))?",
    re.ASCII,
)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_LARGEST = Decimal(2**63 - 1)
_FINEST = Decimal("1e-9")
# Wide enough for any exponent that the syntax lets through: no step on the way may round.
_EXACT = Context(prec=10_500)


class QuantityError(ValueError):
    """Not a quantity."""


def parse(quantity: str | int | float) -> Decimal:
    """The amount, in the base unit (cores, bytes, pieces).

    Numbers are taken as what they print as: YAML turns `cpu: 0.1` into one.

    Raises:
        QuantityError: says what was given and what a quantity looks like.
    """
    text = str(quantity)
    match = _SYNTAX.fullmatch(text) if not isinstance(quantity, bool) else None
    if match is None:
        raise QuantityError(
            f"{quantity!r} is not a quantity: expected a number with an optional suffix, like 500m, 2, 1.5Gi"
        )
    number, suffix = Decimal(match["number"]), match["suffix"] or ""
    if suffix in _BINARY:
        amount = _EXACT.multiply(number, 2 ** _BINARY[suffix])
    else:
        exponent = int(match["exponent"]) if match["exponent"] else _DECIMAL[suffix]
        amount = _EXACT.scaleb(number, exponent)
    if abs(amount) >= _LARGEST:
        return _LARGEST.copy_sign(amount)
    return amount.quantize(_FINEST, rounding=ROUND_UP, context=_EXACT)


def whole(quantity: str | int | float) -> int:
    """The amount in whole units (bytes, pieces), rounded up. Raises QuantityError."""
    return int(parse(quantity).to_integral_value(rounding=ROUND_CEILING))


def millis(quantity: str | int | float) -> int:
    """The amount in thousandths (of a core), rounded up. Raises QuantityError."""
    return int(_EXACT.scaleb(parse(quantity), 3).to_integral_value(rounding=ROUND_CEILING))


def format_millis(amount: int) -> str:
    """Thousandths as a quantity: `250m`, `2`."""
    cores, rest = divmod(amount, 1000)
    return f"{amount}m" if rest else str(cores)


def format_bytes(amount: int) -> str:
    """Bytes as a quantity with the largest binary suffix that leaves a whole number: `5Gi`, `1536Mi`, `1000`."""
    for suffix, power in reversed(_BINARY.items()):
        if amount and amount % 2**power == 0:
            return f"{amount >> power}{suffix}"
    return str(amount)


def human_bytes(amount: int) -> str:
    """Bytes for a sentence: three digits at most matter to a reader. `3.7Gi`, `512Mi`, `1000`."""
    for suffix, power in reversed(_BINARY.items()):
        if abs(amount) >= 2**power:
            return f"{round(amount / 2**power, 1):g}{suffix}"
    return str(amount)
