"""Markdown files as data: their headings, links and fenced blocks, with the lines where those are."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

# As GitHub makes an anchor of a heading: letters, digits, "-" and "_" stay, blanks become "-".
_NOT_IN_ANCHORS = re.compile(r"[^\w\- ]")


@dataclass(frozen=True)
class Block:
    """A fenced or indented block of code; `language` is empty for an indented one."""

    path: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True)
class Page:
    """A Markdown file."""

    path: Path

    @cached_property
    def tokens(self) -> list[Token]:
        return MarkdownIt("commonmark").enable("table").parse(self.path.read_text())

    def blocks(self, *languages: str) -> Iterator[Block]:
        """The blocks of code in these languages, or all."""
        for token in self.tokens:
            if token.type in ("fence", "code_block"):
                language = token.info.split()[0] if token.info.strip() else ""
                if not languages or language in languages:
                    yield Block(self.path, token.map[0] + 1, language, token.content)

    def inline(self) -> Iterator[tuple[int, Token]]:
        """Each piece of a text, with its line, in which code and links are."""
        for token in self.tokens:
            for child in token.children or ():
                yield (token.map or [0])[0] + 1, child

    def links(self) -> Iterator[tuple[int, str]]:
        for line, token in self.inline():
            if token.type == "link_open":
                yield line, str(token.attrs["href"])

    def anchors(self) -> set[str]:
        seen: Counter[str] = Counter()
        found = set()
        for opening, title in zip(self.tokens, self.tokens[1:], strict=False):
            if opening.type == "heading_open":
                text = "".join(t.content for t in title.children or () if t.type in ("text", "code_inline"))
                anchor = _NOT_IN_ANCHORS.sub("", text.lower()).replace(" ", "-")
                found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
                seen[anchor] += 1
        return found


def pages(project: Path, *patterns: str) -> list[Page]:
    """The Markdown files of the repository: new ones, too, before they are committed."""
    if not (project / ".git").exists():
        pytest.skip("not a git checkout: which files belong to the project is not known")
    listed = subprocess.run(
        [
            "git",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "--",
            *(patterns or ["*.md"]),
        ],
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
    )
    return [Page(project / name) for name in listed.stdout.split("\0") if name and (project / name).is_file()]
