"""The documentation site: Sphinx over the same Markdown files that people read on GitHub (`make docs`).

Nothing in the pages is there for the site only. So two things are made from what they say anyway:

- the navigation, from the links that the pages called index list below their headings;
- where links lead that leave docs/, or name a folder: to the repository.
"""

from __future__ import annotations

import os.path
import re
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

REPOSITORY = "https://github.com/elotl/kip"

project = "Kip"
author = "the authors of Kip"
copyright = author  # noqa: A001 - the name that Sphinx reads
release = version = installed("kip-operator")

extensions = ["myst_parser", "sphinxcontrib.mermaid"]
exclude_patterns = ["designs/template.md"]
nitpicky = True

html_theme = "furo"
html_title = f"Kip {release}"
html_copy_source = False
html_theme_options = {
    "source_repository": REPOSITORY,
    "source_branch": "main",
    "source_directory": "docs/",
}

# Anchors as GitHub makes them, for headings of every level that the pages have.
myst_heading_anchors = 4
# What GitHub draws, the site draws too.
myst_fence_as_directive = ["mermaid"]
mermaid_fullscreen = False

_ENTRY = re.compile(r"^- \[[^\]]+\]\(([\w./-]+)\.md\)", re.MULTILINE)
_WHOLE_FOLDER = "```{toctree}\n:glob:\n:maxdepth: 1\n\n*\n```"


def navigation(text: str) -> str:
    """The page with a hidden table of contents for each `## heading` that lists pages.

    A page that lists none is that of a folder: it gets one, to be seen, of all pages there.
    """
    found: list[str] = []
    for part in re.split(r"^## ", text, flags=re.MULTILINE):
        pages = _ENTRY.findall(part)
        if pages:
            caption = part.splitlines()[0]
            found.append("\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```"]))
    return "\n\n".join([text, *(found or [_WHOLE_FOLDER]), ""])


def _add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    if page.rpartition("/")[2] == "index":
        source[0] = navigation(source[0])


class LinksToTheRepository(SphinxTransform):
    """Turns links to files that are no pages of the site, and to folders, into links to what GitHub shows there."""

    default_priority = 10

    def apply(self, **kwargs: Any) -> None:
        for kind in (addnodes.download_reference, addnodes.pending_xref):
            for node in [*self.document.findall(kind)]:
                # To an anchor of this page, or to a page: MyST finds it, or says that there is none.
                if node.get("reftype") == "myst" and not self._is_found(node["reftarget"]):
                    self._replace(node)

    def _is_found(self, target: str) -> bool:
        return not target or target.startswith("#") or target in self.env.found_docs

    def _replace(self, node: nodes.Element) -> None:
        path, _, anchor = node["reftarget"].partition("#")
        root = Path(self.env.srcdir)
        base = (root / self.env.docname).parent
        # MyST takes every Markdown file for a page, and names it as seen from the top.
        if node.get("refdomain") == "doc":
            base, path, anchor = root, f"{path}.md", node["reftargetid"] or ""
        target = Path(os.path.normpath(base / path))
        if (target / "index.md").exists():
            node["refdomain"], node["reftarget"] = "doc", (target / "index").relative_to(root).as_posix()
            node["reftargetid"] = anchor or None
        elif target.exists():
            place = f"{'tree' if target.is_dir() else 'blob'}/main/{target.relative_to(root.parent)}"
            address = f"{REPOSITORY}/{place}" + (f"#{anchor}" if anchor else "")
            node.replace_self(nodes.reference("", "", *node.children, refuri=address, internal=False))


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's way in."""
    app.connect("source-read", _add_navigation)
    app.add_transform(LinksToTheRepository)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
