"""A pull secret that exists only here: Kip's own login to the registries of the pod's images, for the cell's kubelet.

It is shown as the last of the pod's imagePullSecrets, and served by its name. The cluster has neither: it is not written
anywhere, and its name is none that a Secret can have.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

import msgspec
from aiohttp import web

from kip.cellapi.call import Call, json_object
from kip.cellapi.problem import forbidden, not_found
from kip.cellapi.session import CellSession
from kip.oci.credentials import Credential
from kip.pods.references import Reference, referenced
from kip.pods.tree import items

#: With a colon, which no name of a Secret has (they are DNS subdomains). A variable cannot refer to it either: the API
#: server looks at such names. It lets volumes and imagePullSecrets name anything: see `with_login`.
NAME = "kip:registry-login"

_UIDS = UUID("5c1f2c1e-7a0e-4f0e-9c57-2f6f0d0b8f6a")
# The kubelet tries what it finds in the reverse order of these names, and then what its credential providers have
# (k8s.io/kubernetes/pkg/credentialprovider/keyring.go, BasicDockerKeyring.Add, 1.33-1.37; filepath.Match takes many stars
# for one). So this one comes behind the pod's own logins, whether they are for the registry, a part of it, or by a pattern
# of many. What ends like the whole name of a registry of ECR is no other host: it begins with the account's 12 digits.
_LAST = "**"


def shown(session: CellSession, pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """The pod as its kubelet sees it. The same for the same pod, whatever AWS says just now: kubelets compare."""
    return with_login(pod, session.shared.lending.registries(pod))


def with_login(pod: Mapping[str, Any], registries: Sequence[str]) -> Mapping[str, Any]:
    """The pod with the secret among its imagePullSecrets, if there are registries that it is for.

    A pod that names it by itself gets none: with a volume of that secret it would read the login.
    """
    if not registries or _named_by_itself(pod):
        return pod
    secrets = [*items(pod, "spec", "imagePullSecrets"), {"name": NAME}]
    return {**pod, "spec": {**pod["spec"], "imagePullSecrets": secrets}}


def _named_by_itself(pod: Mapping[str, Any]) -> bool:
    return Reference("secrets", pod["metadata"]["namespace"], NAME) in referenced(pod)


async def get(call: Call) -> web.StreamResponse:
    """The secret, as new as it can be; what AWS has not given is not in it, so that no pod waits for more than that.

    A kubelet asks before each pull, and takes what it has for good for a minute at most.
    """
    call.parameters("resourceVersion")
    session = call.session
    pod = session.pod()
    if pod is None or call.names["namespace"] != session.identity.namespace:
        raise forbidden("the cell's pod does not refer to it")
    registries = session.shared.lending.registries(pod)
    if not registries or _named_by_itself(pod):
        raise not_found(f"{call.target.path} is not there")
    lent = await session.shared.lending.of(registries)
    session.note_login_trouble(lent.trouble)
    return json_object(_secret(session, lent.logins))


def _secret(session: CellSession, logins: Mapping[str, Credential]) -> dict[str, Any]:
    auths = {
        f"{_LAST}{host}": {"auth": _encoded(f"{login.username}:{login.password}".encode())}
        for host, login in logins.items()
    }
    identity = session.identity
    return {
        "kind": "Secret",
        "apiVersion": "v1",
        "metadata": {
            "name": NAME,
            "namespace": identity.namespace,
            # By its UID a kubelet knows which images it has pulled with it (KubeletEnsureSecretPulledImages).
            "uid": str(uuid5(_UIDS, identity.pod_uid)),
            # A kubelet keeps what it has if it is told something older.
            "resourceVersion": session.shared.versions.next(),
        },
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": _encoded(msgspec.json.encode({"auths": auths}))},
    }


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()
