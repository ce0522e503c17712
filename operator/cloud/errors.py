"""What can go wrong with the cloud, named by what to do about it.

AWS knows hundreds of error codes; the operator reacts in eight ways. `from_code` is the one place where codes
get a meaning, called by `kip.cloud.sdk` at the border. Codes and their meaning: "Error codes for the Amazon EC2
API" (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html); EFS's are with each action
of its API (https://docs.aws.amazon.com/efs/latest/ug/API_Operations.html).
"""

from __future__ import annotations

import re
from typing import ClassVar

from kip.cloud.advice import CREDENTIAL_CODES, advice


class CloudError(Exception):
    """AWS said no in a way the operator has no better name for. Retry with backoff, show it to people."""

    reason: ClassVar[str] = "CloudError"
    """CamelCase, fit for a condition's or event's reason."""

    def __init__(self, message: str, *, action: str = "", code: str = "") -> None:
        """`action` is the AWS action (`RunInstances`), `code` AWS's error code, both empty if not from AWS."""
        super().__init__(message)
        self.message = message
        self.action = action
        self.code = code

    @property
    def summary(self) -> str:
        """For statuses and events: what can be done about it too, and word for word the same each time."""
        return _advised(CloudError.__str__(self), self)

    def __str__(self) -> str:
        origin = ": ".join(filter(None, (self.action, self.code)))
        return f"{self.message} ({origin})" if origin else self.message


class InsufficientCapacity(CloudError):
    """AWS has no such machine there now: mark the offering unavailable and take the next one."""

    reason = "InsufficientCapacity"


class Throttled(CloudError):
    """Too many calls: repeat the same call later, with backoff."""

    reason = "Throttled"


class QuotaExceeded(CloudError):
    """A limit of the account or VPC is reached: ask for less or for something else, wait for room, tell people."""

    reason = "QuotaExceeded"


class SubnetFull(QuotaExceeded):
    """A subnet has not enough free addresses for all that was asked for: take another one, or ask for fewer."""

    reason = "SubnetFull"


# Of actions that are not EC2's, the service by which IAM names them.
_SERVICES = {
    "RegisterUsage": "aws-marketplace",
    "MeterUsage": "aws-marketplace",
    "GetProducts": "pricing",
    "GetAuthorizationToken": "ecr",
    "GetCallerIdentity": "sts",
    "GetServiceQuota": "servicequotas",
    "GetInstanceProfile": "iam",
    **dict.fromkeys(
        (
            "CreateFileSystem",
            "CreateMountTarget",
            "DeleteFileSystem",
            "DeleteMountTarget",
            "DescribeFileSystems",
            "DescribeLifecycleConfiguration",
            "DescribeMountTargetSecurityGroups",
            "DescribeMountTargets",
            "ModifyMountTargetSecurityGroups",
            "PutLifecycleConfiguration",
        ),
        "elasticfilesystem",
    ),
}


class NotAuthorized(CloudError):
    """Credentials or permissions do not suffice: tell people, retry slowly."""

    reason = "NotAuthorized"

    def __init__(self, message: str, *, action: str = "", code: str = "") -> None:
        """Takes an encoded authorization message, if there is one, out of AWS's text."""
        text, self.encoded_message = _split_encoded_message(message)
        super().__init__(text, action=action, code=code)

    @property
    def permission(self) -> str:
        """The IAM permission to ask for, like `ec2:RunInstances`; empty when none is missing.

        AWS names it where it is another than that for the call: `iam:PassRole` for an instance profile.
        """
        named = _NAMED_PERMISSION.search(self.message)
        if named:
            return named[1]
        # Other codes say that it is not known who asks, or that the account may not: no policy would help.
        if not self.action or self.code not in _NOT_PERMITTED:
            return ""
        return f"{_SERVICES.get(self.action, 'ec2')}:{self.action}"

    @property
    def summary(self) -> str:
        lead = f"not allowed to call {self.permission}: " if self.permission else ""
        return _advised(f"{lead}{super().__str__()}", self)

    def __str__(self) -> str:
        hint = (
            f"; for details: aws sts decode-authorization-message --encoded-message {self.encoded_message}"
            if self.encoded_message
            else ""
        )
        return f"{self.summary}{hint}"


# "User: arn:aws:… is not authorized to perform: iam:PassRole on resource: …"
_NAMED_PERMISSION = re.compile(r"not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)")
_NOT_PERMITTED = frozenset(("UnauthorizedOperation", "AccessDenied", "AccessDeniedException", ""))


