"""The operator's own keys: made once, kept in one Secret, shared by all its processes.

None of them opens anything in the cluster. The SSH key opens cells; the CA makes the certificate with which the
operator calls the cells' kubelets; the first-contact host key lets a new cell be known until it has shown its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kip.app.cluster import CannotStart
from kip.kube.client import ApiClient
from kip.kube.secrets import load_or_create
from kip.kubelet import pki
from kip.model.clock import Clock
from kip.tunnel import keys as ssh

SECRET = "kip-keys"  # noqa: S105 - a name


@dataclass(frozen=True)
class OperatorKeys:
    """Private keys, PEM or OpenSSH text."""

    ssh_key: str = field(repr=False)
    first_contact_host_key: str = field(repr=False)
    ca: pki.KeyPair = field(repr=False)

    @property
    def ssh_public_key(self) -> str:
        return ssh.public_half(self.ssh_key)

    @property
    def first_contact_public_key(self) -> str:
        return ssh.public_half(self.first_contact_host_key)


def generate(clock: Clock) -> OperatorKeys:
    """New keys, known to nobody."""
    return OperatorKeys(ssh.generate(), ssh.generate(), pki.new_authority(clock))


async def load(client: ApiClient, namespace: str, clock: Clock) -> OperatorKeys:
    """The keys of this installation; raises KubeError, CannotStart if the Secret is not what Kip made."""

    def make() -> Mapping[str, bytes]:
        keys = generate(clock)
        return {
            "ssh-key": keys.ssh_key.encode(),
            "first-contact-host-key": keys.first_contact_host_key.encode(),
            "ca.crt": keys.ca.certificate,
            "ca.key": keys.ca.key,
        }

    try:
        data = await load_or_create(client, namespace, SECRET, make)
    except ValueError as error:
        raise CannotStart(str(error)) from error
    return OperatorKeys(
        ssh_key=data["ssh-key"].decode(),
        first_contact_host_key=data["first-contact-host-key"].decode(),
        ca=pki.KeyPair(data["ca.crt"], data["ca.key"]),
    )
