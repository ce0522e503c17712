"""AWS's codes get a meaning."""

from __future__ import annotations

import re

import pytest

from kip.cloud import errors
from kip.cloud.errors import (
    CloudError,
    InsufficientCapacity,
    InvalidRequest,
    NotAuthorized,
    NotFound,
    QuotaExceeded,
    SubnetFull,
    Throttled,
    TokenConflict,
    Unreachable,
    from_code,
)


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("InsufficientInstanceCapacity", InsufficientCapacity),
        ("Unsupported", InsufficientCapacity),
        ("RequestLimitExceeded", Throttled),
        ("Throttling", Throttled),
        ("VcpuLimitExceeded", QuotaExceeded),
        ("InstanceLimitExceeded", QuotaExceeded),
        ("MaxSpotInstanceCountExceeded", QuotaExceeded),
        ("InsufficientFreeAddressesInSubnet", SubnetFull),
        ("RulesPerSecurityGroupLimitExceeded", QuotaExceeded),
        ("UnauthorizedOperation", NotAuthorized),
        ("InvalidClientTokenId", NotAuthorized),
        ("ExpiredToken", NotAuthorized),
        ("IdempotentParameterMismatch", TokenConflict),
        ("IdempotentInstanceTerminated", TokenConflict),
        ("InvalidInstanceID.NotFound", NotFound),
        ("InvalidAMIID.NotFound", NotFound),
        ("InvalidAMIID.Unavailable", NotFound),
        ("InvalidInstanceID.Malformed", InvalidRequest),
        ("InvalidParameterValue", InvalidRequest),
        ("InvalidUserData.Malformed", InvalidRequest),
        ("MissingParameter", InvalidRequest),
        ("UnsupportedOperation", InvalidRequest),
        ("InternalError", Unreachable),
        ("ServiceUnavailable", Unreachable),
        ("SomethingNobodyKnows", CloudError),
    ],
)
def test_each_code_has_its_meaning(code: str, meaning: type[CloudError]) -> None:
    error = from_code("RunInstances", code, "AWS's words")
    assert type(error) is meaning
    assert "AWS's words" in str(error)
    assert "RunInstances" in str(error)
    assert code in str(error)


def test_an_unknown_server_error_may_have_taken_effect() -> None:
    assert type(from_code("RunInstances", "SomethingNobodyKnows", "", http_status=502)) is Unreachable


def test_no_code_at_all_is_still_an_error_with_words() -> None:
    assert str(from_code("RunInstances", "", "")) == "no error message (RunInstances)"


def test_reasons_are_fit_for_conditions_and_tell_apart() -> None:
    kinds = [CloudError, *CloudError.__subclasses__(), *QuotaExceeded.__subclasses__()]
    assert len(kinds) == 10
    assert len({kind.reason for kind in kinds}) == len(kinds)
    # metav1.Condition: reason.
    pattern = re.compile(r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    assert all(pattern.fullmatch(kind.reason) for kind in kinds)


def test_a_missing_permission_is_named_and_its_encoded_message_kept_apart() -> None:
    error = from_code(
        "RunInstances",
        "UnauthorizedOperation",
        "You are not authorized to perform this operation. Encoded authorization failure message: AbC-123",
    )
    assert isinstance(error, NotAuthorized)
    assert error.permission == "ec2:RunInstances"
    assert error.encoded_message == "AbC-123"
    assert error.message == "You are not authorized to perform this operation."
    assert "decode-authorization-message --encoded-message AbC-123" in str(error)
    assert "AbC-123" not in error.summary, "it is another one each time"
    assert error.summary.startswith("not allowed to call ec2:RunInstances: You are not authorized")


def test_missing_credentials_name_no_permission() -> None:
    error = NotAuthorized("no AWS credentials")
    assert error.permission == ""
    assert str(error) == "no AWS credentials"


def test_every_error_says_what_to_do_about_it() -> None:
    assert all(kind.__doc__ for kind in vars(errors).values() if isinstance(kind, type))
