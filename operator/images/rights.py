"""Registries, asked as a pod: may it have the image, and what is it?"""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime

import structlog

from kip.images import manifests
from kip.images.format import Image
from kip.images.logins import PodLogins
from kip.kube.errors import KubeError
from kip.oci import manifest as oci
from kip.oci.access import Access, AccessCheck
from kip.oci.client import Registries
from kip.oci.credentials import CredentialError, Credentials
from kip.oci.errors import NotAnImage, Unreachable
from kip.oci.manifest import Manifest
from kip.oci.reference import Reference
from kip.pods.tree import Pod

log = structlog.get_logger(__name__)

# Indexes have some kilobytes. Who asks for one may have it: its digest came with the answer about access.
_REMEMBERED = 256


class PodRights:
    """Nothing here is answered to one pod by what another one was allowed, but for the content of a digest."""

    def __init__(self, registries: Registries, check: AccessCheck, logins: PodLogins) -> None:
        self._registries = registries
        self._check = check
        self._logins = logins
        self._known: OrderedDict[str, Manifest] = OrderedDict()

    async def access(self, pod: Pod, reference: Reference) -> Access:
        """Whether the pod may pull it, and which digest it is. Raises nothing: who cannot be asked for has no access."""
        try:
            return await self._check.may_pull(reference, await self._logins.of(pod))
        except (CredentialError, KubeError) as error:
            return Access(reason="CredentialsUnreadable", message=str(error))

    async def index(self, pod: Pod, reference: Reference) -> Manifest:
        """The index of that digest, which `access` has named for this pod. Raises RegistryError."""
        return await self._manifest(reference, await self._credentials(pod))

    async def image(self, pod: Pod, reference: Reference, platform: str) -> tuple[Image, Manifest | None]:
        """The image of that digest for a platform, and the index that has it, if it is of one. Raises RegistryError."""
        credentials = await self._credentials(pod)
        top = await self._manifest(reference, credentials)
        if not top.is_index:
            return await self._image(reference, top, credentials), None
        [chosen] = manifests.wanted(oci.platforms(top), (platform,))
        own = await self._manifest(reference.at(chosen.digest), credentials)
        return await self._image(reference, own, credentials), top

    async def _credentials(self, pod: Pod) -> Credentials:
        try:
            return await self._logins.of(pod)
        except (CredentialError, KubeError) as error:
            raise Unreachable(f"the pod's pull secrets cannot be read: {error}") from error

    async def _manifest(self, reference: Reference, credentials: Credentials) -> Manifest:
        known = self._known.get(reference.digest)
        if known is None:
            known = self._known[reference.digest] = await self._registries.manifest(reference, credentials)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return known

    async def _image(self, reference: Reference, manifest: Manifest, credentials: Credentials) -> Image:
        descriptor = oci.config_of(manifest)
        if descriptor.size > oci.LARGEST:
            raise NotAnImage(f"{manifest.digest}: a configuration of {descriptor.size} bytes")
        blob = self._registries.blob(reference.repository, descriptor, credentials)
        config = b"".join([piece async for piece in blob])
        platform, layers = manifests.describe(manifest, config)
        try:
            text, described = manifest.content.decode(), config.decode()
        except UnicodeDecodeError as error:
            raise NotAnImage(f"{manifest.digest}: not all of it is UTF-8 ({error})") from error
        return Image(
            digest=manifest.digest,
            manifest=text,
            media_type=manifest.media_type,
            config=described,
            layers=layers,
            platform=platform,
            created=datetime.fromtimestamp(0, UTC),  # of the cached one, which it is not
            creator="registry",
        )
