"""The place of the cells, as configured: for the operator, and for whoever checks it."""

from __future__ import annotations

from kip.app.location import Location
from kip.cells.site import SiteOptions
from kip.cloud.base import ImageSpec
from kip.config import BootImageSpec, Settings


def site_options(
    settings: Settings, location: Location, *, cluster: str, kubernetes_minor: str
) -> SiteOptions:
    """For `kip.cells.site`."""
    cells = settings.cells
    return SiteOptions(
        cluster=cluster,
        kubernetes_minor=kubernetes_minor,
        subnet_ids=location.subnet_ids,
        subnet_tags=location.subnet_tags,
        vpc_id=location.vpc_id,
        image=_image_spec(cells.boot_image_spec),
        extra_security_groups=cells.extra_security_groups,
        extra_cidrs=tuple(str(cidr) for cidr in cells.extra_cidrs),
    )


def _image_spec(given: BootImageSpec) -> ImageSpec | None:
    """The configured image; None leaves it to Kip."""
    if not given.given:
        return None
    return ImageSpec(
        ids=given.image_ids,
        owners=given.owners,
        executable_users=given.executable_users,
        filters=given.filters,
    )
