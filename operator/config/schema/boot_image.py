"""Section `cells.bootImageSpec`: which machine image cells start from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from kip.config.schema.section import Section
from kip.config.types import Words, matching, one_or_many, parsed, words


def _filters(value: Any) -> Mapping[str, tuple[str, ...]]:
    """`{name: [a, b]}`, or the first Kip's text `name=a,b is-public=true`."""
    if isinstance(value, str):
        pairs = [word.partition("=") for word in value.split()]
        if not all(name and equals and values for name, equals, values in pairs):
            raise ValueError(value)
        return {name: tuple(values.split(",")) for name, _, values in pairs}
    if not isinstance(value, Mapping):
        raise TypeError(value)
    return {str(name): words(one_or_many(values)) for name, values in value.items()}


class BootImageSpec(Section):
    """The machine image of the cells. Of several that match, the newest is taken.

    Every key may also be a text with spaces between its entries, as the first Kip had it.
    """

    owners: Annotated[
        Words, Field(description="Account numbers, `self`, `amazon` or `aws-marketplace`.")
    ] = ()
    executable_users: Annotated[
        Words, Field(description="Accounts that may launch the image: numbers, `self` or `all`.")
    ] = ()
    filters: Annotated[
        Mapping[str, tuple[str, ...]],
        parsed(_filters, "filters, like {name: my-image-*} or the text name=my-image-*"),
        Field(description="DescribeImages filters, name to value or values."),
    ] = {}
    image_ids: Annotated[
        tuple[Annotated[str, matching(r"ami-[0-9a-z]+", "the id of an image, like ami-0123abcd")], ...],
        parsed(words, "the ids of images in a list, or in one text with spaces between them"),
        Field(
            description="Ids of images; then owners and filters are seldom needed. Whatever is named by these keys is "
            "used for every instance type: it has to be of one architecture, and pods get GPUs on it only if it brings "
            "NVIDIA's driver and container toolkit (`/usr/bin/nvidia-container-runtime`)."
        ),
    ] = ()

    @property
    def given(self) -> bool:
        """False when every key was left out, so that Kip looks for the image itself."""
        return bool(self.owners or self.executable_users or self.filters or self.image_ids)
