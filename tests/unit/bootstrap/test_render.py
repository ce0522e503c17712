"""User data against golden files, and what cloud-init will make of it.

Rewrite the golden files after an intended change: KIP_REWRITE_GOLDEN=1 pytest tests/unit/bootstrap
"""

from __future__ import annotations

import dataclasses
import email
import gzip
import json
import os
import random
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from kip.bootstrap import layout
from kip.bootstrap.files import cell_files
from kip.bootstrap.options import BootstrapOptions, InvalidOptions
from kip.bootstrap.render import USER_DATA_LIMIT, UserDataTooLarge, plain_user_data, user_data
from kip.model.hugepages import HugePages

GOLDEN = Path(__file__).parent / "golden"
HOST_KEY = (
    "-----BEGIN OPENSSH PRIVATE KEY-----\n"
    "Zmlyc3QgY29udGFjdCBob3N0IGtleSBvZiB0aGUgZ29sZGVuIGZpbGVz\n"
    "-----END OPENSSH PRIVATE KEY-----\n"
)
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nb3BlcmF0b3IgQ0E=\n-----END CERTIFICATE-----\n"


def options(**changes: object) -> BootstrapOptions:
    base = BootstrapOptions(
        node_name="kip-provider-0",
        cluster_dns=("10.96.0.10",),
        first_contact_host_key=HOST_KEY,
        operator_public_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtpcA",
        operator_ca_pem=CERTIFICATE,
        dead_man_switch_s=600,
        vpc_cidrs=("10.0.0.0/16", "100.64.0.0/16"),
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def golden(name: str, actual: bytes) -> None:
    path = GOLDEN / name
    if os.environ.get("KIP_REWRITE_GOLDEN"):
        path.write_bytes(actual)
    assert actual.decode() == path.read_text(), f"{path} differs; KIP_REWRITE_GOLDEN=1 rewrites it"


def config_of(data: bytes) -> dict[str, object]:
    assert data.startswith(b"#cloud-config\n")
    config = yaml.safe_load(data)
    assert isinstance(config, dict)
    return config


def files_of(data: bytes) -> dict[str, dict[str, str]]:
    return {entry["path"]: entry for entry in config_of(data)["write_files"]}  # type: ignore[attr-defined]


def test_plain_user_data_is_as_agreed() -> None:
    golden("user-data.yaml", plain_user_data(options()))


def test_user_data_with_a_part_of_the_users_is_as_agreed() -> None:
    golden("user-data.mime", plain_user_data(options(extra_cloud_init=b"#!/bin/sh\necho mine\n")))


def test_user_data_is_the_plain_one_compressed() -> None:
    assert gzip.decompress(user_data(options())) == plain_user_data(options())


def test_user_data_leaves_most_of_the_limit_to_the_user() -> None:
    assert len(user_data(options())) < USER_DATA_LIMIT // 2


def test_equal_options_give_equal_bytes_in_every_process() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_render as t;"
        "from kip.bootstrap.render import user_data;"
        "sys.stdout.write(user_data(t.options(extra_cloud_init=b'#!/bin/sh\\n')).hex())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program, str(Path(__file__).parent)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert outputs == {user_data(options(extra_cloud_init=b"#!/bin/sh\n")).hex()}


def test_the_order_in_which_aws_lists_the_vpcs_networks_does_not_matter() -> None:
    networks = ("100.64.0.0/16", "10.0.0.0/16")
    assert user_data(options(vpc_cidrs=networks)) == user_data(
        options(vpc_cidrs=(*networks[::-1], networks[0]))
    )


def test_every_file_arrives_as_it_was_meant() -> None:
    written = files_of(plain_user_data(options()))
    for file in cell_files(options()):
        assert written[file.path]["content"] == file.content
        assert written[file.path]["permissions"] == file.mode


def test_the_program_that_starts_all_is_written_last() -> None:
    assert list(files_of(plain_user_data(options())))[-1] == "/opt/kip/boot"


@pytest.mark.parametrize(
    "path",
    [
        layout.HOST_KEY,
        layout.AUTHORIZED_KEYS,
        layout.KUBECONFIG_TEMPLATE,
        "/etc/ssh/sshd_config.d/00-kip.conf",
    ],
)
def test_keys_and_what_names_them_are_roots_alone(path: str) -> None:
    assert files_of(plain_user_data(options()))[path]["permissions"] == "0600"


def test_the_operator_may_open_exactly_two_tunnels() -> None:
    line = files_of(plain_user_data(options()))[layout.AUTHORIZED_KEYS]["content"]
    assert line == (
        'restrict,port-forwarding,permitlisten="127.0.0.1:6443",permitopen="127.0.0.1:10250" '
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtpcA\n"
    )


def test_the_kubelet_is_configured_from_the_options() -> None:
    chosen = options(cluster_dns=("172.20.0.10",), cluster_domain="kip.test", shutdown_grace_period_s=7)
    config = json.loads(files_of(plain_user_data(chosen))[layout.KUBELET_CONFIG]["content"])
    assert config["clusterDNS"] == ["172.20.0.10"]
    assert config["clusterDomain"] == "kip.test"
    assert config["shutdownGracePeriod"] == "7s"
    assert config["registerNode"] is False
    assert config["authentication"]["x509"]["clientCAFile"] == layout.OPERATOR_CA


def test_registry_credentials_can_be_left_out() -> None:
    path = layout.CREDENTIAL_PROVIDER_CONFIG
    assert path in files_of(plain_user_data(options()))
    assert path not in files_of(plain_user_data(options(registry_credential_provider=False)))


def test_registry_hosts_are_looked_for_in_one_directory() -> None:
    config = tomllib.loads(files_of(plain_user_data(options()))["/etc/containerd/config.toml"]["content"])
    registry = config["plugins"]["io.containerd.cri.v1.images"]["registry"]
    assert registry == {"config_path": "/etc/containerd/certs.d"}, "containerd does not take a list apart"


GPUS = {"device_plugin_image": "nvcr.io/nvidia/k8s-device-plugin:v0.20.0"}
DEVICE_PLUGIN = "/etc/kubernetes/manifests/kip-device-plugin.json"


def test_a_machine_with_gpus_runs_the_device_plugin_beside_the_pod() -> None:
    pod = json.loads(files_of(plain_user_data(options(**GPUS)))[DEVICE_PLUGIN]["content"])
    assert (pod["kind"], pod["metadata"]["namespace"]) == ("Pod", "kube-system")
    spec = pod["spec"]
    assert spec["hostNetwork"], "the one address for pods is the pod's"
    assert (spec["priorityClassName"], spec["priority"]) == ("system-node-critical", 2_000_001_000)
    [container] = spec["containers"]
    assert container["image"] == GPUS["device_plugin_image"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    [mount], [volume] = container["volumeMounts"], spec["volumes"]
    assert mount["mountPath"] == volume["hostPath"]["path"] == "/var/lib/kubelet/device-plugins"
    assert "resources" not in container, "it takes nothing from what the pod may have"


def test_only_on_machines_with_gpus_the_kubelet_reads_static_pods_and_reports_often() -> None:
    plain = json.loads(files_of(plain_user_data(options()))[layout.KUBELET_CONFIG]["content"])
    with_gpus = json.loads(files_of(plain_user_data(options(**GPUS)))[layout.KUBELET_CONFIG]["content"])
    assert DEVICE_PLUGIN not in files_of(plain_user_data(options()))
    assert with_gpus == {
        **plain,
        "staticPodPath": "/etc/kubernetes/manifests",
        "nodeStatusUpdateFrequency": "2s",
        "nodeStatusReportFrequency": "5m",
    }


VOLUME = {"volume": "fs-1.efs.us-east-1.amazonaws.com:/", "volume_options": "nfsvers=4.1,hard"}


def test_without_an_image_cache_nothing_of_it_is_on_a_cell() -> None:
    plain = plain_user_data(options(volume_options="nfsvers=4.1"))
    assert plain == plain_user_data(options())
    assert b"volume" not in plain.replace(b"Volume", b"")


def test_the_volume_is_mounted_read_only_beside_everything_else() -> None:
    files = files_of(plain_user_data(options(**VOLUME)))
    assert files["/etc/kip/volume"]["content"] == (
        "VOLUME=fs-1.efs.us-east-1.amazonaws.com:/\nVOLUME_OPTIONS=ro,nosuid,nodev,noexec,nfsvers=4.1,hard\n"
    )
    units = "/etc/systemd/system"
    assert "Wants=kip-volume.service" in files[f"{units}/kip-boot.service.d/10-volume.conf"]["content"]
    assert not [path for path in files if "After=kip-volume" in files[path]["content"]]
    assert f"-e {layout.LAYERS} ]" in files[f"{units}/kubelet.service.d/20-kip-volume.conf"]["content"]
    assert list(files)[-1] == "/opt/kip/boot"


def test_a_cell_with_all_that_there_is_leaves_most_of_the_limit_to_the_user() -> None:
    assert len(user_data(options(**VOLUME, **GPUS))) < USER_DATA_LIMIT // 2


def test_the_kubelet_waits_for_the_gpus_driver_where_there_is_one() -> None:
    path = "/etc/systemd/system/kubelet.service.d/10-kip.conf"
    assert "nvidia-kmod-load.service" in files_of(plain_user_data(options()))[path]["content"]


@pytest.mark.parametrize(
    "extra",
    [
        b"#cloud-config\npackages: [jq]\n",
        b"#!/bin/sh\necho mine\n",
        b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n--x\n"
        b"Content-Type: text/x-shellscript\n\n#!/bin/sh\necho mine\n--x--\n",
    ],
)
def test_the_users_part_comes_first_and_unchanged(extra: bytes) -> None:
    message = email.message_from_bytes(plain_user_data(options(extra_cloud_init=extra)))
    parts = [part.get_payload(decode=True) for part in message.walk() if not part.is_multipart()]
    assert len(parts) == 2
    assert parts[0].strip() in extra
    assert config_of(parts[1].lstrip())["runcmd"]


def test_user_data_that_cannot_fit_is_refused_with_its_size() -> None:
    noise = random.Random(1).randbytes(20_000).hex().encode()
    with pytest.raises(UserDataTooLarge) as caught:
        user_data(options(extra_cloud_init=b"#!/bin/sh\n# " + noise))
    assert caught.value.limit == 16384
    assert caught.value.size > 20_000
    assert str(caught.value.size) in str(caught.value)


def test_user_data_that_fits_only_when_compressed_is_accepted() -> None:
    extra = b"#!/bin/sh\n" + b"echo the same again and again\n" * 2000
    assert len(user_data(options(extra_cloud_init=extra))) <= USER_DATA_LIMIT


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"node_name": "Kip 0"}, "node_name"),
        ({"cluster_dns": ("kube-dns",)}, "cluster_dns"),
        ({"cluster_domain": "a b"}, "cluster_domain"),
        ({"first_contact_host_key": "ssh-ed25519 AAAA"}, "first_contact_host_key"),
        ({"operator_public_key": "AAAA"}, "operator_public_key"),
        ({"operator_public_key": "ssh-ed25519 AAAA\nssh-ed25519 BBBB"}, "operator_public_key"),
        ({"operator_ca_pem": ""}, "operator_ca_pem"),
        ({"dead_man_switch_s": 5}, "dead_man_switch_s"),
        ({"vpc_cidrs": ()}, "vpc_cidrs"),
        ({"vpc_cidrs": ("10.0.0.1/16",)}, "vpc_cidrs"),
        ({"shutdown_grace_period_s": -1}, "shutdown_grace_period_s"),
        ({"device_plugin_image": "an image"}, "device_plugin_image"),
        ({"volume": "fs-1"}, "volume"),
        ({"volume": "a;b:/"}, "volume"),
        ({"volume_options": "a b"}, "volume_options"),
    ],
)
def test_options_no_cell_could_work_with_are_refused_by_name(change: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidOptions, match=f"option {named}: .*expected"):
        options(**change)


def test_the_private_key_is_not_in_the_error_about_it() -> None:
    with pytest.raises(InvalidOptions) as caught:
        options(first_contact_host_key="-----BEGIN RSA PRIVATE KEY-----\nsecret\n")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "path", ["/opt/kip/boot", "/opt/kip/wait-for-tunnel", "/opt/kip/dead-man-switch", layout.CNI_PLUGIN]
)
def test_scripts_are_valid_bash_without_their_comments(path: str) -> None:
    content = files_of(plain_user_data(options()))[path]["content"]
    assert content.startswith("#!/bin/bash\n")
    assert "\n#" not in content
    subprocess.run(["bash", "-n"], input=content, text=True, check=True)


def test_huge_pages_are_among_the_options_of_machines_that_have_some() -> None:
    pages = (HugePages("hugepages-1Gi", 2), HugePages("hugepages-2Mi", 512))
    told = {file.path: file.content for file in cell_files(options(huge_pages=pages))}[layout.OPTIONS]
    assert "HUGE_PAGES='1048576kB=2 2048kB=512'\n" in told
    assert "HUGE_PAGES" not in {file.path: file.content for file in cell_files(options())}[layout.OPTIONS]
