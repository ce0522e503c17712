"""What can go wrong with a cell's connection, named by what to do about it."""

from __future__ import annotations


class TunnelError(Exception):
    """Anything about a cell's connection."""


class Unreachable(TunnelError):
    """No answer, or the connection was lost: dial again.

    Attributes:
        answered: something accepted or refused the connection, so the machine has booted.
    """

    def __init__(self, message: str, *, answered: bool = False) -> None:
        super().__init__(message)
        self.answered = answered


class HostKeyMismatch(TunnelError):
    """Whoever answered cannot prove to be this cell: tell it, and do not dial again unless something has changed."""


class AuthenticationRefused(TunnelError):
    """The machine does not accept our key: it was not launched by us, or its user data did not work."""


class ForwardRefused(TunnelError):
    """The cell does not let us listen on the port that its kubelet calls."""


class CommandFailed(TunnelError):
    """A command on the cell ended with an error.

    Attributes:
        exit_status: its exit code; None if a signal ended it.
        stderr: what it said.
    """

    def __init__(self, command: str, exit_status: int | None, stderr: str) -> None:
        said = " / ".join(stderr.strip().splitlines()[-3:]) or "it said nothing"
        super().__init__(f"{_shortened(command)}: exit {exit_status}: {said}")
        self.exit_status = exit_status
        self.stderr = stderr


class CommandTimedOut(TunnelError):
    """A command on the cell did not end in time; it may still be running."""

    def __init__(self, command: str, timeout_s: float) -> None:
        super().__init__(f"{_shortened(command)}: not done after {timeout_s:g} s")


def _shortened(command: str) -> str:
    line = " ".join(command.split())
    return line if len(line) <= 80 else f"{line[:79]}…"
