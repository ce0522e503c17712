"""Headers as registries send them."""

from __future__ import annotations

import pytest

from kip.oci.challenge import Challenge, best, parse


@pytest.mark.parametrize(
    ("header", "schemes"),
    [
        ('Bearer realm="https://auth.docker.io/token",service="registry.docker.io"', ["bearer"]),
        ('Basic realm="https://1.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com"', ["basic"]),
        ('Basic realm=x, Bearer realm="y"', ["basic", "bearer"]),
        ("Negotiate", ["negotiate"]),
        ("", []),
        ('"', []),
    ],
)
def test_schemes(header: str, schemes: list[str]) -> None:
    assert [challenge.scheme for challenge in parse([header])] == schemes


def test_commas_and_quotes_within_a_value() -> None:
    (challenge,) = parse(
        [r'Bearer realm="https://a/b", scope="repository:x:pull,push", error="say \"please\""']
    )
    assert challenge.get("realm") == "https://a/b"
    assert challenge.get("scope") == "repository:x:pull,push"
    assert challenge.get("error") == 'say "please"'
    assert challenge.get("service") == ""


def test_a_token_is_better_than_the_password_in_every_request() -> None:
    basic, bearer = Challenge("basic"), Challenge("bearer", (("realm", "https://a"),))
    assert best([basic, bearer]) is bearer
    assert best([basic, Challenge("bearer")]) is basic
    assert best([Challenge("negotiate")]) is None
