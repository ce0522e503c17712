"""Machines that are really booted: reached over SSH, powered off, orphaned by a killed daemon, and gone."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from kip.local.room import machine
from kip.local.room.cleanup import cleanup_all
from kip.local.room.instances import FAULT_NO_BOOT, FAULT_NO_KUBELET, FAULT_NO_SSHD
from kip.local.room.wiring import listens

pytestmark = pytest.mark.e2e


async def test_two_machines_boot_and_are_gone_when_terminated(lab):
    one, two = lab.run(1), lab.run(2)
    names = await asyncio.gather(*(lab.ssh(name, "hostname") for name in (one, two)))
    assert names == ["ip-" + str(lab.world.cidr[10 + number]).replace(".", "-") for number in (1, 2)]
    # They are on one network and reach each other, and the host's own address.
    address = lab.endpoint.instances[two]["private_ip"]
    assert "SSH-2.0" in await lab.ssh(one, f"bash -c 'head -c7 </dev/tcp/{address}/22'")
    lab.endpoint.terminate(one)
    await lab.gone(one)
    assert await lab.ssh(two, "echo still there") == "still there"
    lab.endpoint.terminate(two)
    await lab.gone(two)
    await lab.until(
        lambda: not lab.left() or lab.left() == _parents(lab), "nothing left but empty directories"
    )


def _parents(lab) -> list[str]:
    """What a room keeps for its next machines."""
    kept = [
        path for path in (lab.world.cells, lab.world.runc_root) if path.exists() and not [*path.iterdir()]
    ]
    return [entry for entry in lab.left() if entry.startswith("cgroup ")] + [
        f"directory {path}" for path in kept
    ]


async def test_a_machine_has_its_instance_types_size(lab):
    name = lab.run(1, vcpus=5, memory_mib=1024)
    seen = await lab.ssh(
        name, "grep MemTotal /proc/meminfo; ls -d /sys/devices/system/node/node*/cpu* | wc -l"
    )
    memory, cpus = seen.splitlines()
    assert 950 < int(memory.split()[1]) / 1024 < 1024
    assert int(cpus) == 5
    assert (await lab.ssh(name, "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || true")) in {
        str(1024**3),
        "",  # cgroup v2 shows no limit at a namespace's root
    }


async def test_user_data_of_several_parts_is_executed_and_told_on_the_console(lab):
    user_data = b"""Content-Type: multipart/mixed; boundary="=="

--==
Content-Type: text/x-shellscript

#!/bin/bash
echo "script as $(id -un)"
--==
Content-Type: text/cloud-config

#cloud-config
write_files: [{path: /etc/sysctl.d/99-test.conf, content: "net.ipv4.ip_forward = 1\\n"}]
runcmd: ["sysctl --quiet --system; echo forward=$(cat /proc/sys/net/ipv4/ip_forward)", [of-no-host]]
--==--
"""
    name = lab.endpoint.run(1, user_data)
    await lab.booted(name)
    await lab.until(lambda: "ERROR: runcmd: exit code 127" in lab.console(name), "the failed command is told")
    assert "script as root" in lab.console(name)
    assert "forward=1" in lab.console(name)
    await lab.until(lambda: "[FAILED] cloud-final.service" in lab.console(name), "the failed unit is told")


async def test_a_machine_knows_itself_by_its_metadata(lab):
    name = lab.run(1, launch_index=7)
    asked = """set -e
m=http://169.254.169.254/latest
t=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $m/api/token)
for path in instance-id ami-launch-index local-ipv4; do
    curl -sf -H "X-aws-ec2-metadata-token: $t" $m/meta-data/$path; echo
done
curl -s -o /dev/null -w '%{http_code}' $m/meta-data/instance-id
"""
    told = (await lab.ssh(name, asked)).splitlines()
    assert told == [name, "7", str(lab.world.cidr[11]), "401"]


@pytest.mark.parametrize("hop_limit", [1, 2])
async def test_a_pod_is_known_by_its_machines_secondary_address_within_the_hop_limit(lab, hop_limit):
    """The address is routed, as a cell does it, into a namespace of its own and answered for by proxy ARP."""
    name = lab.run(1, hop_limit=hop_limit)
    pod = lab.endpoint.instances[name]["secondary_ips"][0]
    script = f"""set -e
