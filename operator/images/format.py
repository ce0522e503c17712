"""What is on the volume of the image cache, to the byte: paths, the files about images, the end of a layer's file.

    layers/sha256/<2>/<diffID>.squashfs   one layer, by the digest of its uncompressed tar; by its ChainID where
                                          it has files in directories that only the layers below describe
    images/<manifest digest>.json         what an image consists of
    index/<2>/<sha256 of reference>.json  to which image a reference led, and when

Files come under a temporary name in the same directory (`.tmp-…`), are synced and then linked or renamed, so a reader sees
all of one or nothing. docs/designs/0006-image-cache.md has the reasons.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from kip.model.clock import from_rfc3339, to_rfc3339
from kip.oci.manifest import digest_of

LAYERS = PurePosixPath("layers")
IMAGES = PurePosixPath("images")
INDEX = PurePosixPath("index")
TEMPORARY = ".tmp-"
"""How names of files begin that are not complete: no reader looks at them."""

LAYER_FORMAT = "kip-layer/1"
IMAGE_FORMAT = "kip-image/1"
REFERENCE_FORMAT = "kip-reference/1"

BLOCK = 4096
"""Bytes. The file system, the hash tree and the trailer begin at multiples of it; dm-verity's usual block size."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class FormatError(ValueError):
    """A file of the volume is not what it should be: it is as good as not there, and `verify` names it."""


def check_digest(digest: str) -> str:
    """The digest; raises FormatError if it is none of SHA-256, the only kind that names files here."""
    if not _DIGEST.fullmatch(digest):
        raise FormatError(f"{digest!r} is no digest; expected sha256: and 64 hexadecimal digits")
    return digest


def layer_path(file_id: str) -> PurePosixPath:
    """Where a layer's file is, from the top of the volume; `file_id` is Layer.file_id."""
    digits = check_digest(file_id).removeprefix("sha256:")
    return LAYERS / "sha256" / digits[:2] / f"{digits}.squashfs"


def image_path(manifest_digest: str) -> PurePosixPath:
    """Where the file about an image of one platform is."""
    return IMAGES / f"{check_digest(manifest_digest)}.json"


def reference_path(reference: str) -> PurePosixPath:
    """Where it says to which images a reference led. `reference` is the whole one, such as docker.io/library/nginx:1.29."""
    digits = hashlib.sha256(reference.encode()).hexdigest()
    return INDEX / digits[:2] / f"{digits}.json"


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """The ChainID after each layer: what containerd's snapshots are called (OCI image-spec, config.md, "Layer ChainID")."""
    chain: list[str] = []
    for diff_id in map(check_digest, diff_ids):
        whole = f"{chain[-1]} {diff_id}" if chain else diff_id
        chain.append(digest_of(whole.encode()) if chain else diff_id)
    return tuple(chain)


