"""Kubernetes quantities."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kip.model.quantity import (
    GIB,
    MIB,
    QuantityError,
    format_bytes,
    format_millis,
    human_bytes,
    millis,
    parse,
    whole,
)

LARGEST = 2**63 - 1


# Cases as in the comments and tests of apimachinery's Quantity: they pin the rules, not the code.
@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", "0"),
        ("1", "1"),
        ("+5", "5"),
        ("-5", "-5"),
        ("1.", "1"),
        (".5", "0.5"),
        ("100m", "0.1"),
        ("1n", "0.000000001"),
        ("1u", "0.000001"),
        ("2k", "2000"),
        ("3M", "3000000"),
        ("1E", "1000000000000000000"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("1e-3", "0.001"),
        ("1Ki", "1024"),
        ("1.5Gi", "1610612736"),
        ("0.5Mi", "524288"),
        ("0.1n", "0.000000001"),
        ("-0.1n", "-0.000000001"),
        ("1e-9999", "0.000000001"),
        ("8Ei", str(LARGEST)),
        ("-1e9999", str(-LARGEST)),
        (20, "20"),
        (0.1, "0.1"),
    ],
)
def test_parse(text: str | int | float, amount: str) -> None:
    assert parse(text) == Decimal(amount)


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 Gi", "1gi", "1K", "1GiB", "Gi", "1e", "--1", "1,5Gi", ".", "٣", "1Gi\n", "nan", "inf"],
)
def test_not_a_quantity(text: str) -> None:
    with pytest.raises(QuantityError) as caught:
        parse(text)
    assert str(caught.value) == (
        f"{text!r} is not a quantity: expected a number with an optional suffix, like 500m, 2, 1.5Gi"
    )


@pytest.mark.parametrize("value", [True, float("nan"), float("inf")])
def test_neither_booleans_nor_infinities_are_numbers(value: float) -> None:
    with pytest.raises(QuantityError):
        parse(value)


@pytest.mark.parametrize(
    ("text", "amount"), [("1m", 1), ("0.5", 1), ("-0.5", 0), ("1.2Ki", 1229), ("5Gi", 5 * GIB)]
)
def test_whole_units_are_rounded_up(text: str, amount: int) -> None:
    assert whole(text) == amount


@pytest.mark.parametrize(("text", "amount"), [("1", 1000), ("100u", 1), ("0.1", 100), ("250m", 250)])
def test_millis(text: str, amount: int) -> None:
    assert millis(text) == amount


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0"), (250, "250m"), (1000, "1"), (1500, "1500m"), (64000, "64")]
)
def test_format_millis(amount: int, text: str) -> None:
    assert format_millis(amount) == text


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0"), (1000, "1000"), (1024, "1Ki"), (1536 * MIB, "1536Mi"), (5 * GIB, "5Gi")]
)
def test_format_bytes(amount: int, text: str) -> None:
    assert format_bytes(amount) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0"), (1000, "1000"), (3_972_844_748, "3.7Gi"), (512 * MIB, "512Mi"), (3 * GIB, "3Gi")],
)
def test_human_bytes(amount: int, text: str) -> None:
    assert human_bytes(amount) == text


SCALES = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    **{suffix: Fraction(1000**power) for power, suffix in enumerate("kMGTPE", start=1)},
    **{suffix + "i": Fraction(1024**power) for power, suffix in enumerate("KMGTPE", start=1)},
}


@given(
    st.decimals(min_value=-(10**12), max_value=10**12, allow_nan=False, places=6),
    st.sampled_from(sorted(SCALES)),
)
def test_parse_is_exact(number: Decimal, suffix: str) -> None:
    exact = Fraction(number) * SCALES[suffix]
    nanos = exact * 10**9
    if nanos.denominator != 1:  # away from zero
        nanos = Fraction(int(nanos) + (1 if nanos > 0 else -1))
    expected = min(max(nanos / 10**9, Fraction(-LARGEST)), Fraction(LARGEST))
    assert Fraction(parse(f"{number:f}{suffix}")) == expected


@given(st.integers(min_value=0, max_value=LARGEST))
def test_bytes_survive_being_written(amount: int) -> None:
    assert whole(format_bytes(amount)) == amount


@given(st.integers(min_value=0, max_value=10**9))
def test_millis_survive_being_written(amount: int) -> None:
    assert millis(format_millis(amount)) == amount


@given(st.text(max_size=12))
def test_anything_is_an_amount_or_a_quantity_error(text: str) -> None:
    try:
        amount = parse(text)
    except QuantityError:
        return
    assert amount.is_finite()
    assert whole(text) >= amount
