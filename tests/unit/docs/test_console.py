"""How documents whose commands are run are read, and what is taken for what they show."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.e2e.support.console import Shell, Step, matches, steps

PAGE = """\
Text.

<!-- run -->
```console
$ a --b
out
$ c
```

```console
$ not run
```
"""


def test_blocks_that_are_marked_are_read(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert [*steps(page)] == [Step("a --b", "out\n", "page.md:5"), Step("c", None, "page.md:7")]


@pytest.mark.parametrize(
    ("shown", "printed", "right"),
    [
        ("NAME   AGE\nweb    …\n", "NAME                AGE\nweb 12s  \n\n", True),
        ("kip-…  Running\n", "kip-46af20fe  Running\n", True),
        ("kip-…  Running\n", "kip-46af20fe  Pending\n", False),
        ("first\n…\nlast\n", "first\nlast\n", True),
        ("first\n…\nlast\n", "first\nsecond\nthird\nlast\n", True),
        ("first\nlast\n", "first\nsecond\nlast\n", False),
        ("first\n", "first\nsecond\n", False),
        ("…\n", "", True),
        ("a.c\n", "abc\n", False),
    ],
)
def test_what_is_shown_is_compared_with_what_is_printed(shown: str, printed: str, right: bool) -> None:
    assert matches(shown, printed) is right


def test_the_shell_keeps_what_commands_leave_and_tells_what_fails(tmp_path: Path) -> None:
    with Shell(tmp_path, {**os.environ}) as shell:
        shell.run("greet() { echo hello $1; }; export WHO=you", 10)
        assert shell.run("greet $WHO", 10) == "hello you\n"
        assert shell.run("cat; echo on >&2", 10) == "on\n"
        with pytest.raises(AssertionError, match=r"\$ ls nothing\n(?s:.*)ended with 2"):
            shell.run("ls nothing", 10)
        with pytest.raises(AssertionError, match=r"takes more than 0.2 s"):
            shell.run("sleep 60", 0.2)
    with Shell(tmp_path, {**os.environ}) as shell, pytest.raises(AssertionError, match="ended the shell"):
        shell.run("exit", 10)
