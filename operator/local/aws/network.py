"""A subnet of the local VPC: hands out addresses as EC2 does, and reuses them as late as it can."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.subnets import Subnet

#: EC2 keeps the first four addresses and the last one of every subnet for itself.
#: https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html
_KEPT_AT_START = 4


class LocalSubnet(Subnet):
    """moto's subnet with other rules for addresses: moto gives a freed address to the very next instance."""

    def __init__(self, *args: Any, withheld: tuple[IPv4Network, ...] = (), **kwargs: Any) -> None:
        """`withheld`: ranges that instances never get, because others on this machine use them."""
        super().__init__(*args, **kwargs)
        self._withheld = withheld
        self._never_used = deque(self._assignable())
        self._freed: deque[str] = deque()
        self._size = len(self._never_used)

    @property
    def available_ip_address_count(self) -> int:
        return self._size - len(self._subnet_ips)

    def get_available_subnet_ip(self, instance: Any) -> str:
        """An address nobody has: a fresh one while there are any, then the one that was freed first."""
        for addresses in (self._never_used, self._freed):
            while addresses:
                address = addresses.popleft()
                if address not in self._subnet_ips:
                    self._subnet_ips[address] = instance
                    return address
        raise self.no_free_addresses()

    def no_free_addresses(self) -> EC2ClientError:
        """What EC2 says to a launch that the subnet has no room for."""
        return EC2ClientError(
            "InsufficientFreeAddressesInSubnet",
            f"There are not enough free addresses in subnet '{self.id}' to satisfy the requested number of"
            " instances.",
        )

    def del_subnet_ip(self, ip: str) -> None:
        if self._subnet_ips.pop(ip, None) is not None:
            self._freed.append(ip)

    def _assignable(self) -> Iterator[str]:
        first, last = int(self.cidr.network_address) + _KEPT_AT_START, int(self.cidr.broadcast_address)
        for number in range(first, last):
            address = IPv4Address(number)
            if not any(address in network for network in self._withheld):
                yield str(address)
