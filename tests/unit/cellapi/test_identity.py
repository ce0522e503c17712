from __future__ import annotations

import pytest

from kip.cellapi.identity import Token

SECRET = "0123456789abcdef"


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        (f"Bearer {SECRET}", True),
        (None, False),
        ("", False),
        ("Bearer", False),
        ("Bearer ", False),
        (SECRET, False),
        (f"bearer {SECRET}", False),
        (f"Bearer {SECRET} ", False),
        (f"Bearer {SECRET[:-1]}", False),
        (f"Basic {SECRET}", False),
        ("Bearer \udcff", False),
    ],
)
def test_only_the_exact_token_matches(header: str | None, matches: bool) -> None:
    assert Token(SECRET).matches(header) is matches


@pytest.mark.parametrize("secret", ["", "short", "x" * 15, "ü" * 16, "0123456789abcde\n"])
def test_refuses_what_is_no_token(secret: str) -> None:
    with pytest.raises(ValueError, match="token"):
        Token(secret)


def test_does_not_show_the_secret() -> None:
    assert SECRET not in repr(Token(SECRET))
