"""Which routes are made, moved and taken away, and which are never touched."""

from __future__ import annotations

from dataclasses import replace

from kip.cells.routeplan import Claim, Plan, plan, route_table_of
from kip.cloud.routes import Route, RouteTable

NET, OTHER_NET = "172.20.0.0/16", "172.21.0.0/16"
LOCAL = Route("10.0.0.0/16", to="local")


def table(
    id_: str = "rtb-main", *routes: Route, main: bool = True, subnets: tuple[str, ...] = ()
) -> RouteTable:
    return RouteTable(id_, "vpc-1", main, frozenset(subnets), (LOCAL, *routes))


def to(interface: str, cidr: str = NET, *, blackhole: bool = False) -> Route:
    return Route(cidr, network_interface_id=interface, blackhole=blackhole, to=interface)


def claim(cell: str, *wanted: str, recorded: tuple[str, ...] = (), ended: bool = False) -> Claim:
    cidrs = frozenset(wanted)
    return Claim(cell, f"eni-{cell}", "vpc-1", "subnet-1", cidrs | set(recorded), cidrs, ended)


def told(made: Plan) -> list[tuple[str, str, str, str]]:
    return [(step.action, step.table_id, step.cidr, step.network_interface_id) for step in made.steps]


def test_a_wanted_route_is_made_once() -> None:
    first = plan([table()], [claim("a", NET, OTHER_NET)])
    assert told(first) == [
        ("create", "rtb-main", NET, "eni-a"),
        ("create", "rtb-main", OTHER_NET, "eni-a"),
    ]
    there = table("rtb-main", to("eni-a"), to("eni-a", OTHER_NET))
    assert plan([there], [claim("a", NET, OTHER_NET)]) == Plan()


def test_it_goes_into_the_subnets_own_table_else_into_the_main_one() -> None:
    """The first Kip made no route, and said nothing, where the main table counts."""
    own = table("rtb-own", main=False, subnets=("subnet-1",))
    other = table("rtb-other", main=False, subnets=("subnet-2",))
    foreign = replace(table("rtb-foreign"), vpc_id="vpc-2")
    assert told(plan([foreign, table(), other, own], [claim("a", NET)]))[0][1] == "rtb-own"
    assert told(plan([foreign, table(), other], [claim("a", NET)]))[0][1] == "rtb-main"
    assert route_table_of("subnet-1", "vpc-3", [table(), other]) is None


def test_when_the_subnet_gets_another_table_the_route_moves() -> None:
    before = table("rtb-main", to("eni-a"))
    own = table("rtb-own", main=False, subnets=("subnet-1",))
    assert told(plan([before, own], [claim("a", NET)])) == [
        ("delete", "rtb-main", NET, "eni-a"),
        ("create", "rtb-own", NET, "eni-a"),
    ]


def test_what_is_no_longer_wanted_goes() -> None:
    there = table("rtb-main", to("eni-a"), to("eni-a", OTHER_NET))
    made = plan([there], [claim("a", NET, recorded=(OTHER_NET,))])
    assert told(made) == [("delete", "rtb-main", OTHER_NET, "eni-a")]
    assert "no longer wants" in made.steps[0].reason


def test_the_routes_of_an_ended_cell_go_also_when_its_interface_is_gone() -> None:
    for blackhole in (False, True):
        there = table("rtb-main", to("eni-a", blackhole=blackhole))
        assert told(plan([there], [claim("a", NET, ended=True)])) == [("delete", "rtb-main", NET, "eni-a")]


def test_a_range_passes_on_when_its_holder_has_ended() -> None:
    there = table("rtb-main", to("eni-a"))
    made = plan([there], [claim("a", NET, ended=True), claim("b", NET), claim("c", NET)])
    assert told(made) == [("replace", "rtb-main", NET, "eni-b")]
    assert "cell a has ended" in made.steps[0].reason
    (refusal,) = made.refusals
    assert refusal.network_interface_id == "eni-c"
    assert "cell b" in refusal.reason


def test_who_has_a_range_keeps_it_and_others_wait() -> None:
    there = table("rtb-main", to("eni-b"))
    made = plan([there], [claim("a", NET), claim("b", NET)])
    assert made.steps == ()
    (refusal,) = made.refusals
    assert refusal.network_interface_id == "eni-a"
    assert "leads to cell b already" in refusal.reason


def test_of_two_who_want_a_free_range_the_first_gets_it() -> None:
    made = plan([table()], [claim("a", NET), claim("b", NET)])
    assert told(made) == [("create", "rtb-main", NET, "eni-a")]
    assert [refusal.network_interface_id for refusal in made.refusals] == ["eni-b"]


def test_what_others_made_is_neither_replaced_nor_taken_away() -> None:
    for foreign in (Route(NET, to="tgw-1"), to("eni-else"), to("eni-else", blackhole=True)):
        made = plan([table("rtb-main", foreign)], [claim("a", NET)])
        assert made.steps == ()
        assert f"to {foreign.to}" in made.refusals[0].reason
        assert plan([table("rtb-main", foreign)], [claim("a", NET, ended=True)]) == Plan()
    assert "to local" in plan([table()], [claim("a", LOCAL.cidr)]).refusals[0].reason


def test_what_others_have_led_to_a_cell_stays() -> None:
    """The cell has never recorded that range."""
    there = table("rtb-main", to("eni-a", OTHER_NET))
    for ended in (False, True):
        assert "delete" not in {step.action for step in plan([there], [claim("a", NET, ended=ended)]).steps}


def test_while_it_is_not_known_what_a_cell_wants_its_routes_stay_and_none_is_made() -> None:
    unknown = Claim("a", "eni-a", "vpc-1", "subnet-1", frozenset((NET, OTHER_NET)), None)
    assert plan([table("rtb-main", to("eni-a"))], [unknown]) == Plan()


def test_an_abandoned_machines_routes_go() -> None:
    there = table("rtb-main", to("eni-x"), to("eni-y", OTHER_NET))
    assert told(plan([there], [], ["eni-x"])) == [("delete", "rtb-main", NET, "eni-x")]
