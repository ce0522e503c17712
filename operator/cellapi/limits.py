"""How much one cell may ask of the operator: whoever owns a cell's root shell can ask anything, as fast as it likes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Per cell, but for `big_bodies`. A kubelet with one pod keeps 6-10 connections open, five or six of them watches."""

    connections: int = 48
    watches: int = 16
    body_bytes: int = 512 * 1024
    """The largest that a kubelet sends are patches: of its Node's status, with 50 images of five names each (some
    60 KiB), and of its pod's, with 1-2 KiB for each container and 12 KiB of their last words in all. Decoded, what is
    made for it (`[[[]]]`) takes 35 times as much memory, and a tenth of a second."""
    bodies: int = 4
    """How many bodies are read, and kept in memory, at a time."""
    big_body_bytes: int = 16 * 1024
    big_bodies: int = 4
    """How many bodies of more than `big_body_bytes` are decoded at a time, those of all cells together. Most of a
    kubelet's are smaller, so that a cell with many big ones does not hold up the others' heartbeats."""
    bytes_per_request: int = 4096
    """A body counts as one more request for each so many bytes: reading it is what costs."""
    read_s: float = 10.0
    """For a whole body to arrive."""
    write_s: float = 30.0
    """For one answer, or one event of a watch, to be taken."""
    idle_s: float = 120.0
    """Between requests, and for the first byte to the last of a request's head. Go's client gives up idle
    connections after 90 s by itself, so this one never races it."""
    own_object_bytes: int = 256 * 1024
    """For the shadow Node, the Lease and the CSINode each: they stay in memory, and the Node is decoded and merged with
    each of its patches."""
    requests_per_s: float = 50.0
    """A kubelet's own default for kubeAPIQPS; its burst is 100."""
    request_burst: int = 200
    penalty_s: float = 0.5
    """How long a request beyond the rate waits for its 429, and one without the token for its 401: what slows down a
    client that ignores either."""
    strangers: int = 16
    """How many requests without the token wait so at a time, on connections that the kubelet cannot have meanwhile;
    the connections of others are closed without an answer."""
    anonymous_per_s: float = 5.0
    """For what needs no token; its burst is `anonymous_burst`. The kubelet's own rate is not for strangers to use up."""
    anonymous_burst: int = 20
