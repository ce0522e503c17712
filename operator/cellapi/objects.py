"""The Lease and the CSINode of one cell's kubelet.

Each kubelet writes both under the virtual node's name; the real ones are the operator's. These live in memory
only: a kubelet whose Lease or CSINode is gone after a restart of the operator creates it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import msgspec

from kip.cellapi.problem import already_exists, bad_request, conflict, not_found, too_large
from kip.cellapi.versions import ResourceVersions
from kip.model.clock import Clock, to_rfc3339


class OwnObject:
    """At most one object of a kind, under a fixed name, with the API server's rules for concurrent writers."""

    __slots__ = (
        "_api_version",
        "_clock",
        "_encoded",
        "_kind",
        "_max_bytes",
        "_metadata",
        "_name",
        "_versions",
    )

    def __init__(
        self,
        api_version: str,
        kind: str,
        name: str,
        *,
        versions: ResourceVersions,
        clock: Clock,
        max_bytes: int,
    ) -> None:
        self._api_version, self._kind, self._name = api_version, kind, name
        self._versions, self._clock, self._max_bytes = versions, clock, max_bytes
        self._encoded: bytes | None = None
        self._metadata: dict[str, Any] = {}

    def get(self) -> bytes:
        """The object as JSON. Raises Problem (404)."""
        if self._encoded is None:
            raise not_found(f"{self._kind} {self._name} is not there")
        return self._encoded

    def create(self, obj: Mapping[str, Any]) -> bytes:
        """Raises Problem (409 if it is there; 400, 413)."""
        metadata = self._check(obj)
        if self._encoded is not None:
            raise already_exists(f"{self._kind} {self._name} is there already")
        given = {"uid": str(uuid4()), "creationTimestamp": to_rfc3339(self._clock.now())}
        return self._store(obj, {**metadata, **given})

    def replace(self, obj: Mapping[str, Any]) -> bytes:
        """Raises Problem (404; 409 if it was read before the last write; 400, 413)."""
        metadata = self._check(obj)
        self.get()
        given = {key: self._metadata[key] for key in ("uid", "creationTimestamp")}
        for key, current in (("resourceVersion", self._metadata["resourceVersion"]), ("uid", given["uid"])):
            if metadata.get(key) not in (None, "", current):
                raise conflict(f"{self._kind} {self._name} has changed: read it again ({key})")
        return self._store(obj, {**metadata, **given})

    def delete(self) -> None:
        """Raises Problem (404)."""
        self.get()
        self._encoded = None

    def _check(self, obj: Mapping[str, Any]) -> Mapping[str, Any]:
        metadata = obj.get("metadata")
        if not isinstance(metadata, dict) or metadata.get("name") != self._name:
            raise bad_request(f"expected a {self._kind} whose metadata.name is {self._name}")
        return metadata

    def _store(self, obj: Mapping[str, Any], metadata: dict[str, Any]) -> bytes:
        metadata = {**metadata, "resourceVersion": self._versions.next()}
        encoded = msgspec.json.encode(
            {**obj, "apiVersion": self._api_version, "kind": self._kind, "metadata": metadata}
        )
        if len(encoded) > self._max_bytes:
            raise too_large(f"the {self._kind} would have more than {self._max_bytes} bytes")
        self._encoded, self._metadata = encoded, metadata
        return encoded
