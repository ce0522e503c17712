"""Links lead somewhere: to files that there are, and to headings in them. Other sites are not asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.docs.pages import Page, pages


def trouble(page: Page) -> list[str]:
    """What is wrong with the links of a page."""
    found = []
    for line, link in page.links():
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.path.parent / name).resolve() if name else page.path
        if not target.exists():
            found.append(f"{page.path}:{line}: {link}: there is no such file")
        elif anchor and target.suffix == ".md" and anchor not in Page(target).anchors():
            found.append(f"{page.path}:{line}: {link}: there is no such heading")
    return found


def test_links_lead_somewhere(project: Path) -> None:
    wrong = [line for page in pages(project) for line in trouble(page)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("link", "wrong"),
    [
        ("here.md", ""),
        ("here.md#kip-doctor-what-it-says", ""),
        ("#twice-1", ""),
        ("here.md#twice-2", "no such heading"),
        ("there.md", "no such file"),
        ("https://example.com/nothing", ""),
    ],
)
def test_what_the_check_finds(tmp_path: Path, link: str, wrong: str) -> None:
    path = tmp_path / "here.md"
    path.write_text(f"# `kip doctor`: what it says\n\n## Twice\n\n## Twice\n\nSee [this]({link}).\n")
    found = trouble(Page(path))
    assert [wrong in line for line in found] == ([True] if wrong else [])
