"""What a person can do about an error of AWS, in a sentence beside AWS's own words.

Only where AWS's words leave that open. What each code means: "Error codes for the Amazon EC2 API"
(https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html).
"""

from __future__ import annotations

from collections.abc import Mapping

#: Codes that say that it is not known who asks.
CREDENTIAL_CODES = (
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidToken",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
)

_QUOTA = "request a higher one in Service Quotas, or end other instances"
_CREDENTIALS = (
    "the AWS credentials are wrong or have expired: Kip's are its service account's role or cloud.aws.accessKeyID; "
    "of a command outside the cluster they are those of the aws command"
)
_NO_CREDENTIALS = (
    "Kip's are its service account's role or cloud.aws.accessKeyID; a command outside the cluster takes those of the "
    "aws command (AWS_PROFILE, aws sso login, aws configure)"
)
_PROFILE = (
    "the instance profile must exist, and a new one takes a minute to be known: "
    "annotation pod.elotl.co/instance-profile, or cells.defaultIAMPermissions"
)

_BY_CODE: Mapping[str, str] = {
    "InsufficientInstanceCapacity": "AWS has none of these in that zone just now; more types or zones make it likelier",
    "InsufficientHostCapacity": "AWS has no such hardware for one account alone in that zone just now",
    "UnfulfillableCapacity": "AWS has none of these in that zone just now; more types or zones make it likelier",
    "Unsupported": "that zone does not have this type in this way",
    "UnsupportedTenancy": "this type cannot be on hardware of one's own",
    "SpotMaxPriceTooLow": "the spot price is above the price on demand; launch-type spot-preferred would go on demand",
    "InstanceLimitExceeded": f"a quota of the account is used up: {_QUOTA}",
    "VcpuLimitExceeded": f"the account's quota of vCPUs for such types is used up: {_QUOTA}",
    "MaxSpotInstanceCountExceeded": f"the account's quota of spot instances is used up: {_QUOTA}",
    "SpotInstanceCountLimitExceeded": f"the account's quota of spot instances is used up: {_QUOTA}",
    "InsufficientFreeAddressesInSubnet": "each cell takes two addresses; give cells larger subnets, or more of them",
    "PendingVerification": "AWS is still verifying the account for this region, which takes minutes, rarely a day",
    "OptInRequired": "not subscribed to by the account: accept the image's terms in AWS Marketplace, or enable the region",
    "Blocked": "AWS has blocked the account: contact AWS Support",
    "NoCredentials": _NO_CREDENTIALS,
    **dict.fromkeys(CREDENTIAL_CODES, _CREDENTIALS),
    "RequestExpired": "the clock of Kip's machine is wrong by minutes",
    "InvalidAMIID.NotFound": "the machine image is not there, or not for this account: cells.bootImageSpec",
    "InvalidAMIID.Unavailable": "the machine image cannot be used any more: cells.bootImageSpec",
    "InvalidAMIID.Malformed": "cells.bootImageSpec.imageIDs has an id that is none",
    "InvalidGroup.NotFound": (
        "the security group is not there, or in another VPC: "
        "annotation pod.elotl.co/security-groups, or cells.extraSecurityGroups"
    ),
    "DependencyViolation": "what uses it has to go first; of an image cache's volume: kip efs teardown",
    "InvalidSubnetID.NotFound": "the subnet is not there any more: cloud.aws.subnetID",
    "FileSystemLimitExceeded": "the account's quota of EFS file systems is used up: request a higher one in Service Quotas",
    "NetworkInterfaceLimitExceeded": "a mount target is a network interface: request a higher quota in Service Quotas",
    "NoFreeAddressesInSubnet": "a mount target takes one address: name another subnet of that zone",
    "SecurityGroupLimitExceeded": "a mount target has at most five security groups: take one away from it",
    "UnsupportedAvailabilityZone": "EFS is not in that zone; cells of other zones have their own mount targets",
    "MountTargetConflict": "a file system has one mount target for each zone, and all of them in one VPC",
    "InsufficientThroughputCapacity": "AWS cannot give that throughput there just now; try again later",
}


def advice(code: str, message: str) -> str:
    """The sentence, without a full stop; empty where AWS's words say it all."""
    if code == "InvalidParameterValue" and "iaminstanceprofile" in message.lower().replace(" ", ""):
        return _PROFILE
    return _BY_CODE.get(code, "")