class InvalidRequest(CloudError):
    """AWS refuses what we asked for: repeating it changes nothing, the request or configuration is wrong."""

    reason = "InvalidRequest"


class NotFound(CloudError):
    """What we named does not exist (any more, or not yet: EC2 is eventually consistent)."""

    reason = "NotFound"


class TokenConflict(CloudError):
    """The client token is used up (other parameters, or its instances are terminated): take a new one."""

    reason = "ClientTokenConflict"


class Unreachable(CloudError):
    """No usable answer. The call may have taken effect: repeat it with the same token, or look first."""

    reason = "CloudUnreachable"


_BY_CODE: dict[str, type[CloudError]] = {
    **dict.fromkeys(
        (
            "InsufficientInstanceCapacity",
            "InsufficientHostCapacity",
            "InsufficientCapacity",
            "InsufficientReservedInstanceCapacity",
            "InsufficientAddressCapacity",
            "InsufficientVolumeCapacity",
            "ReservationCapacityExceeded",
            "UnfulfillableCapacity",
            "SpotMaxPriceTooLow",
            # "Your requested instance type is not supported in your requested Availability Zone": for us the same.
            "Unsupported",
            "UnsupportedTenancy",
            # Of EFS.
            "InsufficientThroughputCapacity",
        ),
        InsufficientCapacity,
    ),
    **dict.fromkeys(
        (
            "RequestLimitExceeded",
            "RequestThrottled",
            "RequestThrottledException",
            "Throttling",
            "ThrottlingException",
            "ThrottledException",
            "EC2ThrottledException",
            "TooManyRequests",
            "TooManyRequestsException",
            "BandwidthLimitExceeded",
            "SlowDown",
        ),
        Throttled,
    ),
    **dict.fromkeys(
        (
            "InstanceLimitExceeded",
            "VcpuLimitExceeded",
            "MaxSpotInstanceCountExceeded",
            "SpotInstanceCountLimitExceeded",
        ),
        QuotaExceeded,
    ),
    **dict.fromkeys(("InsufficientFreeAddressesInSubnet", "NoFreeAddressesInSubnet"), SubnetFull),
    "BadRequest": InvalidRequest,
    **dict.fromkeys(
        (
            "UnauthorizedOperation",
            "CustomerNotEntitledException",
            "AccessDenied",
            "AccessDeniedException",
            "Blocked",
            "OptInRequired",
            "PendingVerification",
            "RequestExpired",
            *CREDENTIAL_CODES,
        ),
        NotAuthorized,
    ),
    **dict.fromkeys(
        (
            "IdempotentParameterMismatch",
            "IdempotentInstanceTerminated",
            "DuplicateRequestException",
            "IdempotencyConflictException",
        ),
        TokenConflict,
    ),
    **dict.fromkeys(
        ("TimestampOutOfBoundsException", "PlatformNotSupportedException", "DisabledApiException"),
        InvalidRequest,
    ),
    **dict.fromkeys(
        (
            "InternalError",
            "InternalFailure",
            "InternalServiceErrorException",
            "Unavailable",
            "ServiceUnavailable",
            "RequestTimeout",
        ),
        Unreachable,
    ),
}
#: For the codes too many to list, in order; the first match wins.
_BY_PATTERN: tuple[tuple[re.Pattern[str], type[CloudError]], ...] = (
    (re.compile(r"(NotFound|\.Unavailable)$"), NotFound),
    (re.compile(r"LimitExceeded$"), QuotaExceeded),
    (
        re.compile(r"^(Invalid|Missing|Malformed|Unknown|Unsupported|Validation|VPCIdNotSpecified)"),
        InvalidRequest,
    ),
)


def from_code(action: str, code: str, message: str, *, http_status: int = 400) -> CloudError:
    """The error to raise for an AWS answer.

    Args:
        action: the AWS action that was called, like `RunInstances`.
        code: AWS's error code. A status of 500 or more with an unknown code is `Unreachable`.
        message: AWS's text.
        http_status: status of the answer.
    """
    meaning = _BY_CODE.get(code) or next(
        (kind for pattern, kind in _BY_PATTERN if pattern.search(code)), None
    )
    if meaning is None:
        meaning = Unreachable if http_status >= 500 else CloudError
    return meaning(message or code or "no error message", action=action, code=code)


def _advised(text: str, error: CloudError) -> str:
    return "; ".join(filter(None, (text, advice(error.code, error.message))))


def _split_encoded_message(message: str) -> tuple[str, str]:
    """AWS's sentence, and the encoded authorization message it may carry at its end."""
    text, _, encoded = message.partition("Encoded authorization failure message:")
    return text.strip(), encoded.strip()
