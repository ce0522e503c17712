"""docs/annotations.md says what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kip.model.annotations import ANNOTATIONS, read
from kip.pods.annotations import Wishes
from kip.pods.reference import page


def test_the_committed_page_is_what_the_table_says_now(project: Path) -> None:
    assert (project / "docs" / "annotations.md").read_text() == page(), "run tools/make_annotation_docs"


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, v) for key, one in ANNOTATIONS.items() for values in one.meaning for v in values.split(" or ")],
)
def test_every_value_that_is_shown_is_accepted(key: str, value: str) -> None:
    assert Wishes(**read(key, value))
    assert f"`{value}`" in page()


def test_every_annotation_has_a_row() -> None:
    assert re.findall(r"^\| `(\S+)`", page(), re.MULTILINE) == [*ANNOTATIONS]
