"""The boot script on a machine of files, with its systemd, metadata service and network replaced."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from kip.bootstrap import units
from kip.bootstrap.files import script

MAC = "02:00:0a:00:00:04"
METADATA = {
    "mac": MAC,
    "local-ipv4": "10.0.0.4",
    f"network/interfaces/macs/{MAC}/local-ipv4s": "10.0.0.4\n10.0.0.5",
}
# Where the script writes or looks; the rest of /proc and /dev is the real one.
_PLACES = re.compile(r"(?<![\w/.:])(?=/etc/|/run/|/proc/sys/|/sys/kernel/|/dev/console|/usr/bin/nvidia)")

SYSTEMCTL = """\
#!/bin/bash
if [ "$1" = show ]; then cat {root}/show; else echo "$*" >>{root}/told; fi
"""
CURL = """\
#!/bin/bash
for last; do
    case $last in
        */api/token)
            if [ -e {root}/away ]; then rm {root}/away; exit 7; fi
            printf secret ;;
        */meta-data/*)
            [[ " $* " == *" X-aws-ec2-metadata-token: secret "* ]] || exit 22
            cat "{root}/metadata/${{last#*/meta-data/}}" || exit 22
            echo ;;
    esac
done
"""
IP = """\
#!/bin/bash
[ "$*" = "-o -4 addr show to 10.0.0.4" ] && echo "2: ens5    inet 10.0.0.4/24 scope global ens5"
"""
# The key takes until the kubelet is on its way.
SSH_KEYGEN = """\
#!/bin/bash
until grep -qs kubelet.service {root}/told; do sleep 0.01; done
exec /usr/bin/ssh-keygen "$@"
"""


class Machine:
    def __init__(self, root: Path) -> None:
        self.root = root
        for directory in (
            "etc/kip",
            "etc/systemd/system",
            "etc/ssh/sshd_config.d",
            "run",
            "dev",
            "bin",
            "proc/sys/net/ipv4",
        ):
            (root / directory).mkdir(parents=True)
        (root / "etc/kip/options").write_text("NODE_NAME=kip-provider-0\n")
        (root / "etc/kip/kubeconfig.in").write_text("http://cell:@TOKEN@@127.0.0.1:6444\n")
        (root / "show").write_text("NeedDaemonReload=no\n\n" * 5)
        for path, text in METADATA.items():
            self.knows(path, text)
        for name, text in (("systemctl", SYSTEMCTL), ("curl", CURL), ("ip", IP), ("ssh-keygen", SSH_KEYGEN)):
            (root / "bin" / name).write_text(text.format(root=root))
            (root / "bin" / name).chmod(0o755)

    def knows(self, path: str, text: str) -> None:
        file = self.root / "metadata" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def boot(self) -> subprocess.CompletedProcess[str]:
        (self.root / "told").unlink(missing_ok=True)
        return subprocess.run(
            ["bash", "-c", _PLACES.sub(str(self.root), script("boot"))],
            env={"PATH": f"{self.root}/bin:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def told(self) -> list[str]:
        return (self.root / "told").read_text().splitlines()

    def read(self, path: str) -> str:
        return (self.root / "etc/kip" / path).read_text()

    @property
    def arguments(self) -> str:
        return (self.root / "etc/eks/kubelet/environment").read_text().replace(str(self.root), "")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_first_boot_makes_all_that_the_kubelet_needs(machine: Machine) -> None:
    done = machine.boot()
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.read("network") == "PRIMARY=10.0.0.4\nPOD=10.0.0.5\nDEVICE=ens5\n"
    token = machine.read("token")
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert machine.read("kubeconfig") == f"http://cell:{token}@127.0.0.1:6444\n"
    assert machine.arguments == (
        'NODEADM_KUBELET_ARGS="--config=/etc/kip/kubelet.json --kubeconfig=/etc/kip/kubeconfig'
        " --hostname-override=kip-provider-0 --runtime-cgroups=/runtime.slice/containerd.service"
        ' --node-ip=10.0.0.4"\n'
    )
    assert (machine.root / "proc/sys/net/ipv4/ip_forward").read_text() == "1\n"
    for secret in ("token", "kubeconfig", "ssh_host_ed25519_key.next"):
        assert (machine.root / "etc/kip" / secret).stat().st_mode & 0o077 == 0


def test_huge_pages_are_set_aside_as_far_as_the_kernel_has_such(machine: Machine) -> None:
    pages = machine.root / "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
    pages.parent.mkdir(parents=True)
    pages.write_text("0\n")
    with (machine.root / "etc/kip/options").open("a") as file:
        file.write("HUGE_PAGES='1048576kB=2 2048kB=512'\n")
    done = machine.boot()
    assert done.returncode == 0, "the kubelet says what it has, and the pod is held back"
    assert pages.read_text() == "512\n"
    assert "kip: no huge pages of 1048576kB" in done.stderr


def test_the_dead_mans_switch_comes_first_and_the_kubelet_does_not_wait_for_the_host_key(
    machine: Machine,
) -> None:
    assert machine.boot().returncode == 0
    assert machine.told() == [
        "restart --no-block kip-dead-man-switch.timer containerd.service",
        "restart --no-block kubelet.service",
    ]
    private = machine.root / "etc/kip/ssh_host_ed25519_key.next"
    made = subprocess.run(["ssh-keygen", "-yf", private], check=True, capture_output=True, text=True).stdout
    assert machine.read("own_host_key.pub").split()[:2] == made.split()[:2]


def test_units_are_read_again_only_where_others_refer_to_them(machine: Machine) -> None:
    (machine.root / "show").write_text("NeedDaemonReload=no\n\nNeedDaemonReload=yes\n")
    assert machine.boot().returncode == 0
    assert machine.told()[0] == "daemon-reload"


def test_another_boot_keeps_the_secrets_and_learns_new_addresses(machine: Machine) -> None:
    machine.boot()
    secrets = {name: machine.read(name) for name in ("token", "kubeconfig", "own_host_key.pub")}
    (machine.root / "etc/kip/ssh_host_ed25519_key.next").rename(machine.root / "etc/kip/ssh_host_ed25519_key")
    machine.knows(f"network/interfaces/macs/{MAC}/local-ipv4s", "10.0.0.4\n10.0.0.9")
    assert machine.boot().returncode == 0
    assert {name: machine.read(name) for name in secrets} == secrets
    assert not (machine.root / "etc/kip/ssh_host_ed25519_key.next").exists()
    assert "POD=10.0.0.9\n" in machine.read("network")


def test_a_boot_that_was_cut_off_is_made_good(machine: Machine) -> None:
    for half in ("ssh_host_ed25519_key.next", "token.new", "network.new"):
        (machine.root / "etc/kip" / half).write_text("half")
    assert machine.boot().returncode == 0
    assert machine.read("own_host_key.pub").startswith("ssh-ed25519 ")


def test_a_metadata_service_that_is_not_there_yet_is_waited_for(machine: Machine) -> None:
    (machine.root / "away").touch()
    done = machine.boot()
    assert (done.returncode, done.stderr) == (0, "")
    assert "POD=10.0.0.5\n" in machine.read("network")


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        (f"network/interfaces/macs/{MAC}/local-ipv4s", "10.0.0.4", "has no secondary address for the pod"),
        ("mac", "02:00:00:00:00:00", "boot failed in line"),
    ],
)
def test_without_an_address_for_the_pod_no_kubelet_starts_and_the_console_says_why(
    machine: Machine, path: str, text: str, message: str
) -> None:
    machine.knows(path, text)
    # Or the key would wait for a kubelet that does not come.
    (machine.root / "bin/ssh-keygen").unlink()
    done = machine.boot()
    assert done.returncode != 0
    assert message in done.stderr
    assert "boot failed in line" in (machine.root / "dev/console").read_text()
    assert machine.told() == ["restart --no-block kip-dead-man-switch.timer containerd.service"]
    assert not (machine.root / "etc/kip/network").exists()


def configure_containerd(machine: Machine) -> Path:
    path = machine.root / "etc/containerd/config.toml"
    path.parent.mkdir()
    path.write_text(units.CONTAINERD)
    return path


def test_on_an_image_with_nvidias_toolkit_its_runtime_is_the_default_one_however_often_it_boots(
    machine: Machine,
) -> None:
    config = configure_containerd(machine)
    runtime = machine.root / "usr/bin/nvidia-container-runtime"
    runtime.parent.mkdir(parents=True)
    runtime.touch(mode=0o755)
    for _ in range(2):
        assert machine.boot().returncode == 0
        written = tomllib.loads(config.read_text())["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]
        assert written == {
            "default_runtime_name": "nvidia",
            "runtimes": {
                "nvidia": {
                    "runtime_type": "io.containerd.runc.v2",
                    "options": {"BinaryName": str(runtime), "SystemdCgroup": True},
                }
            },
        }


def test_any_other_image_keeps_runc_and_one_that_should_have_gpus_says_so(machine: Machine) -> None:
    config = configure_containerd(machine)
    assert machine.boot().stderr == ""
    assert config.read_text() == units.CONTAINERD
    manifest = machine.root / "etc/kubernetes/manifests/kip-device-plugin.json"
    manifest.parent.mkdir(parents=True)
    manifest.touch()
    done = machine.boot()
    assert done.returncode == 0
    assert "nvidia-container-runtime: pods get no GPUs here" in done.stderr
    assert config.read_text() == units.CONTAINERD


def test_a_runtime_that_cannot_be_configured_does_not_keep_the_dead_mans_switch_from_being_set(
    machine: Machine,
) -> None:
    runtime = machine.root / "usr/bin/nvidia-container-runtime"
    runtime.parent.mkdir(parents=True)
    runtime.touch(mode=0o755)
    assert "containerd is not told of" in machine.boot().stderr
    assert machine.told()[0] == "restart --no-block kip-dead-man-switch.timer containerd.service"
