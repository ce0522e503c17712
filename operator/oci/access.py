"""Whether somebody may pull an image, by asking its registry as that somebody; and remembering the answer for a while."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from kip.model.clock import Clock
from kip.oci.client import Registries
from kip.oci.credentials import Credential, Credentials
from kip.oci.errors import RegistryError, Unreachable
from kip.oci.reference import Reference

#: Seconds for which a registry's yes counts: as long as a tag may lag behind, and a right that was taken away.
REMEMBER_S = 300.0
#: What was refused may be put right at any time. So long it spares a registry the same question of a whole Deployment.
REMEMBER_REFUSED_S = 10.0
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Access:
    """What a registry says of an image and somebody's credentials: a digest, or why not."""

    digest: str = ""
    """What the reference leads to now: of an index, or of the image's own manifest."""
    reason: str = ""
    """CamelCase, as RegistryError.reason; empty where there is a digest."""
    message: str = ""

    @property
    def granted(self) -> bool:
        return bool(self.digest)


class AccessCheck:
    """One HEAD per image and credentials; of many who ask the same at once one does."""

    def __init__(self, registries: Registries, clock: Clock) -> None:
        self._registries = registries
        self._clock = clock
        self._answers: OrderedDict[tuple[str, str], tuple[Access, float]] = OrderedDict()
        self._asking: dict[tuple[str, str], asyncio.Task[Access]] = {}

    async def may_pull(self, reference: Reference, credentials: Credentials) -> Access:
        """Never raises RegistryError: an image that cannot be checked is one that must not be used."""
        try:
            logins = await credentials.of(reference.repository)
        except RegistryError as error:
            return Access(reason=error.reason, message=str(error))
        # Not only who asks counts: the same password for another repository is another key, since the reference is in it.
        key = (str(reference), _fingerprint(logins))
        answer, until = self._answers.get(key, (None, 0.0))
        if answer is not None and self._clock.monotonic() < until:
            self._answers.move_to_end(key)
            return answer
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._ask(key, reference, logins))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        # Whoever gives up waiting takes the answer from nobody else.
        return await asyncio.shield(task)

    async def _ask(
        self, key: tuple[str, str], reference: Reference, logins: tuple[Credential, ...]
    ) -> Access:
        asked = self._clock.monotonic()
        try:
            answer = Access(digest=await self._registries.resolve(reference, _Given(logins)))
            lasts_s = REMEMBER_S
        except RegistryError as error:
            answer = Access(reason=error.reason, message=str(error))
            # A registry that was away says nothing about anybody's rights.
            lasts_s = 0.0 if isinstance(error, Unreachable) else REMEMBER_REFUSED_S
        self._answers[key] = (answer, asked + lasts_s)
        self._answers.move_to_end(key)
        while len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)
        return answer


class _Given:
    """Credentials that have been looked up already."""

    def __init__(self, logins: tuple[Credential, ...]) -> None:
        self._logins = logins

    async def of(self, _repository: object) -> tuple[Credential, ...]:
        return self._logins


def _fingerprint(logins: tuple[Credential, ...]) -> str:
    return hashlib.sha256("\0".join(login.fingerprint for login in logins).encode()).hexdigest()
