"""The documentation site can be made, without a warning, and has all pages in its navigation."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def site(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, made as `make docs` makes it."""
    made = tmp_path_factory.mktemp("site")
    command = next(line for line in (project / "Makefile").read_text().splitlines() if "sphinx-build" in line)
    options = command.split("sphinx-build ")[1].removesuffix(" docs build/docs").split()
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(project / "docs"), str(made)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--fail-on-warning" in options
    return made


def test_every_page_is_there_and_in_the_navigation(project: Path, site: Path) -> None:
    front = (site / "index.html").read_text()
    sources = {
        path.relative_to(project / "docs").with_suffix("") for path in (project / "docs").rglob("*.md")
    }
    for page in sources - {Path("designs/template")}:
        assert (site / page).with_suffix(".html").exists(), page
        assert page == Path("index") or f'href="{page}.html"' in front, f"{page} is not listed in an index.md"


def test_links_out_of_the_pages_lead_to_the_repository(site: Path) -> None:
    page = (site / "installation.html").read_text()
    assert 'href="https://github.com/elotl/kip/blob/main/deploy/iam/policy.json"' in page
    assert 'href="https://github.com/elotl/kip/tree/main/deploy/iam"' in page


def test_links_to_a_folder_of_pages_lead_to_its_index(site: Path) -> None:
    assert 'href="runbooks/index.html"' in (site / "observability.html").read_text()
    assert not (site / "_downloads").exists()


def test_what_the_navigation_is_made_from(project: Path) -> None:
    spec = importlib.util.spec_from_file_location("conf", project / "docs" / "conf.py")
    conf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conf)
    made = conf.navigation(
        "# Kip\n\n## Use\n\n- [A](a.md): first\n- [B](b/c.md)\n\nSee [D](d.md).\n\n## More\n"
    )
    assert made.count("{toctree}") == 1
    assert ":caption: Use\n\na\nb/c\n" in made
    assert ":glob:" in conf.navigation("# Runbooks\n")
