"""Columns and sums for people."""

from __future__ import annotations

from kip.top import text
from kip.top.rows import Row, totals

WEB = Row(
    cell="kip-1",
    namespace="shop",
    pod="web",
    node="kip-0",
    phase="Running",
    age_s=3725,
    instance_id="i-1",
    instance_type="t3.nano",
    market="spot",
    zone="us-east-1a",
    usd_per_hour=0.0016,
    usd_so_far=0.0017,
    trouble="",
)
UNPRICED = Row(**{**WEB.__dict__, "pod": "odd", "usd_per_hour": None, "usd_so_far": None, "trouble": "X: y"})
NONE_YET = Row(**{**UNPRICED.__dict__, "pod": "new", "phase": "Pending", "instance_id": None, "zone": None})


def test_a_table() -> None:
    assert text.table([WEB, UNPRICED, NONE_YET]) == [
        "NAMESPACE  POD  PHASE     AGE  INSTANCE-TYPE  MARKET  ZONE           $/H    COST  CELL",
        "shop       web  Running  1h2m  t3.nano        spot    us-east-1a  0.0016  0.0017  kip-1",
        "shop       odd  Running  1h2m  t3.nano        spot    us-east-1a       ?       ?  kip-1",
        "shop       new  Pending  1h2m  t3.nano        spot    -                -       -  kip-1",
    ]


def test_a_wide_one_tells_troubles() -> None:
    head, web, odd = text.table([WEB, UNPRICED], wide=True)
    assert head.endswith("NODE   INSTANCE-ID  TROUBLE")
    assert web.endswith("kip-0  i-1          -")
    assert odd.endswith("kip-0  i-1          X: y")


def test_the_sum() -> None:
    assert text.summary(totals([])) == "0 cells; $0.0000 an hour, $0.0000 so far"
    assert text.summary(totals([WEB])) == "1 cell (1 Running); $0.0016 an hour, $0.0017 so far"
    assert text.summary(totals([WEB, UNPRICED, NONE_YET])) == (
        "3 cells (1 Pending, 2 Running); $0.0016 an hour, $0.0017 so far (without 1 of unknown price)"
    )
