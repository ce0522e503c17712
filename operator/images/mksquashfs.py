"""The program that makes the squashfs, while it runs: what it is given, and why it failed."""

from __future__ import annotations

import fcntl
import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from kip.images import squashfs
from kip.images.errors import ToolFailed, ToolMissing, VolumeFull

_BUFFER = 256 << 10  # bytes of small entries that are written at once
_PIPE = 1 << 20  # bytes; the most that an ordinary user gets
_TOLD = 1000  # characters of its last words
_FULL = ("No space left on device", "Disk quota exceeded", "File too large")


@dataclass(frozen=True)
class Limits:
    """What one conversion may use."""

    processors: int = 1
    """Threads that compress; one more decompresses, hashes and sorts."""
    memory_mib: int = 256
    """For mksquashfs's buffers. It takes at least as many megabytes as are needed for its threads."""
    names_bytes: int = 1 << 30
    """For a layer's names and attributes, in this process; two million files with usual names. mksquashfs takes twice as
    much for them, besides its buffers."""


class Mksquashfs:
    """mksquashfs on a tar that comes through `write`."""

    def __init__(self, output: Path, limits: Limits) -> None:
        command = squashfs.command(output, processors=limits.processors, memory_mib=limits.memory_mib)
        # In memory: there may be no other place to write to, and a pipe that nobody reads would stop it.
        self._told = os.memfd_create("mksquashfs")
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._told,
                bufsize=_BUFFER,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
                # A terminal's Ctrl-C is ours to handle; if we go without a word, it sees the end of the tar missing.
                start_new_session=True,
            )
        except FileNotFoundError as error:
            os.close(self._told)
            raise ToolMissing(
                "mksquashfs is missing; install the package squashfs-tools (4.5 or later)"
            ) from error
        self._input = cast("IO[bytes]", self._process.stdin)
        with suppress(OSError):
            fcntl.fcntl(self._input, fcntl.F_SETPIPE_SZ, _PIPE)
        self._killed = False

    def write(self, piece: bytes | memoryview) -> None:
        """The next piece of the tar. Raises BrokenPipeError when it has ended; `end` says why."""
        self._input.write(piece)

    def end(self) -> None:
        """Waits until it has ended, all being written. Raises VolumeFull or ToolFailed, also if it only said something:
        it leaves out what it does not understand, and goes on."""
        with suppress(BrokenPipeError):
            self._input.close()
        code = self._process.wait()
        told = self._last_words()
        if code == 0 and not told:
            return
        if any(full in told for full in _FULL):
            raise VolumeFull(f"mksquashfs: {told}")
        by_signal = f"ended by signal {-code}; too little memory?" if code < 0 and not self._killed else ""
        raise ToolFailed(f"mksquashfs: {told or by_signal or f'exit code {code}'}")

    def kill(self) -> None:
        """Ends it at once, from any thread."""
        self._killed = True
        self._process.kill()

    def close(self) -> None:
        """Kills it if it still runs, and frees what it held here."""
        self.kill()
        self._process.wait()
        with suppress(OSError):
            self._input.close()
        with suppress(OSError):
            os.close(self._told)

    def _last_words(self) -> str:
        size = os.fstat(self._told).st_size
        told = os.pread(self._told, _TOLD, max(0, size - _TOLD)).decode(errors="replace")
        return "; ".join(line.strip() for line in told.splitlines() if line.strip())
