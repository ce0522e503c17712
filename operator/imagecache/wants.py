"""Which images have to be there: what pods, lists and pods to come ask for, as one list without repetitions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from kip.oci.reference import InvalidName, Reference, parse
from kip.pods import placement
from kip.pods.finished import is_deleted, is_finished
from kip.pods.images import images
from kip.pods.tree import Pod, items

Reason = Literal["pod", "list", "waiting"]

# Of a Deployment's thousand pods some are enough to be told; and all of them ask with the same credentials.
_MOST_TOLD = 5
_MOST_ASKING = 20


@dataclass(frozen=True)
class Want:
    """An image for machines of one platform."""

    reference: Reference
    platform: str
    """Such as linux/arm64."""
    reason: Reason
    """`pod`: one that is bound to a virtual node; `list`: the configuration; `waiting`: a pod that is not bound yet."""
    pods: tuple[Pod, ...] = ()
    """Some that use it: it is asked for as them, one after the other, and they are told."""
    listed: bool = False
    """The configuration names it, whoever else wants it: then Kip's own credentials count, too."""

    @property
    def key(self) -> tuple[str, str]:
        """The same for all who want the same."""
        return (str(self.reference), self.platform)


def wants(
    bound: Iterable[Pod],
    waiting: Iterable[Pod],
    listed: Sequence[str],
    *,
    architecture: Callable[[Pod], str | None],
    platforms: Sequence[str],
) -> tuple[Want, ...]:
    """Everything that is wanted, the most urgent first.

    Args:
        bound: pods of the virtual nodes.
        waiting: pods that are meant for them and not bound yet.
        listed: names of images.
        architecture: that of a pod's machine, None while nobody knows; then its images are not wanted yet.
        platforms: those of which listed images and those of waiting pods are wanted.
    """
    found: dict[tuple[str, str], Want] = {}
    for want in (
        *_of_bound(bound, architecture),
        *_of_list(listed, platforms),
        *_of_waiting(waiting, platforms),
    ):
        known = found.setdefault(want.key, want)
        if known is not want and _counts(known.pods, want.pods):
            known = found[want.key] = replace(known, pods=known.pods + want.pods)
        if want.listed and not known.listed:
            found[want.key] = replace(known, listed=True)
    return tuple(found.values())


def _counts(known: Sequence[Pod], more: Sequence[Pod]) -> bool:
    """Whether these pods are to be told too, or may have other credentials than those that are known."""
    if len(known) < _MOST_TOLD:
        return True
    logins = {_logins(pod) for pod in known}
    return len(known) < _MOST_ASKING and any(_logins(pod) not in logins for pod in more)


def _logins(pod: Pod) -> tuple[str, ...]:
    secrets = (str(secret.get("name")) for secret in items(pod, "spec", "imagePullSecrets"))
    return (pod["metadata"]["namespace"], *secrets)


def _of_bound(pods: Iterable[Pod], architecture: Callable[[Pod], str | None]) -> Iterator[Want]:
    for pod in pods:
        if is_finished(pod):
            continue
        chosen = architecture(pod) or _only(placement.architectures(pod))
        if chosen:
            yield from (Want(name, f"linux/{chosen}", "pod", (pod,)) for name in _references(images(pod)))


def _of_list(listed: Sequence[str], platforms: Sequence[str]) -> Iterator[Want]:
    for name in _references(listed):
        yield from (Want(name, platform, "list", listed=True) for platform in platforms)


def _of_waiting(pods: Iterable[Pod], platforms: Sequence[str]) -> Iterator[Want]:
    for pod in pods:
        if is_finished(pod) or is_deleted(pod):
            continue
        allowed = placement.architectures(pod)
        for name in _references(images(pod)):
            yield from (
                Want(name, platform, "waiting", (pod,))
                for platform in platforms
                if allowed is None or platform.removeprefix("linux/") in allowed
            )


def _only(architectures: frozenset[str] | None) -> str | None:
    return next(iter(architectures)) if architectures and len(architectures) == 1 else None


def _references(names: Iterable[str]) -> Iterator[Reference]:
    """What is no image's name is the kubelet's to complain about."""
    for name in names:
        try:
            yield parse(name)
        except InvalidName:
            continue
