"""The exact AWS calls the operator makes, and the only folder that knows which SDK makes them.

A file per service. Answers are AWS's own dictionaries; errors are those of `kip.cloud.errors`.
"""

from kip.cloud.sdk.account import AccountSdk
from kip.cloud.sdk.ec2 import PAGE_SIZE, Ec2Sdk, filters
from kip.cloud.sdk.ecr import EcrSdk
from kip.cloud.sdk.efs import EfsSdk
from kip.cloud.sdk.metering import MeteringSdk
from kip.cloud.sdk.pricing import PricingSdk
from kip.cloud.sdk.service import Answer, Observe, unobserved
from kip.cloud.sdk.session import SdkSettings, Session, open_ec2

__all__ = [
    "PAGE_SIZE",
    "AccountSdk",
    "Answer",
    "Ec2Sdk",
    "EcrSdk",
    "EfsSdk",
    "MeteringSdk",
    "Observe",
    "PricingSdk",
    "SdkSettings",
    "Session",
    "filters",
    "open_ec2",
    "unobserved",
]
