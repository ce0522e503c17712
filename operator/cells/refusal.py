"""What a refusal of EC2 means for what was asked: a table, without effects."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kip.cloud.errors import (
    CloudError,
    InsufficientCapacity,
    InvalidRequest,
    NotAuthorized,
    NotFound,
    QuotaExceeded,
    Throttled,
    Unreachable,
)

#: EC2's code where parameters do not go with each other, or not with more than one instance.
NOT_TOGETHER = "InvalidParameterCombination"
#: A launch throttled so often in a row wants more tokens than come in.
_TOO_LARGE_AFTER = 2
# A thousand cells behind an empty bucket wait for minutes, and each look at one costs the process a millisecond.
_BEHIND_OTHERS_S = 5.0


class Then(Enum):
    """What becomes of the intent, and what is done next."""

    REPEAT = "it stays: the same call again, after the rest"
    SMALLER = "it is taken back: the same offer again, for fewer cells at once"
    NEXT_OFFER = "it is taken back: the offer is left out for a while, the next one is tried at once"
    REST = "it is taken back: everything is looked at again, after the rest"


@dataclass(frozen=True)
class Verdict:
    """`rest_s` in seconds: by what must change before asking again makes sense."""

    then: Then
    rest_s: float
    forget_site: bool = False
    """What is remembered of subnets, groups and images is wrong."""


_VERDICTS: tuple[tuple[type[CloudError], Verdict], ...] = (
    # It may have taken effect: with the same token the same instances are returned.
    (Unreachable, Verdict(Then.REPEAT, 2.0)),
    # The token bucket; RunInstances' gains two calls and two instances a second.
    (Throttled, Verdict(Then.REPEAT, 1.0)),
    # Somebody's instance must end. What was refused is left out for three minutes; there may be offers not tried yet.
    (InsufficientCapacity, Verdict(Then.NEXT_OFFER, 15.0)),
    # One of this account's instances must end; a smaller type, the other market or another subnet may still do.
    (QuotaExceeded, Verdict(Then.NEXT_OFFER, 30.0)),
    # A person must change a policy, and looks whether that was it.
    (NotAuthorized, Verdict(Then.REST, 20.0)),
    # A person must change the configuration.
    (InvalidRequest, Verdict(Then.REST, 60.0)),
    # An image was replaced, a group or subnet deleted, since we looked.
    (NotFound, Verdict(Then.REST, 20.0, forget_site=True)),
    (CloudError, Verdict(Then.REST, 15.0)),
)


def judge(error: CloudError, *, count: int = 1, throttled: int = 0) -> Verdict:
    """What to do about a refused launch of `count` instances that was throttled `throttled` times in a row.

    `count` is 0 for a cell that was not even asked for, because others had just been refused.
    """
    if count == 0 and isinstance(error, Throttled):
        return Verdict(Then.REST, _BEHIND_OTHERS_S)
    if smaller_helps(error, count=count, throttled=throttled):
        # A throttled call wants tokens that come with time; a quota may have room for fewer right now.
        return Verdict(Then.SMALLER, 1.0 if isinstance(error, Throttled) else 0.0)
    return next(verdict for kind, verdict in _VERDICTS if isinstance(error, kind))


def smaller_helps(error: CloudError, *, count: int, throttled: int = 0) -> bool:
    """May EC2 grant to fewer what it refuses to `count`?

    With MinCount=1 it starts as many as there is capacity for, but quotas, free addresses and the token bucket of
    instances (1000, and two more a second) it checks for all that were asked for.
    """
    if count <= 1:
        return False
    if isinstance(error, Throttled):
        # It was refused at the door, so nothing was launched. (A try of the SDK's own before that may have been, and its
        # answer lost: then no Cell claims the instances, and the sweep ends them.)
        return throttled >= _TOO_LARGE_AFTER
    return isinstance(error, QuotaExceeded) or error.code == NOT_TOGETHER


def rest_s(error: CloudError) -> float:
    """Seconds before something else that was refused is asked again."""
    return next(verdict.rest_s for kind, verdict in _VERDICTS if isinstance(error, kind))
