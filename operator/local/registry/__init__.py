"""The local world's registry: every image name of every registry resolves to it, on every cell.

A cell's containerd asks it for all registries (hosts.toml of `_default`) and says in the query which one was
meant: `/v2/library/nginx/manifests/1?ns=docker.io`. So `demo.kip.local/web:1` and `docker.io/library/nginx:1`
live here under their own names, and `load` puts any saved image here as `kind load` does into a kind cluster.
"""

from __future__ import annotations

from kip.local.registry.archive import ArchiveError
from kip.local.registry.load import LoadError, load

__all__ = ["ArchiveError", "LoadError", "load"]
