"""A newcomer's way: README.md and docs/local.md, read and done as they stand, in a world of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.console import Shell, matches, steps

from kip.local import lifecycle
from kip.local.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

_DOCUMENTS = ("README.md", "docs/local.md")
#: Seconds for one command; bringing the world up takes longest, half a minute on a machine that does other things too.
_PATIENCE_S = 120


@pytest.fixture
def environment(
    project: Path, tmp_path: Path, reserved: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """The documents speak of the usual world; this makes that one of this test's own, and takes it down."""
    monkeypatch.setenv("KIP_LOCAL_STATE", str(tmp_path / "states"))
    monkeypatch.setenv("KIP_LOCAL_NAME", reserved("kipdocs"))
    # This interpreter's `kip`, and the code of this checkout.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(project / "src"))
    yield {**os.environ}
    lifecycle.down(os.environ["KIP_LOCAL_NAME"])


def test_what_the_documents_say_can_be_done_and_shows_what_they_show(
    project: Path, environment: dict[str, str]
) -> None:
    wanted = [step for document in _DOCUMENTS for step in steps(project / document)]
    commands = " ".join(step.command for step in wanted)
    for spoken_of in ("local up", "apply", "get cells", "logs", "exec", "choose", "top", "local down"):
        assert spoken_of in commands, f"no document shows {spoken_of!r} any more"
    with Shell(project, environment) as shell:
        for step in wanted:
            printed = shell.run(step.command, _PATIENCE_S)
            assert step.shown is None or matches(step.shown, printed), (
                f"{step.where}: $ {step.command}\n{step.shown}\nis shown, and it prints\n{printed}"
            )
    assert World.find(environment["KIP_LOCAL_NAME"]) is None
