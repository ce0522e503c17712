"""An EC2 instance that boots, has secondary addresses and lets go of everything when it is terminated."""

from __future__ import annotations

import time
from typing import Any

from moto.ec2.models.instances import Instance, InstanceState, StateReason

#: EC2's number for each state name (InstanceState in the API reference).
STATE_CODES = {
    "pending": 0,
    "running": 16,
    "shutting-down": 32,
    "terminated": 48,
    "stopping": 64,
    "stopped": 80,
}

#: What EC2 says when the instance powered itself off.
INSTANCE_INITIATED = "Client.InstanceInitiatedShutdown: Instance initiated shutdown"


class LocalInstance(Instance):
    """moto's instance and what it lacks."""

    #: Epoch seconds at which a pending instance runs; None when it does not wait for that.
    runs_at: float | None = None
    reservation_id: str = ""
    terminated_at: float | None = None
    #: As they were at launch: EC2 forgets them with the instance, who takes a machine down still needs them.
    last_private_ip: str | None = None
    last_secondary_ips: tuple[str, ...] = ()
    last_subnet_cidr: str | None = None

    def prep_nics(self, nic_spec: list[dict[str, Any]], *args: Any, **kwargs: Any) -> None:
        super().prep_nics(nic_spec, *args, **kwargs)
        wanted = {int(spec["DeviceIndex"]): spec for spec in nic_spec}
        for index, interface in self.nics.items():
            spec = wanted.get(index, {})
            # moto keeps the interfaces of a terminated instance unless told otherwise; EC2's default is the reverse.
            interface.delete_on_termination = spec.get("DeleteOnTermination", True)
            for _ in range(int(spec.get("SecondaryPrivateIpAddressCount") or 0)):
                address = interface.subnet.get_available_subnet_ip(self)
                interface.private_ip_addresses.append({"Primary": False, "PrivateIpAddress": address})
        if primary := self.nics.get(0):
            self.last_private_ip = primary.private_ip_address
            self.last_secondary_ips = tuple(
                a["PrivateIpAddress"] for a in primary.private_ip_addresses if not a["Primary"]
            )
            self.last_subnet_cidr = primary.subnet.cidr_block

    def boot(self, delay: float) -> None:
        """Stay pending for `delay` seconds."""
        if delay > 0:
            self.set_state("pending")
            self.runs_at = time.time() + delay

    def run_if_due(self, now: float) -> bool:
        """Become running when the boot delay is over; True if that is so just now."""
        if self.state != "pending" or self.runs_at is None or now < self.runs_at:
            return False
        self.set_state("running")
        return True

    def set_state(self, name: str, reason: str = "") -> None:
        """Change the state without any of its effects; `reason` is EC2's `Code: text`."""
        self._state = InstanceState(name, STATE_CODES[name])
        self.state_reason = StateReason(reason, reason.partition(":")[0])

    def terminate(self) -> InstanceState:
        if self.state == "terminated":
            return self._state
        previous = super().terminate()
        # As DescribeInstances shows it: a terminated instance has no network any more.
        self.nics = {}
        self._subnet_id = None
        self.terminated_at = time.time()
        return previous

    @property
    def private_ip(self) -> str | None:
        return super().private_ip if self.nics else None

    @property
    def private_ip_address(self) -> str | None:
        return self.private_ip

    @property
    def private_dns_name(self) -> str:
        return super().private_dns_name if self.nics else ""

    @property
    def public_ip(self) -> str | None:
        return super().public_ip if self.nics else None

    @property
    def public_ip_address(self) -> str | None:
        return self.public_ip

    # What follows are DescribeInstances filters by name, see `kip.local.aws.ec2.FILTERS`.

    @property
    def network_addresses(self) -> list[str]:
        """Every private address of every interface."""
        return [
            address["PrivateIpAddress"] for nic in self.nics.values() for address in nic.private_ip_addresses
        ]

    @property
    def launch_index(self) -> str:
        """The launch index as a filter compares it."""
        return str(self.ami_launch_index)

    def __del__(self) -> None:
        """moto frees the addresses here, which may belong to another instance by then; `terminate` did it."""
