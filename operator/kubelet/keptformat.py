"""Kept logs as a Secret. Pure."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from kip.kubelet.logtext import last_lines
from kip.model.names import APP, GROUP, LABEL_MANAGED_BY

SECRET_TYPE = f"{GROUP}/logs"
LABEL_POD = f"{GROUP}/pod"
LABEL_UID = f"{GROUP}/pod-uid"
LABEL_NODE = f"{GROUP}/node"

# A Secret's data may have 1 MiB (core/v1 MaxSecretSize); in base64, if a cluster stores JSON, this stays below etcd's
# 1.5 MiB for a request.
TOTAL_LIMIT_BYTES = 900 * 1024
_INDEX = "index.json"


@dataclass(frozen=True, slots=True)
class KeptLog:
    """One container's log, with times."""

    container: str
    previous: bool
    text: bytes
    dropped: int = 0
    """Bytes before `text` that were not kept."""
    refusal: str = ""
    """Why the kubelet had none ("container … is waiting to start"), empty if it had."""


@dataclass(frozen=True, slots=True)
class KeptPod:
    """Whose logs these are."""

    namespace: str
    name: str
    uid: str


def secret_name(uid: str) -> str:
    """The Secret for the pod with this UID."""
    return f"kip-logs-{uid}"


def pod_label(namespace: str, name: str) -> str:
    """A label value for a pod's name, which may be longer than a label."""
    return hashlib.sha256(f"{namespace}/{name}".encode()).hexdigest()[:40]


def to_secret(pod: KeptPod, node_name: str, logs: Sequence[KeptLog]) -> tuple[dict[str, Any], list[KeptLog]]:
    """The Secret, without a namespace, and the logs as they are in it: long ones are cut until all of them fit."""
    fitted, packed = _fit(list(logs), TOTAL_LIMIT_BYTES)
    index = {
        "namespace": pod.namespace,
        "pod": pod.name,
        "logs": [
            {
                "container": log.container,
                "previous": log.previous,
                "dropped": log.dropped,
                "refusal": log.refusal,
            }
            for log in fitted
        ],
    }
    data = {_INDEX: msgspec.json.encode(index)} | {
        _key(log): content for log, content in zip(fitted, packed, strict=True) if not log.refusal
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": SECRET_TYPE,
        "metadata": {
            "name": secret_name(pod.uid),
            "labels": {
                LABEL_MANAGED_BY: APP,
                LABEL_POD: pod_label(pod.namespace, pod.name),
                LABEL_UID: pod.uid,
                LABEL_NODE: node_name,
            },
        },
        "data": {key: base64.b64encode(content).decode() for key, content in data.items()},
    }
    return secret, fitted


def from_secret(secret: Mapping[str, Any]) -> tuple[KeptPod, list[KeptLog]]:
    """Raises ValueError when the Secret is not one of ours, or damaged."""
    try:
        data = secret["data"]
        index = msgspec.json.decode(base64.b64decode(data[_INDEX]))
        pod = KeptPod(index["namespace"], index["pod"], secret["metadata"]["labels"][LABEL_UID])
        logs = [KeptLog(text=b"", **entry) for entry in index["logs"]]
        return pod, [log if log.refusal else replace(log, text=_unpack(data[_key(log)])) for log in logs]
    except (KeyError, TypeError, OSError, EOFError, msgspec.DecodeError) as error:
        raise ValueError(f"not a readable Secret of kept logs: {error!r}") from error


def _key(log: KeptLog) -> str:
    # A container's name has no dot.
    return f"{log.container}.previous.log.gz" if log.previous else f"{log.container}.log.gz"


def _fit(logs: list[KeptLog], limit: int) -> tuple[list[KeptLog], list[bytes]]:
    """Halve the longest log until all of them fit: short ones stay whole."""
    packed = [_pack(log.text) for log in logs]
    while sum(map(len, packed)) > limit:
        longest = max(range(len(logs)), key=lambda i: len(packed[i]))
        log = logs[longest]
        text = last_lines(log.text, len(log.text) // 2)
        logs[longest] = replace(log, text=text, dropped=log.dropped + len(log.text) - len(text))
        packed[longest] = _pack(text)
    return logs, packed


def _pack(text: bytes) -> bytes:
    return gzip.compress(text, compresslevel=6, mtime=0)


def _unpack(encoded: str) -> bytes:
    return gzip.decompress(base64.b64decode(encoded))
