"""docs/choosing-instances.md shows what the commands in it really say."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "doubles"))

import runnable_docs


def test_every_example_says_what_the_page_says(project: Path) -> None:
    page = (project / "docs" / "choosing-instances.md").read_text()
    assert page.count("$ kip choose") >= 5
    assert runnable_docs.run(page) == page, "run tools/make_choosing_docs"
