"""What images are built for: asked of their registries in the background, and remembered.

A launch waits for the first question about an image, and for a short time only; a pod that comes later waits for
nothing. What a registry does not tell is not known, and such an image is taken for one that runs anywhere.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from kip.kube.errors import KubeError
from kip.model.backoff import Backoff
from kip.model.clock import Clock
from kip.oci.credentials import CredentialError, Credentials
from kip.oci.errors import RegistryError
from kip.oci.reference import InvalidName, Reference, parse
from kip.pods.architecture import Built, linux
from kip.pods.images import images

log = structlog.get_logger(__name__)

Pod = Mapping[str, Any]

# Some 300 bytes each.
_KEPT = 2000
# A tag is moved to an image for other architectures once in a blue moon, and each question counts against Docker Hub's
# limit of pulls (100 in six hours for who does not log in). The old answer counts until the new one is there.
_FRESH_S = 6 * 3600.0
# Who has a digest need not ask again: it stands for one image for ever.
_FOR_EVER = float("inf")
_FAILED = Backoff(first_s=60.0, limit_s=3600.0)
_LONGEST_S = 60.0
_AT_ONCE = 8

_FORESEEN = (RegistryError, CredentialError, KubeError, TimeoutError)
_NOT_ASKED_YET = Built(None, "its registry has not answered yet")


class Ask(Protocol):
    """kip.oci.client.Registries.platforms"""

    def __call__(self, reference: Reference, credentials: Credentials, /) -> Awaitable[tuple[str, ...]]:
        """Platforms like linux/amd64. Raises RegistryError."""
        ...


@dataclass(slots=True)
class _Image:
    """One image, as pods of one namespace with the same pull secrets see it."""

    built: Built = _NOT_ASKED_YET
    due: float = 0.0
    failures: int = 0
    asking: asyncio.Task[None] | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Nobody waits (any more): there is an answer, or it takes too long."""


class ImagePlatforms:
    """Knows, per image and whoever may pull it, the architectures that it is built for."""

    def __init__(
        self,
        ask: Ask,
        logins: Callable[[Pod], Awaitable[Credentials]],
        clock: Clock,
        *,
        patience_s: float,
    ) -> None:
        """`logins` are what a pod's images are pulled with. A launch waits for `patience_s` at most; with 0 nobody is
        asked."""
        self._ask = ask
        self._logins = logins
        self._clock = clock
        self._patience_s = patience_s
        self._images: OrderedDict[tuple[str, tuple[str, ...], str], _Image] = OrderedDict()
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def of(self, pod: Pod) -> dict[str, Built]:
        """What is known of each of the pod's images, by its name; nothing when nobody is asked."""
        if self._patience_s <= 0:
            return {}
        named = {name: self._of_image(pod, name) for name in images(pod)}
        for image in named.values():
            await image.settled.wait()
        return {name: image.built for name, image in named.items()}

    async def close(self) -> None:
        """Stop asking."""
        tasks = [image.asking for image in self._images.values() if image.asking is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _of_image(self, pod: Pod, name: str) -> _Image:
        """What is known by now; asked for if there is need."""
        try:
            reference = parse(name)
        except InvalidName as error:
            image = _Image(Built(None, str(error)))
            image.settled.set()
            return image
        secrets = tuple(entry.get("name", "") for entry in pod["spec"].get("imagePullSecrets") or ())
        key = (pod["metadata"]["namespace"], secrets, str(reference))
        image = self._images.setdefault(key, _Image())
        self._images.move_to_end(key)
        if image.asking is None and self._clock.monotonic() >= image.due:
            image.asking = asyncio.create_task(
                self._find_out(image, pod, reference), name=f"platforms of {name}"
            )
        self._forget_some()
        return image

    def _forget_some(self) -> None:
        if len(self._images) <= _KEPT:
            return
        idle = [key for key, image in self._images.items() if image.asking is None]
        for key in idle[: len(self._images) - _KEPT]:
            del self._images[key]

    async def _find_out(self, image: _Image, pod: Pod, reference: Reference) -> None:
        patience = asyncio.create_task(self._lose_patience(image))
        try:
            async with self._places, asyncio.timeout(_LONGEST_S):
                platforms = await self._ask(reference, await self._logins(pod))
        except Exception as error:
            # Not only what is foreseen: whatever a registry answers, the pod is served.
            unforeseen = not isinstance(error, _FORESEEN)
            self._not_known(image, reference, str(error) or "its registry does not answer", unforeseen)
        else:
            image.built = Built(linux(platforms))
            image.failures = 0
            image.due = _FOR_EVER if reference.digest else self._clock.monotonic() + _FRESH_S
        finally:
            image.asking = None
            image.settled.set()
            patience.cancel()

    def _not_known(self, image: _Image, reference: Reference, why: str, unforeseen: bool) -> None:
        """What was known before still counts."""
        tell = log.warning if unforeseen else log.debug
        tell("an image's platforms are not known", image=str(reference), error=why, exc_info=unforeseen)
        if image.built.architectures is None:
            image.built = Built(None, why)
        image.due = self._clock.monotonic() + _FAILED.delay_s(image.failures)
        image.failures += 1

    async def _lose_patience(self, image: _Image) -> None:
        await self._clock.sleep(self._patience_s)
        image.settled.set()
