"""Everything the local AWS remembers, and how it survives the end of its process."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import moto
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.efs.models import efs_backends

from kip.local.aws.backend import LocalBackend, Site
from kip.local.aws.efs import LocalEfs
from kip.local.aws.instance import LocalInstance

#: EC2 shows a terminated instance for about an hour.
TERMINATED_VISIBLE = 3600.0

#: A saved state is moto's objects as they are: other versions of the code could not read them.
_FORMAT = ("kip-local-aws-3", moto.__version__, sys.version_info[:2])


class StateError(Exception):
    """The saved state cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What a client token was used for."""

    fingerprint: str
    """Of the call's parameters."""
    reservation_id: str


@dataclass(slots=True)
class _Saved:
    """What is on disk."""

    backend: LocalBackend
    efs: LocalEfs
    launches: dict[str, Launch] = field(default_factory=dict)
    revision: int = 0
    boot_delay: float = 0.0
    launch_tags: dict[str, str] = field(default_factory=dict)


class Account:
    """One account in one region. Use it only while holding `lock`."""

    def __init__(self, site: Site, state_file: Path | None) -> None:
        """Go on from `state_file` if it exists; with None nothing outlives the process.

        Raises:
            StateError: the file is from another version or another network.
        """
        self.lock = threading.RLock()
        self.max_grant: int | None = None
        """Most instances that the call being served may get; None without a limit."""
        self._file = state_file
        self._changed = threading.Condition(self.lock)
        self._saved = _load(state_file, site) or _Saved(
            LocalBackend(DEFAULT_ACCOUNT_ID, site), LocalEfs(site.region, DEFAULT_ACCOUNT_ID)
        )
        ec2_backends[DEFAULT_ACCOUNT_ID][site.region] = self._saved.backend
        efs_backends[DEFAULT_ACCOUNT_ID][site.region] = self._saved.efs

    @property
    def backend(self) -> LocalBackend:
        return self._saved.backend

    @property
    def launches(self) -> dict[str, Launch]:
        """Client token to what it was used for."""
        return self._saved.launches

    @property
    def revision(self) -> int:
        """Grows with every change of an instance."""
        return self._saved.revision

    @property
    def boot_delay(self) -> float:
        """Seconds an instance stays pending."""
        return self._saved.boot_delay

    @boot_delay.setter
    def boot_delay(self, seconds: float) -> None:
        self._saved.boot_delay = seconds
        self.save()

    @property
    def efs_delay(self) -> float:
        """Seconds that a file system or mount target takes to come, or to go."""
        return self._saved.efs.delay

    @efs_delay.setter
    def efs_delay(self, seconds: float) -> None:
        self._saved.efs.delay = seconds
        self.save()

    @property
    def launch_tags(self) -> dict[str, str]:
        """Tags that instances get besides those they are launched with."""
        return self._saved.launch_tags

    @launch_tags.setter
    def launch_tags(self, tags: dict[str, str]) -> None:
        self._saved.launch_tags = tags
        self.save()

    @contextmanager
    def serving(self, *, changes: bool) -> Iterator[None]:
        """Hold the account for one API call. A call that `changes` it is on disk before it is answered."""
        with self.lock:
            self._pass_time()
            yield
            if changes:
                self.changed()

    def changed(self) -> None:
        """Save, and tell everybody who waits for a change."""
        self._saved.revision += 1
        self.save()
        self._changed.notify_all()

    def save(self) -> None:
        """Replace the state file as a whole: a kill at any moment leaves the old or the new one."""
        if self._file is None:
            return
        partial = self._file.with_suffix(".new")
        # User data holds the first SSH host key of a batch: nobody else's to read.
        partial.touch(mode=0o600)
        partial.write_bytes(pickle.dumps((_FORMAT, self._saved)))
        partial.replace(self._file)

    def wait_for_change(self, revision: int, timeout: float) -> None:
        """Return when the revision differs from the given one, or after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self.lock:
            self._pass_time()
            while self.revision == revision and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(min(left, self._next_boot()))
                self._pass_time()

    def instance(self, instance_id: str) -> LocalInstance | None:
        """The instance with that id, if EC2 still knows it."""
        return next((i for i in self.backend.instances() if i.id == instance_id), None)

    def _pass_time(self) -> None:
        """Let happen what was due: boots that are over, terminated instances that nobody may see any more."""
        now = time.time()
        started = [instance for instance in self.backend.instances() if instance.run_if_due(now)]
        if self.backend.forget_terminated(now - TERMINATED_VISIBLE) or started:
            self.changed()

    def _next_boot(self) -> float:
        """Seconds until the next pending instance runs."""
        due = [i.runs_at for i in self.backend.instances() if i.state == "pending" and i.runs_at is not None]
        return max(0.0, min(due) - time.time()) if due else TERMINATED_VISIBLE


def fingerprint(parameters: Mapping[str, Any]) -> str:
    """Of a call's parameters, the same for the same ones in any order."""
    text = json.dumps(parameters, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _load(state_file: Path | None, site: Site) -> _Saved | None:
    if state_file is None or not state_file.exists():
        return None
    if state_file.stat().st_uid != os.geteuid():
        raise StateError(f"{state_file} belongs to another user and is not read")
    try:
        found_format, saved = pickle.loads(state_file.read_bytes())
    except Exception as error:
        raise StateError(
            f"{state_file} cannot be read ({error}): take the local world down and up again"
        ) from error
    if found_format != _FORMAT:
        raise StateError(
            f"{state_file} was written by {found_format}, this is {_FORMAT}: take the local world down and up again"
        )
    if not isinstance(saved, _Saved) or saved.backend.site != site:
        raise StateError(f"{state_file} is of another network: take the local world down and up again")
    return saved