@dataclass(frozen=True)
class Trailer:
    """The last block of a layer's file. A file without one is not complete; the rest of it is

    a squashfs of `data_bytes`, filled up to a block | dm-verity's hash tree over it, without a superblock |
    a listing of its directories (operator/images/listing.py) | this block.
    """

    diff_id: str
    tar_bytes: int
    """Size of the layer's uncompressed tar."""
    data_bytes: int
    """Size of the squashfs, filled up to a multiple of BLOCK: dm-verity's data blocks, and the offset of the tree."""
    tree_bytes: int
    root_hash: str
    """Root of the tree, in hexadecimal digits: SHA-256 over blocks of BLOCK, format 1 of dm-verity."""
    salt: str
    """In hexadecimal digits. That of the diffID, so that the same layer makes the same file."""
    sha256: str
    """Of everything before the trailer, in hexadecimal digits."""
    listing_bytes: int = 0
    """Size of the listing, filled up to a multiple of BLOCK."""
    chain_id: str = ""
    """Of this layer on those below it, if the file depends on them; see Layer.chain_id."""

    @property
    def file_id(self) -> str:
        """What the file is called by."""
        return self.chain_id or self.diff_id

    @property
    def file_bytes(self) -> int:
        """Size of the whole file."""
        return self.data_bytes + self.tree_bytes + self.listing_bytes + BLOCK

    def serves(self, diff_id: str, chain_id: str) -> bool:
        """Whether the file is right for that layer in that place. The lowest layer's ChainID is its diffID, so a file with a
        layer's diffID for a name may depend on having nothing below it."""
        return self.diff_id == diff_id and self.chain_id in ("", chain_id)

    def to_bytes(self) -> bytes:
        """One block: a line of JSON, filled up with spaces."""
        fields = {
            "format": LAYER_FORMAT,
            "diffID": self.diff_id,
            "tarBytes": self.tar_bytes,
            "dataBytes": self.data_bytes,
            "treeBytes": self.tree_bytes,
            "rootHash": self.root_hash,
            "salt": self.salt,
            "sha256": self.sha256,
            "listingBytes": self.listing_bytes,
        }
        if self.chain_id:
            fields["chainID"] = self.chain_id
        return json.dumps(fields, separators=(",", ":")).encode().ljust(BLOCK - 1) + b"\n"

    @classmethod
    def parse(cls, block: bytes, *, file_bytes: int, file_id: str) -> Trailer:
        """Reads the last block of a file; raises FormatError if it is not the complete file that has this name."""
        fields = _object(block, LAYER_FORMAT)
        try:
            trailer = cls(
                diff_id=check_digest(fields["diffID"]),
                tar_bytes=int(fields["tarBytes"]),
                data_bytes=int(fields["dataBytes"]),
                tree_bytes=int(fields["treeBytes"]),
                root_hash=_hexadecimal(fields["rootHash"]),
                salt=_hexadecimal(fields["salt"]),
                sha256=_hexadecimal(fields["sha256"]),
                listing_bytes=int(fields.get("listingBytes", 0)),
                chain_id=check_digest(fields["chainID"]) if "chainID" in fields else "",
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"the trailer is not right: {error!r}") from error
        if trailer.file_id != file_id:
            raise FormatError(f"the file of {file_id} has the layer {trailer.file_id}")
        if trailer.file_bytes != file_bytes:
            raise FormatError(f"the file has {file_bytes} bytes; its trailer says {trailer.file_bytes}")
        parts = (trailer.data_bytes, trailer.tree_bytes, trailer.listing_bytes)
        if trailer.data_bytes <= 0 or any(size < 0 or size % BLOCK for size in parts):
            raise FormatError(f"{', '.join(map(str, parts))} bytes: expected multiples of {BLOCK}")
        return trailer


@dataclass(frozen=True)
class Layer:
    """A layer as the image's manifest and configuration name it."""

    diff_id: str
    digest: str
    """Of the blob in the registry."""
    blob_bytes: int
    chain_id: str = ""
    """The ChainID, if the layer has files in directories that it does not describe itself: those are as the layers below
    have them (containerd makes them so too), hence the file is of use on those layers alone. Else empty."""

    @property
    def file_id(self) -> str:
        """What the layer's file is called by, see `layer_path`."""
        return self.chain_id or self.diff_id

    def to_dict(self) -> dict[str, Any]:
        fields = {"diffID": self.diff_id, "digest": self.digest, "blobBytes": self.blob_bytes}
        return {**fields, "chainID": self.chain_id} if self.chain_id else fields

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Layer:
        chain_id = check_digest(d["chainID"]) if "chainID" in d else ""
        return cls(check_digest(d["diffID"]), check_digest(d["digest"]), int(d["blobBytes"]), chain_id)


