"""Where this process runs, by the metadata service of the instance below it (IMDSv2).

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
"""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp

_ENDPOINT = "http://169.254.169.254/latest"
# The service is on the machine itself: it answers within milliseconds or it is not there. A pod without a way to it
# (hop limit 1) gets no answer at all; two seconds are about the most that a start should lose by that.
_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Whereabouts:
    """What EC2 says of the instance that this process runs on."""

    region: str
    vpc_id: str
    subnet_id: str


async def whereabouts(*, endpoint: str = _ENDPOINT, timeout_s: float = _TIMEOUT_S) -> Whereabouts | None:
    """Ask; None when there is no metadata service, or none that answers us."""
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s)) as session:
            async with session.put(
                f"{endpoint}/api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"}
            ) as answer:
                answer.raise_for_status()
                headers = {"X-aws-ec2-metadata-token": await answer.text()}

            async def ask(path: str) -> str:
                async with session.get(f"{endpoint}/meta-data/{path}", headers=headers) as answer:
                    answer.raise_for_status()
                    return (await answer.text()).strip()

            interface = f"network/interfaces/macs/{await ask('mac')}"
            return Whereabouts(
                region=await ask("placement/region"),
                vpc_id=await ask(f"{interface}/vpc-id"),
                subnet_id=await ask(f"{interface}/subnet-id"),
            )
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None
