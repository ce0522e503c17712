"""Images as an archive without their layers, for a containerd that has those already."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from typing import Any

from kip.images.format import Image
from kip.oci import manifest as oci
from kip.oci.manifest import Manifest

_NAME = "io.containerd.image.name"


def archive(image: Image, names: Sequence[str], index: Manifest | None) -> bytes:
    """An OCI image layout as a tar, for `ctr images import --no-unpack`: manifest and configuration, under these names.

    With `index` the names lead to that, as after a pull of an image for several platforms; it must have the image.
    """
    manifest, config = image.manifest.encode(), image.config.encode()
    top = index or Manifest(image.digest, image.media_type, manifest)
    described = {"mediaType": top.media_type, "digest": top.digest, "size": len(top.content)}
    layout: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_INDEX,
        "manifests": [{**described, "annotations": {_NAME: name}} for name in names],
    }
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps(layout, separators=(",", ":")).encode(),
    }
    for content in (manifest, config, *([index.content] if index else ())):
        files[f"blobs/{oci.digest_of(content).replace(':', '/')}"] = content
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