echo 1 >/proc/sys/net/ipv4/ip_forward
ip netns add pod
ip link add kip0 type veth peer name eth0 netns pod
ip link set kip0 up
ip route add {pod}/32 dev kip0
echo 1 >/proc/sys/net/ipv4/conf/kip0/proxy_arp
ip -n pod link set eth0 up
ip -n pod addr add {pod}/24 dev eth0
ip -n pod route add default dev eth0
m=http://169.254.169.254/latest
t=$(ip netns exec pod curl -sf -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $m/api/token) || exec echo no token
ip netns exec pod curl -sf -m 2 -H "X-aws-ec2-metadata-token: $t" $m/meta-data/instance-id
"""
    assert await lab.ssh(name, script) == (name if hop_limit > 1 else "no token")


async def test_a_power_off_from_inside_ends_the_instance(lab):
    name = lab.run(1)
    await lab.ssh(name, "systemd-run --no-block sh -c 'sleep 0.3; systemctl poweroff -ff'")
    await lab.until(lambda: lab.endpoint.reports, "the end is told")
    assert [(told, state) for told, state, _ in lab.endpoint.reports] == [(name, "terminated")]
    await lab.gone(name)


async def test_loop_devices_that_a_machine_forgot_are_detached(lab):
    name = lab.run(1)
    device = await lab.ssh(name, "truncate -s 1M /var/tmp/disk && losetup --find --show /var/tmp/disk")
    assert await lab.ssh(name, f"losetup --noheadings --output BACK-INO {device}")
    lab.endpoint.terminate(name)
    await lab.gone(name)
    attached = Path(f"/sys/block/{device.removeprefix('/dev/')}/loop/backing_file")
    assert not attached.exists()


async def test_a_restarted_daemon_adopts_what_runs_and_removes_what_should_not(lab):
    one, two = lab.run(1), lab.run(2)
    before = [await lab.booted(name) for name in (one, two)]
    await lab.ssh(one, "touch /run/not-rebooted")
    await lab.daemon.kill()
    lab.endpoint.terminate(two)
    assert machine.running(lab.world, two) == before[1]  # nobody was there to end it
    await lab.daemon.start()
    await lab.gone(two)
    assert machine.running(lab.world, one) == before[0]
    assert await lab.ssh(one, "ls /run/not-rebooted") == "/run/not-rebooted"
    # The new daemon serves metadata and notices the end of the machine that the old one booted.
    assert (
        await lab.ssh(one, "curl -s -o /dev/null -w '%{http_code}' http://169.254.169.254/latest/") == "401"
    )
    os.kill(before[0].pid, 9)
    await lab.until(lambda: lab.endpoint.reports, "the end is told")
    await lab.gone(one)


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2, 0.4])
async def test_nothing_is_left_when_the_daemon_is_killed_in_the_middle_of_booting(lab, delay):
    for number in range(1, 5):
        lab.run(number)
    await lab.until(lambda: machine.present(lab.world), "a boot has begun")
    await asyncio.sleep(delay)
    await lab.daemon.kill()
    await asyncio.to_thread(cleanup_all, lab.world)
    assert lab.left() == []


async def test_cleaning_up_ends_a_daemon_that_still_boots(lab):
    lab.run(1)
    await lab.until(lambda: machine.present(lab.world), "a boot has begun")
    await asyncio.to_thread(cleanup_all, lab.world)
    assert lab.left() == []
    assert await asyncio.wait_for(lab.daemon.process.wait(), 20) == -9


async def test_a_boot_that_was_cut_off_is_done_anew(lab):
    name = lab.run(1)
    await lab.until(lambda: machine.present(lab.world), "a boot has begun")
    await lab.daemon.kill()
    await lab.daemon.start()
    assert await lab.ssh(name, "echo up") == "up"


async def test_a_machine_whose_sshd_never_comes_up(lab):
    name = lab.run(1, tags={FAULT_NO_SSHD: "true"})
    booted = await lab.booted(name)
    await lab.until(lambda: f"{name}: no sshd after" in lab.daemon.said(), "the missing sshd is told")
    assert not listens(booted.pid, 22)


async def test_a_machine_whose_kubelet_never_asks(lab):
    settings = {
        "write_files": [{"path": "/etc/eks/kubelet/environment", "content": "NODEADM_KUBELET_ARGS=\n"}],
        "runcmd": ["systemctl start --no-block kubelet"],
    }
    name = lab.run(1, settings, tags={FAULT_NO_KUBELET: "true"})
    script = (
        "until systemctl is-active --quiet kubelet; do sleep 0.1; done; systemctl show -P ExecStart kubelet"
    )
    assert "/bin/sleep" in await lab.ssh(name, script)


async def test_a_machine_that_cannot_boot_is_terminated_with_the_reason(lab):
    name = lab.run(1, tags={FAULT_NO_BOOT: "true"})
    await lab.until(lambda: lab.endpoint.reports, "the failure is told")
    assert [(told, state) for told, state, _ in lab.endpoint.reports] == [(name, "terminated")]
    assert lab.endpoint.reports[0][2].startswith("Server.InternalError")
    assert f"boot failed: {name}" in lab.daemon.said()


async def test_eight_at_once(lab):
    names = [lab.run(number) for number in range(1, 9)]
    assert await asyncio.gather(*(lab.ssh(name, "echo up") for name in names)) == ["up"] * 8
    for name in names:
        lab.endpoint.terminate(name)
    await asyncio.gather(*(lab.gone(name, seconds=60) for name in names))
