"""What of a pod's images a cell mounts from the cache, and why not the rest: decided from what was read and answered.

First `choose` says which images there are to look at, then `plan` which of their layers are used; `results` says what became
of that. An image is given to a pod only when its registry has said that the pod may have it, and which one it is.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Literal

from kip.images import format as layout
from kip.images.archive import archive
from kip.images.format import FormatError, Image, Layer, Trailer
from kip.images.look import Look
from kip.oci.access import Access
from kip.oci.manifest import Manifest
from kip.oci.reference import Reference

Outcome = Literal["cached", "partly", "missing", "present", "denied", "late", "broken"]
"""`cached`: every layer from the cache, `partly`: the lowest ones; `missing`: none; `present`: the machine had it already;
`denied`: the registry did not say that the pod may have it; `late`: not done within the deadline; `broken`: what is on the
volume is not what it should be."""


@dataclass(frozen=True)
class Decision:
    """What is done with one image of the pod."""

    reference: Reference
    outcome: Outcome
    message: str
    """For people; it does not repeat which image."""
    digest: str = ""
    """Of the manifest for this machine; empty where there is none to look at."""
    top: str = ""
    """What the registry says that the reference leads to: that manifest, or an index with it."""
    moved: bool = False
    """The tag leads elsewhere than when it was cached: what it leads to now says the registry alone."""
    before: str = ""
    """Of a tag that has moved: the digest of the image that was cached."""
    layers: int = 0
    """How many the image has."""
    chain: tuple[str, ...] = ()
    """ChainIDs of those of them that are from the cache, the lowest first."""
    blob_bytes: tuple[int, ...] = ()
    """What a pull would have had to download for each of these."""

    @property
    def saved_bytes(self) -> int:
        return sum(self.blob_bytes)

    def __str__(self) -> str:
        return f"{self.reference}: {self.message}"


@dataclass(frozen=True)
class Snapshot:
    """One layer of an image as containerd shall have it."""

    chain_id: str
    parent: str
    """The ChainID below; empty for the lowest."""
    file_id: str
    copy: int = 1
    """Counts the snapshots of one image that have the same file: overlayfs takes no directory twice, so each is a mount."""

    @property
    def mount_id(self) -> str:
        digits = _digits(self.file_id)
        return digits if self.copy == 1 else f"{digits}.{self.copy}"


@dataclass(frozen=True)
class Import:
    """An image of which every layer is there."""

    chain_id: str
    """Of its highest layer."""
    archive: bytes


@dataclass(frozen=True)
class Plan:
    """What the cell is told to do, and what will be the outcome if it all succeeds."""

    decisions: tuple[Decision, ...]
    layers: Mapping[str, Trailer]
    """What is mounted, by mount_id."""
    snapshots: tuple[Snapshot, ...]
    imports: tuple[Import, ...]

    def orders(self) -> bytes:
        """The lines that operator/tunnel/scripts/seed.sh reads; nothing where there is nothing to do."""
        lines = [
            f"layer {mount_id} {each.data_bytes} {each.root_hash} {each.salt}"
            for mount_id, each in self.layers.items()
        ]
        lines += [f"snapshot {s.chain_id} {s.parent or '-'} {s.mount_id}" for s in self.snapshots]
        lines += [f"import {i.chain_id} {base64.b64encode(i.archive).decode()}" for i in self.imports]
        return "".join(f"{line}\n" for line in lines).encode()


def choose(references: Sequence[Reference], access: Mapping[str, Access], look: Look) -> tuple[Decision, ...]:
    """Which images of the pod are worth a look at what they consist of: those with a digest.

    Args:
        references: the pod's images.
        access: what the registries say, by reference; one that has not answered yet is missing.
        look: has the files about the references, as far as there are any.
    """
    return tuple(_choose(reference, access.get(str(reference)), look) for reference in references)


def _choose(reference: Reference, access: Access | None, look: Look) -> Decision:
    if str(reference) in look.present:
        return Decision(reference, "present", "on the machine already")
    text = look.files.get(layout.reference_path(str(reference)).name)
    if text is None:
        return Decision(reference, "missing", "not in the cache")
    if access is None:
        return Decision(reference, "late", "its registry has not said in time that the pod may have it")
    if not access.granted:
        return Decision(reference, "denied", f"{access.reason}: {access.message}")
    try:
        found = layout.Reference.parse(text, reference=str(reference))
    except FormatError as error:
        return Decision(reference, "broken", str(error))
    if found.digest != access.digest:
        before = found.platforms.get(look.platform, "")
        return Decision(
            reference, "missing", "the tag has moved since", top=access.digest, moved=True, before=before
        )
    digest = found.platforms.get(look.platform)
    if digest is None:
        return Decision(reference, "missing", f"not in the cache for {look.platform}")
    return Decision(reference, "missing", "not looked at yet", digest=digest, top=found.digest)


def plan(
    decisions: Sequence[Decision], images: Mapping[str, Image], indexes: Mapping[str, Manifest], look: Look
) -> Plan:
    """What is mounted and imported.

    Args:
        decisions: of `choose`; one whose tag has moved has got the digest of what it leads to now.
        images: by digest; those that are not here are read from `look`.
        indexes: by digest, those of images for several platforms, as far as they are known.
        look: has the files about the images, and the last blocks of their layers.
    """
    decided: list[Decision] = []
    snapshots: dict[str, Snapshot] = {}
    imports: dict[str, Import] = {}
    for decision in decisions:
        if not decision.digest:
            decided.append(decision)
            continue
        try:
            image = images.get(decision.digest) or _image(decision.digest, look)
        except FormatError as error:
            decided.append(replace(decision, outcome="broken", message=str(error)))
            continue
        if image is None:
            decided.append(decision)
            continue
        usable = _usable(image, look, _proven(decision, image, look))
        snapshots |= {each.chain_id: each for each in usable}
        decided.append(_decided(decision, image, usable, look))
        if len(usable) == len(image.layers):
            names = _names(decision, image, indexes)
            imports[str(decision.reference)] = Import(
                image.chain[-1], archive(image, names, indexes.get(decision.top))
            )
    return Plan(
        tuple(decided),
        {each.mount_id: look.trailers[each.file_id] for each in snapshots.values()},
        tuple(snapshots.values()),
        tuple(imports.values()),
    )


def _image(digest: str, look: Look) -> Image | None:
    text = look.files.get(layout.image_path(digest).name)
    return None if text is None else Image.parse(text, digest=digest)


def _proven(decision: Decision, image: Image, look: Look) -> Sequence[Layer]:
    """The layers that the repository has shown to have (proof.py). Of what it says now it may only have the digests."""
    if not decision.moved:
        return image.layers
    with suppress(FormatError):
        if decision.before and (before := _image(decision.before, look)):
            return before.layers
    return ()


def _usable(image: Image, look: Look, proven: Sequence[Layer]) -> list[Snapshot]:
    """From the bottom up, until one is missing: containerd's pull takes what is above it."""
    found: list[Snapshot] = []
    had = {(layer.digest, layer.diff_id) for layer in proven}
    for layer, chain_id in zip(image.layers, image.chain, strict=True):
        if (layer.digest, layer.diff_id) not in had:
            break
        # One that is of use on the layers below it alone is called after all of them; see Layer.chain_id.
        file_id = next(
            (name for name in _file_ids(layer.diff_id, chain_id) if _serves(look, name, layer, chain_id)),
            None,
        )
        if file_id is None:
            break
        copy = 1 + sum(each.file_id == file_id for each in found)
        found.append(Snapshot(chain_id, found[-1].chain_id if found else "", file_id, copy))
    return found


