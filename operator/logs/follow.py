"""What is new in the answers about one cell's journal: pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

#: Lines of each later answer: more than a kubelet writes in a few seconds, and far less than may be asked for.
MOST_NEW_LINES = 2000

# As `journalctl -o short-iso` begins an entry; the further lines of a message are indented.
_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}[+-][0-9]{2}:?[0-9]{2}) ", re.ASCII)
# What follows is a file, which has no times (kip.kubelet.systemlogs).
_FILE = re.compile(r"^-- /.*\n", re.MULTILINE)


@dataclass
class Following:
    """Compares each answer with the one before.

    Times are of whole seconds, so every answer brings the last second of the one before again: `since` says which to
    ask for, and what was there already is counted, as the same line may come twice in a second.
    """

    since: datetime | None = None
    _seen: Counter[str] = field(default_factory=Counter)
    _file: list[str] = field(default_factory=list)
    _answers: int = 0

    def fresh(self, answer: str) -> tuple[str, bool]:
        """What is new of it; and whether lines in between are missing, because there were too many."""
        self._answers += 1
        marker = _FILE.search(answer)
        journal, file = (answer[: marker.start()], answer[marker.end() :]) if marker else (answer, "")
        entries = _entries(journal)
        new, missing = self._unseen(entries, len(journal.splitlines()))
        lines = file.splitlines(keepends=True)
        new += _appended(self._file, lines)
        times = [time for entry in entries if (time := _time(entry)) is not None]
        self.since = max([*times, *([self.since] if self.since else [])], default=None)
        self._seen = Counter(entries) if entries else self._seen
        self._file = lines or self._file
        if self._answers == 1:
            return answer, False
        return "".join(new), missing

    def _unseen(self, entries: Sequence[str], lines: int) -> tuple[list[str], bool]:
        left = self._seen.copy()
        new: list[str] = []
        known = False
        for entry in entries:
            if left[entry]:
                left[entry] -= 1
                if not known and self._answers == 2:
                    # The first answer was as short as somebody wanted it: what was before it is not new.
                    new.clear()
                known = True
            else:
                new.append(entry)
        return new, bool(self._seen) and not known and lines >= MOST_NEW_LINES


def _entries(journal: str) -> list[str]:
    """Each with all its lines. What is before the first is the end of one that was cut."""
    found: list[str] = []
    for line in journal.splitlines(keepends=True):
        if _TIME.match(line):
            found.append(line)
        elif found:
            found[-1] += line
    return found


def _time(entry: str) -> datetime | None:
    match = _TIME.match(entry)
    try:
        return datetime.fromisoformat(match[1]) if match else None
    except ValueError:
        return None


def _appended(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """What was added to a file of which both are the last lines, perhaps of different number."""
    if not old or list(new[: len(old)]) == list(old):
        return list(new[len(old) :])
    for end in range(len(new), 0, -1):
        both = min(end, len(old))
        if list(new[end - both : end]) == list(old[-both:]):
            return list(new[end:])
    return list(new)
