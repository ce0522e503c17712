"""Files to load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from kip.config import ConfigError, load


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a provider.yaml and gives its path."""

    def to_file(text: str) -> Path:
        path = tmp_path / "provider.yaml"
        path.write_text(dedent(text))
        return path

    return to_file


@pytest.fixture
def problems(write: Callable[[str], Path]) -> Callable[[str], list[str]]:
    """Loads a text that must be refused and gives what is said about it."""

    def of(text: str, environ: dict[str, str] | None = None) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(write(text), environ or {})
        return [str(problem) for problem in caught.value.problems]

    return of
