"""How far it is, on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from kip.imagecache.bars import Bars
from kip.images.format import Layer
from kip.images.pull import LayerProgress

LAYER = Layer("sha256:" + "1" * 64, "sha256:" + "abcdef012345" + "2" * 52, 2 << 20)


def shown(*, terminal: bool, come: tuple[int, ...]) -> str:
    out = io.StringIO()
    with Bars(Console(file=out, force_terminal=terminal, width=100)) as bars:
        for number in come:
            bars.layer(LayerProgress(LAYER, number))
    return out.getvalue()


def test_a_line_for_each_layer_where_there_is_no_terminal() -> None:
    assert shown(terminal=False, come=(1 << 20, 2 << 20)) == "  abcdef012345: 2Mi, done\n"


def test_a_line_every_ten_seconds_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(0, 1000, 6))
    monkeypatch.setattr("kip.imagecache.bars.time.monotonic", lambda: float(next(seconds)))
    lines = shown(terminal=False, come=(1 << 19, 1 << 20, 1 << 20)).splitlines()
    assert lines == ["  abcdef012345: 1Mi of 2Mi"]


def test_a_bar_on_a_terminal() -> None:
    text = shown(terminal=True, come=(1 << 20, 2 << 20))
    assert "abcdef012345" in text
    assert "2.0/2.0 MiB" in text
