"""What has been used and what AWS knows of it: pure. One ledger for all virtual nodes and processes.

AWS takes one record for each hour and dimension, and from a pod only. So usage of all nodes is added up in one place, and
a record's content is written there before it is sent: whoever comes next sends the very same record, with the same client
token, and AWS takes it once.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from kip.model.clock import from_rfc3339, to_rfc3339

HOUR = timedelta(hours=1)
_HOUR_S = 3600
#: A process that has begun to send a record is not disturbed for so long; it may be waiting for AWS.
TAKE_OVER_AFTER = timedelta(minutes=10)
# Of the client tokens, which have to be UUIDs: any constant one.
_TOKENS = uuid.UUID("5d1f3c0e-52a9-4b55-8f6e-0d6f8d3f7a11")


@dataclass(frozen=True)
class Record:
    """One hour's usage, as it is sent."""

    timestamp: datetime
    """Within the hour, and not before the use began: AWS refuses that."""
    quantity: int
    """Whole cell-hours."""
    token: str
    by: str
    """Identity of the process that sends it."""
    since: datetime
    """When it began to."""
    unsure: bool = True
    """AWS may have it: a call may have been made, and AWS has not refused it."""


@dataclass(frozen=True)
class Ledger:
    """Seconds of cells; a second that is in here was used once and will be told once."""

    began: datetime | None = None
    """When the use began to be counted."""
    up_to: Mapping[str, datetime] = field(default_factory=dict)
    """By virtual node: until when its cells are in `cell_seconds`, or were told."""
    cell_seconds: float = 0.0
    """Counted and not in any record."""
    told: datetime | None = None
    """The beginning of the last hour for which AWS has a record."""
    sending: Record | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "began": _text(self.began),
            "upTo": {node: to_rfc3339(moment) for node, moment in sorted(self.up_to.items())},
            "cellSeconds": round(self.cell_seconds, 3),
            "told": _text(self.told),
            "sending": None
            if self.sending is None
            else {
                "timestamp": to_rfc3339(self.sending.timestamp),
                "quantity": self.sending.quantity,
                "token": self.sending.token,
                "by": self.sending.by,
                "since": to_rfc3339(self.sending.since),
                "unsure": self.sending.unsure,
            },
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Ledger:
        """Raises KeyError, TypeError or ValueError for what `to_dict` has not written."""
        sending = d["sending"]
        return cls(
            began=_moment(d["began"]),
            up_to={node: from_rfc3339(text) for node, text in d["upTo"].items()},
            cell_seconds=float(d["cellSeconds"]),
            told=_moment(d["told"]),
            sending=None
            if sending is None
            else Record(
                timestamp=from_rfc3339(sending["timestamp"]),
                quantity=int(sending["quantity"]),
                token=sending["token"],
                by=sending["by"],
                since=from_rfc3339(sending["since"]),
                unsure=bool(sending["unsure"]),
            ),
        )


def added(ledger: Ledger, node: str, until: datetime, cell_seconds: float) -> Ledger:
    """With the use of a node's cells from `up_to` to `until`."""
    if until < ledger.up_to.get(node, until):
        return ledger
    return replace(
        ledger,
        began=ledger.began or until,
        up_to={**ledger.up_to, node: until},
        cell_seconds=ledger.cell_seconds + cell_seconds,
    )


def due(ledger: Ledger, now: datetime, *, by: str, product: str, dimension: str) -> Ledger:
    """With the record of the hour that has just ended, if it is time for one; hours without use are told too.

    What hours before it have left, because nobody was there or AWS was not, is in it: nothing is told of an hour twice.
    """
    hour = floor(now) - HOUR
    if ledger.sending is not None or ledger.began is None or hour < floor(ledger.began):
        return ledger
    if ledger.told is not None and ledger.told >= hour:
        return ledger
    timestamp = max(hour, ledger.began)
    quantity = int(ledger.cell_seconds // _HOUR_S)
    # One that is told as lost is made anew with another content, and then must not have the same token.
    told = f"{product}/{dimension}/{to_rfc3339(timestamp)}/{quantity}/{by}/{to_rfc3339(now)}"
    record = Record(timestamp, quantity, str(uuid.uuid5(_TOKENS, told)), by, now)
    return replace(ledger, cell_seconds=ledger.cell_seconds - quantity * _HOUR_S, sending=record)


def mine(ledger: Ledger, now: datetime, *, by: str) -> Ledger:
    """With the record that is being sent in this process's hands, if it may take it."""
    record = ledger.sending
    if record is None or record.by == by or now - record.since < TAKE_OVER_AFTER:
        return ledger
    return replace(ledger, sending=replace(record, by=by, since=now))


def settled(ledger: Ledger, record: Record) -> Ledger:
    """AWS has the record."""
    if ledger.sending is None or ledger.sending.token != record.token:
        return ledger
    return replace(ledger, sending=None, told=floor(record.timestamp))


def refused(ledger: Ledger, record: Record) -> Ledger:
    """AWS has said that it does not have the record."""
    if ledger.sending is None or ledger.sending.token != record.token:
        return ledger
    return replace(ledger, sending=replace(ledger.sending, unsure=False))


def doubted(ledger: Ledger, record: Record) -> Ledger:
    """It is about to be sent (again): from now on AWS may have it."""
    if ledger.sending is None or ledger.sending.token != record.token:
        return ledger
    return replace(ledger, sending=replace(ledger.sending, unsure=True))


def too_late(ledger: Ledger, record: Record) -> Ledger:
    """AWS no longer takes a record for that hour. Its use goes into the next one, unless AWS may have it already."""
    if ledger.sending is None or ledger.sending.token != record.token:
        return ledger
    back = 0 if ledger.sending.unsure else record.quantity * _HOUR_S
    return replace(ledger, sending=None, cell_seconds=ledger.cell_seconds + back)


def floor(moment: datetime) -> datetime:
    """The beginning of its hour."""
    return moment.replace(minute=0, second=0, microsecond=0)


def _text(moment: datetime | None) -> str | None:
    return to_rfc3339(moment) if moment is not None else None


def _moment(text: str | None) -> datetime | None:
    return from_rfc3339(text) if text is not None else None
