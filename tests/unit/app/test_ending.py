"""A process that is asked to end does end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from kip.app.ending import Ending


async def test_the_first_signal_is_a_request_and_the_second_an_order():
    died: list[int] = []
    ending = Ending(patience_s=60, die=died.append)
    waiting = asyncio.create_task(ending.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    ending.asked(signal.SIGTERM)
    await asyncio.wait_for(waiting, 1)
    assert died == []
    ending.asked(signal.SIGINT)
    assert died == [128 + signal.SIGINT]


HANGING = """
    import asyncio, signal, sys, threading, time
    from kip.app.ending import Ending

    async def stubborn():
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass

    async def main():
        ending = Ending(patience_s=0.3)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.asked, signal.SIGTERM)
        task = asyncio.create_task(stubborn(), name="the one that hangs")
        {at_first}
        print("up", flush=True)
        await ending.wait()
        {hang}

    asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("at_first", "hang"),
    [
        ("pass", "pass"),
        ("pass", "time.sleep(3600)"),
        ("threading.Thread(target=time.sleep, args=(3600,)).start()", "task = None; sys.exit()"),
    ],
    ids=["a task that ignores it", "a blocked event loop", "a thread of a library"],
)
def test_whatever_hangs_the_process_ends_and_says_what_it_was_at(at_first, hang):
    source = textwrap.dedent(HANGING).format(at_first=at_first, hang=hang)
    process = subprocess.Popen(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        began = time.monotonic()
        os.kill(process.pid, signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    assert time.monotonic() - began < 10
    assert process.returncode == 1
    assert "did not end within 0.3 s" in said
    assert "the one that hangs" in said or "stubborn" in said or "Thread" in said


def test_a_process_that_ends_by_itself_is_left_alone():
    source = textwrap.dedent("""
        import asyncio, signal
        from kip.app.ending import Ending

        async def main():
            ending = Ending(patience_s=30)
            ending.asked(signal.SIGTERM)
            await ending.wait()

        asyncio.run(main())
    """)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=25, check=False
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 15
