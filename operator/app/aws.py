"""How AWS is reached, from what is configured."""

from __future__ import annotations

from kip.cloud.sdk import SdkSettings
from kip.config import Aws


def sdk_settings(aws: Aws, region: str) -> SdkSettings:
    """For `kip.cloud.sdk.open_ec2`."""
    return SdkSettings(
        region=region,
        endpoint_url=str(aws.endpoint_url) if aws.endpoint_url else None,
        access_key_id=aws.access_key_id,
        secret_access_key=aws.secret_access_key.get_secret_value() if aws.secret_access_key else None,
        verify_tls=not aws.insecure_tls_skip_verify,
    )
