"""What must not be in a log line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from kip.observe.redact import REDACTED, redact


def clean(**event: Any) -> Any:
    return redact(None, "info", event)


@pytest.mark.parametrize(
    "key",
    [
        "token",
        "password",
        "secretAccessKey",
        "access_key",
        "private_key",
        "authorization",
        "userData",
        "Secret",
    ],
)
def test_values_under_secret_names(key: str) -> None:
    assert clean(**{key: "x"}) == {key: REDACTED}
    assert clean(outer={"inner": [{key: "x"}]}) == {"outer": {"inner": [{key: REDACTED}]}}


@pytest.mark.parametrize("key", ["client_token", "secret_name", "tokens_left", "cell"])
def test_names_that_only_look_alike(key: str) -> None:
    assert clean(**{key: "kip-0123"}) == {key: "kip-0123"}


PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE\n-----END OPENSSH PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"key: {PEM} done", f"key: {REDACTED} done"),
        ("-----BEGIN PRIVATE KEY-----\ncut off", REDACTED),
        ("Authorization: Bearer abc.DEF-_~+/=", f"Authorization: Bearer {REDACTED}"),
        ("token eyJhbGciOi.eyJzdWIi.c2ln-_ for a pod", f"token {REDACTED} for a pod"),
        ("AKIAIOSFODNN7EXAMPLE is not allowed", f"{REDACTED} is not allowed"),
        ("Bearer of news", f"Bearer {REDACTED} news"),
        ("arn:aws:iam::123456789012:role/kip", "arn:aws:iam::123456789012:role/kip"),
    ],
)
def test_text_that_is_a_secret(text: str, shown: str) -> None:
    assert clean(message=text) == {"message": shown}
    assert clean(error=RuntimeError(text)) == {"error": shown}
    assert clean(seen=[text]) == {"seen": [shown]}


def test_bytes_are_counted_not_shown() -> None:
    assert clean(body=b"12345") == {"body": "(5 bytes)"}


def test_what_is_harmless_stays() -> None:
    event = {"message": "launched", "count": 3, "price": 0.5, "ok": True, "zone": None, "cells": ["a", "b"]}
    assert clean(**event) == event


def test_settings_hide_themselves() -> None:
    assert "s3cr3t" not in str(clean(settings={"key": SecretStr("s3cr3t")}))


@given(
    st.recursive(
        st.just("hunter2"), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner)
    )
)
def test_nothing_below_a_secret_name_shows(value: Any) -> None:
    assert "hunter2" not in str(clean(password=value))
