"""docs/provider-config.md says what the program does."""

from __future__ import annotations

from pathlib import Path

from kip.config.reference import page

DOCUMENT = Path(__file__).parents[3] / "docs" / "provider-config.md"


def test_the_committed_page_is_what_the_schema_says_now():
    assert DOCUMENT.read_text() == page(), "run tools/make_config_docs"


def test_every_key_is_explained():
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    assert len(rows) > 40
    assert all(row.rstrip(" |").split("|")[-1].strip() for row in rows)