@dataclass(frozen=True)
class Image:
    """An image of one platform. It is written when all of its layers are there, and taken away before any of them."""

    digest: str
    """Of the manifest."""
    manifest: str
    """The manifest itself, as the registry gave it: byte for byte, since the digest is of the bytes."""
    media_type: str
    config: str
    """Likewise; its digest is in the manifest."""
    layers: tuple[Layer, ...]
    platform: str
    """Such as linux/arm64 or linux/arm/v7."""
    created: datetime
    """When it was cached."""
    creator: str
    """Which program on which host has cached it."""

    @property
    def chain(self) -> tuple[str, ...]:
        return chain_ids([layer.diff_id for layer in self.layers])

    @property
    def blob_bytes(self) -> int:
        """What a pull of it would download, without manifest and configuration."""
        return sum(layer.blob_bytes for layer in self.layers)

    def to_bytes(self) -> bytes:
        return _json(
            {
                "format": IMAGE_FORMAT,
                "digest": self.digest,
                "mediaType": self.media_type,
                "manifest": self.manifest,
                "config": self.config,
                "layers": [layer.to_dict() for layer in self.layers],
                "chain": list(self.chain),
                "platform": self.platform,
                "created": to_rfc3339(self.created),
                "creator": self.creator,
            }
        )

    @classmethod
    def parse(cls, text: bytes, *, digest: str) -> Image:
        """Reads the file of that image. Raises FormatError if it is not that, or if a digest in it is wrong: a cell would
        otherwise run under a digest what nobody has signed."""
        fields = _object(text, IMAGE_FORMAT)
        try:
            image = cls(
                digest=check_digest(fields["digest"]),
                manifest=fields["manifest"],
                media_type=fields["mediaType"],
                config=fields["config"],
                layers=tuple(map(Layer.from_dict, fields["layers"])),
                platform=fields["platform"],
                created=from_rfc3339(fields["created"]),
                creator=fields["creator"],
            )
            image._check(digest)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FormatError(f"the file of image {digest} is not right: {error!r}") from error
        return image

    def _check(self, digest: str) -> None:
        manifest, config = json.loads(self.manifest), json.loads(self.config)
        named = [(layer["digest"], layer["size"]) for layer in manifest["layers"]]
        claims = (
            ("manifest", digest_of(self.manifest.encode()), digest),
            ("digest", self.digest, digest),
            ("config", digest_of(self.config.encode()), manifest["config"]["digest"]),
            ("layers", [(layer.digest, layer.blob_bytes) for layer in self.layers], named),
            ("diffIDs", [layer.diff_id for layer in self.layers], config["rootfs"]["diff_ids"]),
            *(
                ("ChainID", layer.chain_id, chain)
                for layer, chain in zip(self.layers, self.chain, strict=True)
                if layer.chain_id
            ),
        )
        for what, found, expected in claims:
            if found != expected:
                raise FormatError(f"{what}: found {found}, expected {expected}")


@dataclass(frozen=True)
class Reference:
    """Where a reference led when a registry was last asked."""

    reference: str
    """The whole one: registry, repository, and tag or digest."""
    digest: str
    """What the registry answers for it: of an index, or of the one manifest."""
    platforms: Mapping[str, str]
    """Platform to manifest digest, as far as they are cached."""
    resolved: datetime
    offered: tuple[str, ...] = ()
    """All platforms that the image has."""

    def to_bytes(self) -> bytes:
        return _json(
            {
                "format": REFERENCE_FORMAT,
                "reference": self.reference,
                "digest": self.digest,
                "platforms": dict(sorted(self.platforms.items())),
                "offered": sorted(self.offered),
                "resolved": to_rfc3339(self.resolved),
            }
        )

    @classmethod
    def parse(cls, text: bytes, *, reference: str | None = None) -> Reference:
        """Reads the file about that reference, or about any; raises FormatError if it is not that."""
        fields = _object(text, REFERENCE_FORMAT)
        try:
            found = cls(
                reference=fields["reference"],
                digest=check_digest(fields["digest"]),
                platforms={name: check_digest(digest) for name, digest in fields["platforms"].items()},
                resolved=from_rfc3339(fields["resolved"]),
                offered=tuple(fields.get("offered") or ()),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FormatError(
                f"the file about {reference or 'a reference'} is not right: {error!r}"
            ) from error
        if reference not in (None, found.reference):
            raise FormatError(f"the file about {reference} is about {found.reference}")
        return found


def _json(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, indent=1, ensure_ascii=False).encode() + b"\n"


def _object(text: bytes, kind: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise FormatError(f"no {kind}: {error}") from error
    if not isinstance(fields, dict) or fields.get("format") != kind:
        raise FormatError(f"no {kind}")
    return fields


def _hexadecimal(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise FormatError(f"{text!r}: expected 64 hexadecimal digits")
    return text
