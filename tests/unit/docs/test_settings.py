"""provider.yaml in the documents: every example is accepted, every key that is spoken of is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.docs.pages import Page, pages

from kip import config
from kip.config import Settings, obsolete
from kip.config.report import leaves

PATHS = {path for path, _, _ in leaves(Settings())}
SECTIONS = {path[0] for path in PATHS if len(path) > 1}
OF_OLD = {*obsolete.WITHOUT_EFFECT, *obsolete.MOVED}
_KEY = re.compile(rf"(?:{'|'.join(sorted(SECTIONS))})(?:\.[A-Za-z]+)+")
# Files of which an example speaks, by the first line of another one.
_NAME = re.compile(r"# (\S+\.ya?ml)\n")
_NO_KEYS = {"cells.kip.elotl.co", "cluster.local", "kubelet.service"}
_HISTORY = {"CHANGELOG.md"}


def example(text: str) -> dict[str, Any] | None:
    """The settings in a block, or None: something else."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    if not isinstance(found, dict) or found.get("kind", "serverConfig") != "serverConfig":
        return None
    return found if set(found) & SECTIONS else None


def spoken_of(page: Page) -> Iterator[tuple[int, str]]:
    """Keys in a text, like `cells.instanceTypes`."""
    for line, token in page.inline():
        if token.type == "code_inline" and _KEY.fullmatch(token.content) and token.content not in _NO_KEYS:
            yield line, token.content


def is_known(key: str) -> bool:
    """A value, a section of them, something in a value that has keys of its own, or a key of the first Kip."""
    path = tuple(key.split("."))
    return any(
        known[: len(path)] == path or path[: len(known)] == known
        for known in PATHS | OF_OLD
        if len(known) > 1
    )


def test_examples_are_accepted(project: Path, tmp_path: Path) -> None:
    every = [block for page in pages(project) for block in page.blocks("", "yaml")]
    blocks = [block for block in every if example(block.text) is not None]
    assert len(blocks) >= 3
    for block in every:
        if name := _NAME.match(block.text):
            (tmp_path / name[1]).write_text(block.text)
    wrong = []
    for block in blocks:
        file = tmp_path / "provider.yaml"
        file.write_text(block.text)
        report = config.check(file)
        if not report.ok:
            wrong.append(f"{block}: {report}")
    assert not wrong, "\n".join(wrong)


def test_keys_that_are_spoken_of_are_there(project: Path) -> None:
    keys = [
        (f"{page.path}:{line}", key)
        for page in pages(project)
        if page.path.name not in _HISTORY
        for line, key in spoken_of(page)
    ]
    assert len(keys) > 50
    assert not [f"{where}: {key}" for where, key in keys if not is_known(key)]


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("cells.instanceTypes", True),
        ("cells.gpu", True),
        ("kubelet.capacity.pods", True),
        ("cells.itzo.version", True),
        ("cells.instanceType", False),
        ("cells.gpu.plugin", False),
    ],
)
def test_which_keys_are_known(key: str, known: bool) -> None:
    assert is_known(key) is known
