"""Section `cells.imageCache`: images that are already there, on a shared volume."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field

from kip.config.schema.section import Section
from kip.config.types import Flag, duration, matching, parsed, size, whole_number, words
from kip.model.patterns import MOUNT_OPTIONS, NFS_EXPORT


def _platforms(value: Any) -> tuple[str, ...]:
    found = words(value)
    if not found or not all(re.fullmatch(r"linux/(amd64|arm64)", name) for name in found):
        raise ValueError(value)
    return found


class ImageCacheController(Section):
    """What `kip image-cache run` does (docs/image-cache.md). The images of the virtual nodes' pods are always cached."""

    images: Annotated[
        tuple[str, ...],
        parsed(words, "names of images in a list, or in one text with spaces between them"),
        Field(
            description="Images to cache though no pod uses them yet. Kip asks for them without a login, or with its role."
        ),
    ] = ()
    unscheduled_pods: Annotated[
        Flag,
        Field(
            description="Cache images of pods that are meant for a virtual node (toleration or node selector) and not bound "
            "to it yet, too. Their pull secrets can be read only once they are bound."
        ),
    ] = False
    platforms: Annotated[
        tuple[str, ...],
        parsed(_platforms, "platforms like linux/amd64 or linux/arm64"),
        Field(description="Platforms of which these images, and those of `images`, are cached."),
    ] = ("linux/amd64",)
    parallel: Annotated[
        int,
        whole_number(at_least=1),
        Field(
            description="Images that are fetched, and layers that are converted, at the same time; fewer if the container's "
            "limit of memory is not enough for them."
        ),
    ] = 2
    processors: Annotated[
        int, whole_number(at_least=1), Field(description="Threads that compress, for each of them.")
    ] = 1
    memory: Annotated[
        int,
        size(at_least="64Mi"),
        Field(
            description="Memory of the program that makes the file systems, for each of them; less if the container's limit "
            "of memory is not enough."
        ),
    ] = 256 * 2**20
    max_size: Annotated[
        int | None,
        size(at_least="100Mi"),
        Field(
            description="What all layers together may take on the volume; then images go that were not used for longest, "
            "but none that a cell has. Without it there is no limit but the next one."
        ),
    ] = None
    min_free_space: Annotated[
        int,
        size(at_least="0"),
        Field(
            description="What has to be free on the volume; below that nothing is fetched, and images go likewise."
        ),
    ] = 2**30
    keep_unused_for: Annotated[
        float,
        duration(at_least="1h"),
        Field(description="How long an image is kept that no pod uses."),
    ] = 720 * 3600.0
    check_tags_every: Annotated[
        float,
        duration(at_least="1m"),
        Field(
            description="How often a registry is asked whether a tag that is in use leads to another image now (one HEAD)."
        ),
    ] = 900.0


class ImageCache(Section):
    """Images that are already there, on a shared volume (docs/image-cache.md)."""

    endpoint: Annotated[
        str | None,
        matching(
            NFS_EXPORT,
            "an NFS export like fs-0123abcd.efs.us-east-1.amazonaws.com:/",
        ),
        Field(
            description="The volume: an EFS or any other NFS 4.1 export, `SERVER:/PATH`. Without it the environment "
            "variable NFS_VOLUME_ENDPOINT; without either there is no image cache."
        ),
    ] = None
    mount_options: Annotated[
        str,
        matching(
            MOUNT_OPTIONS,
            "mount options with commas between them, without spaces",
        ),
        Field(
            description="How cells mount it, besides `ro,nosuid,nodev,noexec`, which are always added. The default is what "
            "AWS recommends for EFS."
        ),
    ] = "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport"
    deadline: Annotated[
        float,
        duration(at_least="100ms"),
        Field(
            description="How long after its first contact a cell's pod may be held back for the cache; what is not there "
            "by then is pulled. The kubelet needs one to two seconds of this time to start anyway."
        ),
    ] = 3.0
    dm_verity: Annotated[
        Literal["auto", "off"],
        Field(
            description="`auto` lets the kernel of a cell check each block of a layer at its first read, where it has "
            "dm-verity and the machine image has dmsetup."
        ),
    ] = "auto"
    controller: Annotated[
        ImageCacheController, Field(description="Who fills the volume and keeps it in bounds.")
    ] = ImageCacheController()
