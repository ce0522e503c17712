"""docs/metrics.md says what the program tells."""

from __future__ import annotations

from pathlib import Path

from kip.observe.definitions import DEFINITIONS, IMAGE_CACHE
from kip.observe.reference import page

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"


def test_the_committed_page_is_what_is_defined_now() -> None:
    assert DOCUMENT.read_text() == page(), "run tools/make_metrics_docs"


def test_every_metric_and_label_is_explained() -> None:
    every = (*DEFINITIONS, *IMAGE_CACHE)
    assert all(d.help.endswith(".") for d in every)
    assert all(d.labels.values() for d in every if d.labels)
    assert page().count("\n## kip_") == len(every) == len({d.name for d in every})
