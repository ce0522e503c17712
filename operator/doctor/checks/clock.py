"""Of the clock: AWS refuses calls of a machine whose clock is wrong, and then nothing else that it says makes sense."""

from __future__ import annotations

from collections.abc import Iterator

from kip.doctor.checks.remedies import not_known
from kip.doctor.facts import Facts, Unanswered
from kip.doctor.finding import Finding, Remedy, failure, ok, warning

#: Seconds. AWS takes signatures for five minutes (Signature Version 4); what is a minute away from that is as good as lost.
REFUSED = 240.0
#: A clock that is kept by NTP is right to a fraction of a second; the answers' dates are cut to one.
ODD = 10.0

_REMEDY = Remedy(
    text="set the clock of this machine, or of the node that the pod is on, by NTP",
    command="timedatectl set-ntp true; chronyc tracking",
)


def clock(facts: Facts) -> Iterator[Finding]:
    """By everybody's clock that could be asked."""
    for whose, ahead in facts.clocks.items():
        what = f"clock of {whose}"
        if isinstance(ahead, Unanswered):
            yield not_known(facts, what, ahead)
            continue
        side = "ahead of it" if ahead > 0 else "behind it"
        if abs(ahead) >= REFUSED:
            yield failure(
                what,
                f"this machine is {abs(ahead):.0f} s {side}, and calls are refused from 300 s on",
                _REMEDY,
            )
        elif abs(ahead) >= ODD:
            yield warning(what, f"this machine is {abs(ahead):.0f} s {side}", _REMEDY)
        else:
            yield ok(what, f"the same within {ODD:g} s")