def _serves(look: Look, file_id: str, layer: Layer, chain_id: str) -> bool:
    trailer = look.trailers.get(file_id)
    return trailer is not None and trailer.serves(layer.diff_id, chain_id)


def _file_ids(diff_id: str, chain_id: str) -> tuple[str, ...]:
    return (chain_id, diff_id) if chain_id != diff_id else (diff_id,)


def paths_before(decisions: Sequence[Decision]) -> list[str]:
    """Where it says what images consisted of whose tags have moved since."""
    return [str(layout.image_path(decision.before)) for decision in decisions if decision.before]


def layer_paths(images: Sequence[Image]) -> list[str]:
    """Where the layers of these images may be, for images that the volume does not describe."""
    return [
        str(layout.layer_path(file_id))
        for image in images
        for layer, chain_id in zip(image.layers, image.chain, strict=True)
        for file_id in _file_ids(layer.diff_id, chain_id)
    ]


def _decided(decision: Decision, image: Image, usable: Sequence[Snapshot], look: Look) -> Decision:
    decision = replace(
        decision,
        layers=len(image.layers),
        chain=tuple(snapshot.chain_id for snapshot in usable),
        blob_bytes=tuple(layer.blob_bytes for layer in image.layers[: len(usable)]),
    )
    since = ", whose tag has moved since it was cached" if decision.moved else ""
    if len(usable) == decision.layers:
        return replace(decision, outcome="cached", message=_of_layers(decision) + since)
    lacking, chain_id = image.layers[len(usable)], image.chain[len(usable)]
    why = look.broken.get(chain_id) or look.broken.get(lacking.diff_id)
    told = f"layer {lacking.digest} is {f'broken: {why}' if why else 'not there'}{since}"
    if usable:
        return replace(decision, outcome="partly", message=f"{_of_layers(decision)}; {told}")
    return replace(decision, outcome="broken" if why else "missing", message=told)


