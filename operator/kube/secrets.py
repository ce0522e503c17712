"""Values that every process of the operator must share and none may lose: in a Secret, made once."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping

from kip.kube.client import ApiClient
from kip.kube.errors import Conflict, NotFound
from kip.model.names import APP, LABEL_APP


async def load_or_create(
    client: ApiClient, namespace: str, name: str, make: Callable[[], Mapping[str, bytes]]
) -> dict[str, bytes]:
    """The Secret's data; made by `make` if it is not there. Of several processes that try at once the first one wins.

    Raises KubeError, and ValueError naming the keys that an existing Secret lacks.
    """
    path = f"/api/v1/namespaces/{namespace}/secrets"
    try:
        secret = await client.get(f"{path}/{name}")
    except NotFound:
        made = make()
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": {LABEL_APP: APP}},
            "type": "Opaque",
            "data": {key: base64.b64encode(value).decode() for key, value in made.items()},
        }
        try:
            secret = await client.create(path, body)
        except Conflict:
            secret = await client.get(f"{path}/{name}")
    data = {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}
    missing = sorted(set(make()) - set(data))
    if missing:
        raise ValueError(
            f"Secret {namespace}/{name} lacks {', '.join(missing)}; delete it to have it made anew "
            "(cells that run then can no longer be reached and end by themselves)"
        )
    return data
