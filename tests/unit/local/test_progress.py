"""What people see of a step."""

import io

import pytest
from rich.console import Console

from kip.local.progress import ConsoleProgress, Silent, span


def plain() -> tuple[ConsoleProgress, io.StringIO]:
    out = io.StringIO()
    return ConsoleProgress(Console(file=out, force_terminal=False, width=200)), out


def test_a_step_is_one_line_with_its_seconds() -> None:
    progress, out = plain()
    with progress.step("apiserver"):
        pass
    assert out.getvalue().split() == ["0.0s", "✓", "apiserver"]


def test_a_long_step_is_announced_with_its_usual_time() -> None:
    progress, out = plain()
    with progress.step("compile", usual=450):
        assert "compile (usually 7 min 30 s)" in out.getvalue()


def test_a_failed_step_says_so_and_fails() -> None:
    progress, out = plain()
    with pytest.raises(ValueError), progress.step("apiserver"):
        raise ValueError
    assert "✗ apiserver" in out.getvalue()


def test_names_in_brackets_are_no_markup() -> None:
    progress, out = plain()
    progress.note("[bold]x")
    assert out.getvalue() == "[bold]x\n"


def test_a_terminal_shows_the_step_while_it_runs() -> None:
    out = io.StringIO()
    progress = ConsoleProgress(Console(file=out, force_terminal=True, width=80))
    with progress.step("compile", usual=60):
        pass
    assert "compile (usually 1 min)" in out.getvalue()
    assert "✓ compile" in out.getvalue()


def test_silence() -> None:
    with Silent().step("x"):
        Silent().note("y")


@pytest.mark.parametrize(
    ("seconds", "text"), [(8, "8 s"), (59.6, "1 min"), (90, "1 min 30 s"), (420, "7 min")]
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert span(seconds) == text
