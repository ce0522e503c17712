"""Sees to one wanted image: fetched as a pod that wants it, and that pod is told what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import structlog

from kip.imagecache.fetch import Done, Sum, Tell
from kip.imagecache.queue import Verdict
from kip.imagecache.wants import Want
from kip.images.errors import CachingError, LayerRefused, VolumeFull, VolumeUnavailable
from kip.images.pull import LayerProgress
from kip.kube.errors import KubeError
from kip.model.clock import Clock
from kip.model.quantity import human_bytes
from kip.observe.imagecache import ImageCacheMetrics
from kip.oci.credentials import CredentialError, Credentials
from kip.oci.errors import Denied, NotAnImage, NotFound, RegistryError
from kip.oci.reference import Reference

log = structlog.get_logger(__name__)

# Between two lines about the same image in the log.
_TELL_EVERY_S = 10.0
# What nobody can mend by waiting: the image itself would have to be another one.
_HOPELESS = (NotAnImage, LayerRefused)


class Fetch(Protocol):
    """Makes sure that an image is on the volume (kip.imagecache.fetch)."""

    async def __call__(
        self, reference: Reference, platform: str, credentials: Credentials, tell: Tell
    ) -> Done: ...


class Logins(Protocol):
    """As whom pods' images are asked for (kip.images.logins.PodLogins)."""

    async def of(self, pod: Mapping[str, Any]) -> Credentials: ...


class Teller(Protocol):
    """Who records events (kip.kube.events.EventRecorder)."""

    async def tell(
        self, about: Mapping[str, Any], kind: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None: ...


class Caching:
    """What a queue does with each want."""

    def __init__(
        self,
        fetch: Fetch,
        logins: Logins,
        *,
        own: Credentials,
        events: Teller,
        metrics: ImageCacheMetrics,
        clock: Clock,
        trouble: Callable[[int], None],
    ) -> None:
        """`own` is for images that the configuration names. `trouble` hears that the volume is full or away, and how many
        bytes were to come."""
        self._fetch = fetch
        self._logins = logins
        self._own = own
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._trouble = trouble

    async def __call__(self, want: Want) -> Verdict:
        """Never raises what can go wrong with an image, a registry, the volume or the API server."""
        progress = _Told(want, self._clock)
        try:
            done = await self._as_somebody(want, progress.tell)
        except (CachingError, RegistryError, CredentialError, KubeError) as error:
            if isinstance(error, VolumeFull | VolumeUnavailable):
                self._trouble(progress.sum.total)
            return await self._failed(want, error)
        self._metrics.looked_at("cached" if done.fetched_bytes else "present")
        if done.fetched_bytes:
            self._metrics.fetched(done.fetched_bytes, done.seconds)
            text = f"{human_bytes(done.fetched_bytes)} in {done.seconds:.0f} s"
            log.info("image cached", **_what(want), digest=done.digest, took=text)
            await self._tell(want, "Normal", "ImageCached", f"image {want.reference} cached: {text}")
        return "done"

    async def _as_somebody(self, want: Want, tell: Tell) -> Done:
        """As each of the pods in turn, until one may; and as Kip, if the configuration names it."""
        for number, pod in enumerate(want.pods, 1):
            try:
                credentials = await self._logins.of(pod)
                return await self._fetch(want.reference, want.platform, credentials, tell)
            except (Denied, NotFound, CredentialError, KubeError):
                if number == len(want.pods) and not want.listed:
                    raise
        return await self._fetch(want.reference, want.platform, self._own, tell)

    async def _failed(self, want: Want, error: CachingError | RegistryError | Exception) -> Verdict:
        reason = reason_of(error)
        self._metrics.looked_at(reason)
        log.warning("image not cached", **_what(want), reason=reason, error=str(error))
        advice = advice_for(error)
        text = f"image {want.reference} is not cached: {error}" + (f"; {advice}" if advice else "")
        # That the API server does not give a secret (yet: it learns of a binding a moment later) is not the pod's to mend.
        if want.reason == "pod" and not isinstance(error, KubeError):
            await self._tell(want, "Warning", reason, text)
        return "done" if isinstance(error, _HOPELESS) else "failed"

    async def _tell(self, want: Want, kind: Literal["Normal", "Warning"], reason: str, text: str) -> None:
        for pod in want.pods:
            await self._events.tell(pod, kind, reason, text)


class _Told:
    """Lines in the log about how far an image is."""

    def __init__(self, want: Want, clock: Clock) -> None:
        self._want = want
        self._clock = clock
        self._last = clock.monotonic()
        self.sum = Sum()

    def tell(self, progress: LayerProgress) -> None:
        self.sum.add(progress)
        now = self._clock.monotonic()
        if now - self._last >= _TELL_EVERY_S:
            self._last = now
            done, begun = human_bytes(self.sum.done), human_bytes(self.sum.total)
            log.info("caching image", **_what(self._want), done=done, begun=begun)


def _what(want: Want) -> dict[str, str]:
    return {"image": str(want.reference), "platform": want.platform}


def reason_of(error: Exception) -> str:
    """CamelCase, for events and metrics: a closed set."""
    return error.reason if isinstance(error, RegistryError) else type(error).__name__


def advice_for(error: Exception) -> str:
    """What can be done about it, where its text does not say so."""
    if isinstance(error, VolumeFull):
        return (
            "make the volume larger or set cells.imageCache.controller.maxSize; pods pull the image meanwhile"
        )
    if isinstance(error, Denied):
        return "none of the pod's imagePullSecrets may pull it, nor may Kip's role"
    if isinstance(error, LayerRefused):
        return "pods pull it as without a cache"
    return ""
