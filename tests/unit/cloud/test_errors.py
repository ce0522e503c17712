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


@pytest.mark.parametrize(
    ("code", "message", "meaning", "told"),
    [
        ("InsufficientInstanceCapacity", "no capacity", InsufficientCapacity, "more types or zones"),
        ("InsufficientHostCapacity", "no hosts", InsufficientCapacity, "hardware for one account alone"),
        ("UnfulfillableCapacity", "no capacity", InsufficientCapacity, "more types or zones"),
        ("Unsupported", "not in that zone", InsufficientCapacity, "does not have this type"),
        ("UnsupportedTenancy", "not dedicated", InsufficientCapacity, "hardware of one's own"),
        ("SpotMaxPriceTooLow", "too low", InsufficientCapacity, "spot-preferred"),
        ("InstanceLimitExceeded", "limit", QuotaExceeded, "Service Quotas"),
        ("VcpuLimitExceeded", "limit", QuotaExceeded, "quota of vCPUs"),
        ("MaxSpotInstanceCountExceeded", "limit", QuotaExceeded, "quota of spot instances"),
        ("InsufficientFreeAddressesInSubnet", "full", SubnetFull, "larger subnets"),
        ("RequestLimitExceeded", "slow down", Throttled, ""),
        ("PendingVerification", "wait", NotAuthorized, "verifying the account"),
        ("OptInRequired", "subscribe", NotAuthorized, "Marketplace"),
        ("Blocked", "blocked", NotAuthorized, "AWS Support"),
        ("AuthFailure", "no", NotAuthorized, "credentials"),
        ("ExpiredToken", "expired", NotAuthorized, "credentials"),
        ("RequestExpired", "expired", NotAuthorized, "clock"),
        ("InvalidAMIID.NotFound", "no image", NotFound, "cells.bootImageSpec"),
        ("InvalidAMIID.Unavailable", "no image", NotFound, "cells.bootImageSpec"),
        ("InvalidAMIID.Malformed", "no id", InvalidRequest, "cells.bootImageSpec"),
        ("InvalidGroup.NotFound", "no group", NotFound, "pod.elotl.co/security-groups"),
        ("InvalidSubnetID.NotFound", "no subnet", NotFound, "cloud.aws.subnetID"),
        (
            "InvalidParameterValue",
            "Value (web) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
            InvalidRequest,
            "pod.elotl.co/instance-profile",
        ),
        ("InvalidParameterValue", "Invalid value 't9.x' for InstanceType.", InvalidRequest, ""),
    ],
)
def test_people_are_told_what_they_can_do(
    code: str, message: str, meaning: type[CloudError], told: str
) -> None:
    error = from_code("RunInstances", code, message)
    assert type(error) is meaning
    plain = f"{message} (RunInstances: {code})"
    if told:
        lead, _, advice = error.summary.partition("; ")
        assert lead == plain
        assert told in advice
    else:
        assert error.summary == plain


def test_the_permission_that_is_missing_may_be_another_than_the_calls() -> None:
    error = from_code(
        "RunInstances",
        "UnauthorizedOperation",
        "You are not authorized to perform this operation. User: arn:aws:sts::1:assumed-role/kip/x is not authorized to "
        "perform: iam:PassRole on resource: arn:aws:iam::1:role/web because no identity-based policy allows the "
        "iam:PassRole action. Encoded authorization failure message: AbC-123",
    )
    assert isinstance(error, NotAuthorized)
    assert error.permission == "iam:PassRole"
    assert error.summary.startswith("not allowed to call iam:PassRole: ")


def test_unknown_credentials_lack_no_permission() -> None:
    error = from_code("RunInstances", "ExpiredToken", "The token has expired")
    assert isinstance(error, NotAuthorized)
    assert error.permission == ""


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