def _of_layers(decision: Decision) -> str:
    count, every = len(decision.chain), decision.layers
    return (
        f"{'all' if count == every else f'{count} of'} {every} layers from the cache, "
        f"{decision.saved_bytes / 1e6:.1f} MB not downloaded"
    )


def _names(decision: Decision, image: Image, indexes: Mapping[str, Manifest]) -> tuple[str, ...]:
    """Those that a pull gives it: as it was asked for, and with the digest of what that leads to."""
    top = decision.top if decision.top in indexes else image.digest
    return tuple(dict.fromkeys((str(decision.reference), str(decision.reference.at(top)))))


def results(planned: Plan, said: str) -> tuple[Decision, ...]:
    """What became of the plan, by what the cell said (operator/tunnel/scripts/seed.sh)."""
    words = [line.split(" ", 2) for line in said.splitlines()]
    made = {each[1] for each in words if each[0] == "snapshot"}
    imported = {each[1] for each in words if each[0] == "import"}
    failures = {each[1]: each[2] for each in words if each[0] == "failed" and len(each) == 3}
    files = {snapshot.chain_id: snapshot.mount_id for snapshot in planned.snapshots}
    decided = []
    for each in planned.decisions:
        done = sum(1 for _ in takewhile(made.__contains__, each.chain))
        if done == len(each.chain) and (done < each.layers or not done or each.chain[-1] in imported):
            decided.append(each)
            continue
        missing = each.chain[done:] or each.chain[-1:]
        suspects = (*(name for at in missing for name in (files[at], at)), "seeding")
        why = next((failures[name] for name in suspects if name in failures), "the cell does not say why")
        decided.append(_failed(each, done, why, late="seeding" in failures))
    return tuple(decided)


def _failed(decision: Decision, done: int, why: str, *, late: bool) -> Decision:
    left = replace(decision, chain=decision.chain[:done], blob_bytes=decision.blob_bytes[:done])
    if not done:
        return replace(left, outcome="late" if late else "broken", message=why)
    return replace(left, outcome="partly", message=f"{_of_layers(left)}; then: {why}")


def _digits(digest: str) -> str:
    return digest.removeprefix("sha256:")
