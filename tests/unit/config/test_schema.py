"""Every key of provider.yaml: right values, and what is said about wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from kip.config import Kubelet, Settings, load
from kip.config.problems import dotted, known_paths
from kip.config.schema.section import key_of
from kip.model.annotations import ANNOTATIONS

DURATION = "expected a duration like 90s, 5m or 1h30m, at least"
ADDRESS = "expected an IP address like 10.0.0.10"
MIRRORS = "expected registries with their mirrors, like {docker.io: [https://cache.example.com]}"
ACCOUNTS = "expected account numbers of 12 digits in a list, in quotes, like ['012345678910']"
EXPORT = "fs-0123abcd.efs.us-east-1.amazonaws.com:/"
MAPPING = "expected a mapping of keys to values"
DNS_LABEL = "expected lowercase letters, digits and dashes, at most 63"
DEFAULTS = "cells.defaultAnnotations: expected"
WORDS = "expected words in a list, or in one text with spaces between them"

# Key -> a wrong value, and all that is said about it.
WRONG: dict[str, list[tuple[Any, str]]] = {
    "apiVersion": [("v2", "apiVersion: expected v1, not 'v2'")],
    "kind": [("Config", "kind: expected serverConfig, not 'Config'")],
    "cloud": [("aws", f"cloud: {MAPPING}, not 'aws'")],
    "cloud.aws": [([], f"cloud.aws: {MAPPING}, not []")],
    "cloud.aws.region": [("us-east", "cloud.aws.region: expected a region like us-east-1, not 'us-east'")],
    "cloud.aws.accessKeyID": [
        (12345, "cloud.aws.accessKeyID: expected an access key id, text in quotes, not 12345"),
        ("AKIA", "cloud.aws: expected accessKeyID and secretAccessKey together, or neither"),
    ],
    "cloud.aws.secretAccessKey": [
        (
            12345,
            "cloud.aws.secretAccessKey: expected a secret access key, text in quotes, not what is there",
        ),
        ("s3cr3t", "cloud.aws: expected accessKeyID and secretAccessKey together, or neither"),
    ],
    "cloud.aws.marketplace": [("kip", f"cloud.aws.marketplace: {MAPPING}, not 'kip'")],
    "cloud.aws.marketplace.productCode": [
        (
            "my product",
            "cloud.aws.marketplace.productCode: expected a product code of AWS Marketplace, not 'my product'",
        )
    ],
    "cloud.aws.marketplace.publicKeyVersion": [
        (0, "cloud.aws.marketplace.publicKeyVersion: expected a whole number, at least 1, not 0")
    ],
    "cloud.aws.marketplace.dimension": [
        (
            "cell hours",
            "cloud.aws.marketplace.dimension: expected the API name of a dimension of the product, not 'cell hours'",
        )
    ],
    "cloud.aws.marketplace.endpointURL": [
        ("aws", "cloud.aws.marketplace.endpointURL: expected a URL like https://ec2.example.com, not 'aws'")
    ],
    "cloud.aws.vpcID": [
        (
            "10.0.0.0/16",
            "cloud.aws.vpcID: expected the id of a VPC, like vpc-0123abcd, or default, not '10.0.0.0/16'",
        )
    ],
    "cloud.aws.subnetID": [
        ("a", "cloud.aws.subnetID[0]: expected the id of a subnet, like subnet-0123abcd, not 'a'"),
        (
            ["subnet-1", 2],
            "cloud.aws.subnetID[1]: expected the id of a subnet, like subnet-0123abcd, not 2",
        ),
    ],
    "cloud.aws.subnetTags": [
        (
            tags,
            "cloud.aws.subnetTags: expected tags, like {kip-cells: 'true'}, their values as text" + instead,
        )
        for tags, instead in (({"a": 1}, ""), ({"a": "b*"}, ""), (["a"], ", not ['a']"))
    ],
    "cloud.aws.endpointURL": [
        ("ec2.local", "cloud.aws.endpointURL: expected a URL like https://ec2.example.com, not 'ec2.local'"),
        ("http://", "cloud.aws.endpointURL: expected a URL like https://ec2.example.com, not 'http://'"),
    ],
    "cloud.aws.insecureTLSSkipVerify": [
        ("true", "cloud.aws.insecureTLSSkipVerify: expected true or false, not 'true'")
    ],
    "cells": [(True, f"cells: {MAPPING}, not true")],
    "cells.defaultInstanceType": [
        (
            name,
            f"cells.defaultInstanceType: expected an instance type like t3.small, of no t1 family, not {name!r}",
        )
        for name in ("c5", "t1.micro", "c5.*")
    ],
    "cells.defaultVolumeSize": [
        (size, f"cells.defaultVolumeSize: expected a size like 512Mi or 5Gi, at least 1Gi, not {size!r}")
        for size in ("5 Gi", "5GiB", "5", -1)
    ],
    "cells.bootImageSpec": [("ami-1", f"cells.bootImageSpec: {MAPPING}, not 'ami-1'")],
    "cells.bootImageSpec.owners": [({"a": 1}, f"cells.bootImageSpec.owners: {WORDS}")],
    "cells.bootImageSpec.executableUsers": [(1.5, f"cells.bootImageSpec.executableUsers: {WORDS}, not 1.5")],
    "cells.bootImageSpec.filters": [
        (
            "name",
            "cells.bootImageSpec.filters: expected filters, like {name: my-image-*} or the text "
            "name=my-image-*, not 'name'",
        )
    ],
    "cells.bootImageSpec.imageIDs": [
        (
            "img-1",
            "cells.bootImageSpec.imageIDs[0]: expected the id of an image, like ami-0123abcd, not 'img-1'",
        ),
        (
            5.5,
            "cells.bootImageSpec.imageIDs: expected the ids of images in a list, or in one text with spaces "
            "between them, not 5.5",
        ),
    ],
    "cells.standbyCells": [("t3.small", "cells.standbyCells: expected a list, not 't3.small'")],
    "cells.standbyCells.instanceType": [
        ([{"count": 1}], "cells.standbyCells[0].instanceType: missing; this key is required")
    ],
    "cells.standbyCells.count": [
        (
            [{"instanceType": "t3.small", "count": -1}],
            "cells.standbyCells[0].count: expected a whole number, at least 0, not -1",
        )
    ],
    "cells.standbyCells.spot": [
        (
            [{"instanceType": "t3.small", "spot": 1}],
            "cells.standbyCells[0].spot: expected true or false, not 1",
        )
    ],
    "cells.standbyCells.dedicated": [
        (
            [{"instanceType": "t3.small", "dedicated": "no!"}],
            "cells.standbyCells[0].dedicated: expected true or false, not 'no!'",
        )
    ],
    "cells.instanceTypes": [(["m7i"], f"cells.instanceTypes: {MAPPING}, not ['m7i']")],
    "cells.instanceTypes.allowed": [
        (
            ["m7i", "C7 large"],
            "cells.instanceTypes.allowed: expected a list of families, types or patterns, like [m7i, c7i.large, r*], "
            "not ['m7i', 'C7 large']",
        )
    ],
    "cells.instanceTypes.excluded": [
        (
            {"a": 1},
            "cells.instanceTypes.excluded: expected a list of families, types or patterns, like [m7i, c7i.large, r*]",
        )
    ],
    "cells.instanceData": [
        (5, "cells.instanceData: expected the path of a file, not 5"),
        ("absent.yaml", "cells.instanceData: expected an existing file, not 'absent.yaml'"),
    ],
    "cells.cloudInitFile": [
        (5, "cells.cloudInitFile: expected the path of a file, not 5"),
        ("absent.yaml", "cells.cloudInitFile: expected an existing file, not 'absent.yaml'"),
    ],
    "cells.defaultAnnotations": [
        (["spot"], f"{DEFAULTS} annotations, like {{pod.elotl.co/launch-type: spot}}, not ['spot']"),
        (
            {"pod.elotl.co/launch-type": "cheap"},
            f"{DEFAULTS} values that pods can have; pod.elotl.co/launch-type: 'cheap' is not allowed: expected on-demand, "
            "spot, spot-preferred or dedicated",
        ),
        (
            {"pod.elotl.co/volume-size": [5]},
            f"{DEFAULTS} text as the value of pod.elotl.co/volume-size",
        ),
        (
            {"pod.elotl.co/lunch-type": "spot"},
            f"{DEFAULTS} annotations that pods can have; pod.elotl.co/lunch-type is none, known are "
            + ", ".join(ANNOTATIONS),
        ),
    ],
    "cells.extraCIDRs": [
        (
            ["10.0.0.1/16"],
            "cells.extraCIDRs[0]: expected an address range like 10.0.0.0/16, its address the first one of the "
            "range, not '10.0.0.1/16'",
        ),
        ("10.0.0.0/16", "cells.extraCIDRs: expected a list, not '10.0.0.0/16'"),
    ],
    "cells.extraSecurityGroups": [
        (
            ["default"],
            "cells.extraSecurityGroups[0]: expected the id of a security group, like sg-0123abcd, not 'default'",
        )
    ],
    "cells.nametag": [
        ("Shop", "cells.nametag: expected a DNS label of at most 34 characters, like shop-kip, not 'Shop'"),
        (
            "s" * 35,
            f"cells.nametag: expected a DNS label of at most 34 characters, like shop-kip, not {'s' * 35!r}",
        ),
    ],
    "cells.privateIPOnly": [("no", "cells.privateIPOnly: expected true or false, not 'no'")],
    "cells.defaultIAMPermissions": [
        (
            "arn:aws:iam::1:role/x",
            "cells.defaultIAMPermissions: expected the name or the ARN of an instance profile, not "
            "'arn:aws:iam::1:role/x'",
        )
    ],
    "cells.connectTimeout": [
        (90, f"cells.connectTimeout: {DURATION} 1s, not 90"),
        ("1.5m", f"cells.connectTimeout: {DURATION} 1s, not '1.5m'"),
    ],
    "cells.startTimeout": [("soon", f"cells.startTimeout: {DURATION} 1s, not 'soon'")],
    "cells.deadManSwitch": [("29s", f"cells.deadManSwitch: {DURATION} 30s, not '29s'")],
    "cells.gpu": [(8, f"cells.gpu: {MAPPING}, not 8")],
    "cells.gpu.devicePluginImage": [
        ("an image", "cells.gpu.devicePluginImage: expected the name of a container image, not 'an image'")
    ],
    "cells.gpu.devicePluginTimeout": [
        ("0s", f"cells.gpu.devicePluginTimeout: {DURATION} 1s, not '0s'"),
    ],
    "cells.imageArchitecture": [("cheapest", f"cells.imageArchitecture: {MAPPING}, not 'cheapest'")],
    "cells.imageArchitecture.multiPlatform": [
        ("arm64", "cells.imageArchitecture.multiPlatform: expected amd64 or cheapest, not 'arm64'")
    ],
    "cells.imageArchitecture.timeout": [
        ("-1s", f"cells.imageArchitecture.timeout: {DURATION} 0s, not '-1s'"),
    ],
    "cells.imageCache": [("fs-1", f"cells.imageCache: {MAPPING}, not 'fs-1'")],
    "cells.imageCache.endpoint": [
        (endpoint, f"cells.imageCache.endpoint: expected an NFS export like {EXPORT}, not '{endpoint}'")
        for endpoint in ("fs-0123abcd", "fs-1.example:x", "a b:/", "nfs://a/b")
    ],
    "cells.imageCache.mountOptions": [
        (
            "a, b",
            "cells.imageCache.mountOptions: expected mount options with commas between them, without spaces, not 'a, b'",
        )
    ],
    "cells.imageCache.deadline": [
        (
            "10ms",
            "cells.imageCache.deadline: expected a duration like 90s, 5m or 1h30m, at least 100ms, not '10ms'",
        )
    ],
    "cells.imageCache.dmVerity": [("on", "cells.imageCache.dmVerity: expected auto or off, not 'on'")],
    "cells.keptLogs": [(False, f"cells.keptLogs: {MAPPING}, not false")],
    "cells.keptLogs.maxSize": [
        ("1", "cells.keptLogs.maxSize: expected a size like 512Mi or 5Gi, at least 1Ki, not '1'")
    ],
    "cells.allowDaemonSets": [("yes!", "cells.allowDaemonSets: expected true or false, not 'yes!'")],
    "cells.imageCache.controller": [("on", f"cells.imageCache.controller: {MAPPING}, not 'on'")],
    "cells.imageCache.controller.images": [
        (
            {"nginx": 1},
            "cells.imageCache.controller.images: expected names of images in a list, or in one text with spaces "
            "between them",
        )
    ],
    "cells.imageCache.controller.unscheduledPods": [
        (
            "yes please",
            "cells.imageCache.controller.unscheduledPods: expected true or false, not 'yes please'",
        )
    ],
    "cells.imageCache.controller.platforms": [
        (
            ["windows/amd64"],
            "cells.imageCache.controller.platforms: expected platforms like linux/amd64 or linux/arm64, not "
            "['windows/amd64']",
        )
    ],
    "cells.imageCache.controller.parallel": [
        (0, "cells.imageCache.controller.parallel: expected a whole number, at least 1, not 0")
    ],
    "cells.imageCache.controller.processors": [
        (0, "cells.imageCache.controller.processors: expected a whole number, at least 1, not 0")
    ],
    "cells.imageCache.controller.memory": [
        (
            "1Mi",
            "cells.imageCache.controller.memory: expected a size like 512Mi or 5Gi, at least 64Mi, not '1Mi'",
        )
    ],
    "cells.imageCache.controller.maxSize": [
        (
            "1Mi",
            "cells.imageCache.controller.maxSize: expected a size like 512Mi or 5Gi, at least 100Mi, not '1Mi'",
        )
    ],
    "cells.imageCache.controller.minFreeSpace": [
        (
            "much",
            "cells.imageCache.controller.minFreeSpace: expected a size like 512Mi or 5Gi, at least 0, not 'much'",
        )
    ],
    "cells.imageCache.controller.keepUnusedFor": [
        (
            "30d",
            "cells.imageCache.controller.keepUnusedFor: expected a duration like 90s, 5m or 1h30m, at least 1h, not '30d'",
        )
    ],
    "cells.imageCache.controller.checkTagsEvery": [
        (
            "1s",
            "cells.imageCache.controller.checkTagsEvery: expected a duration like 90s, 5m or 1h30m, at least 1m, not '1s'",
        )
    ],
    "kubelet": [("x" * 70, f"kubelet: {MAPPING}, not '{'x' * 56}...")],
    "kubelet.nodeName": [
        ("Node_1", "kubelet.nodeName: expected a DNS name like cluster.local, not 'Node_1'"),
    ],
    "kubelet.nodeNamePrefix": [("kip_", f"kubelet.nodeNamePrefix: {DNS_LABEL}, not 'kip_'")],
    "kubelet.nodes": [
        (0, "kubelet.nodes: expected a whole number, at least 1, not 0"),
        (True, "kubelet.nodes: expected a whole number, at least 1, not true"),
    ],
    "kubelet.nodeIP": [("10.0.0.256", f"kubelet.nodeIP: {ADDRESS}, not '10.0.0.256'")],
    "kubelet.listenAddress": [("localhost", f"kubelet.listenAddress: {ADDRESS}, not 'localhost'")],
    "kubelet.port": [
        ("10250", "kubelet.port: expected a port, 1 to 65535, not '10250'"),
        (65536, "kubelet.port: expected a port, 1 to 65535, not 65536"),
    ],
    "kubelet.servingCertificate": [([1], f"kubelet.servingCertificate: {MAPPING}, not [1]")],
    "kubelet.servingCertificate.signerName": [
        (
            "signer",
            "kubelet.servingCertificate.signerName: expected a signer like kubernetes.io/kubelet-serving, not "
            "'signer'",
        )
    ],
    "kubelet.capacity": [
        (20, f"kubelet.capacity: {MAPPING}, not 20"),
        ({"cpu": "many"}, "kubelet.capacity.cpu: expected a quantity like 20, 500m or 100Gi, not 'many'"),
        ({"cpu": -1}, "kubelet.capacity.cpu: expected a quantity like 20, 500m or 100Gi, not -1"),
    ],
    "kubelet.labels": [
        ("a=b", "kubelet.labels: expected labels, like {team: shop}, not 'a=b'"),
        ({"a b": "c"}, "kubelet.labels: expected label keys that Kubernetes allows (a b is none)"),
        (
            {"spot": True},
            "kubelet.labels: expected label values that Kubernetes allows, numbers and booleans in quotes (see spot)",
        ),
    ],
    "cluster": [(1, f"cluster: {MAPPING}, not 1")],
    "cluster.name": [
        ("my cluster", "cluster.name: expected a name of letters, digits, dashes and dots, not 'my cluster'")
    ],
    "cluster.namespace": [("kip.system", f"cluster.namespace: {DNS_LABEL}, not 'kip.system'")],
    "cluster.dns": [
        ("kube-dns", f"cluster.dns[0]: {ADDRESS}, not 'kube-dns'"),
        ([167772170], f"cluster.dns[0]: {ADDRESS}, not 167772170"),
    ],
    "cluster.domain": [("-x", "cluster.domain: expected a DNS name like cluster.local, not '-x'")],
    "cluster.impersonateNode": [(0, "cluster.impersonateNode: expected true or false, not 0")],
    "registries": [("docker.io", f"registries: {MAPPING}, not 'docker.io'")],
    "registries.mirrors": [
        (["docker.io"], f"registries.mirrors: {MIRRORS}, not ['docker.io']"),
        ({"docker.io": "mirror"}, f"registries.mirrors: {MIRRORS}"),
    ],
    "registries.ecrLogins": [(True, f"registries.ecrLogins: {MAPPING}, not true")],
    "registries.ecrLogins.enabled": [
        ("no way", "registries.ecrLogins.enabled: expected true or false, not 'no way'")
    ],
    "registries.ecrLogins.accounts": [
        # What YAML makes of 012345670123 without quotes.
        ([1402434643], f"registries.ecrLogins.accounts: {ACCOUNTS}, not [1402434643]"),
        (["self"], f"registries.ecrLogins.accounts: {ACCOUNTS}, not ['self']"),
    ],
    "health": [("off", f"health: {MAPPING}, not 'off'")],
    "health.listenAddress": [("*", f"health.listenAddress: {ADDRESS}, not '*'")],
    "health.port": [(0, "health.port: expected a port, 1 to 65535, not 0")],
    "log": [("debug", f"log: {MAPPING}, not 'debug'")],
    "log.level": [("INFO", "log.level: expected debug, info, warning or error, not 'INFO'")],
    "log.format": [("xml", "log.format: expected auto, json or text, not 'xml'")],
}


def nested(key: str, value: Any) -> dict[str, Any]:
    """What a file says that gives this key; entries of lists come with their list."""
    *sections, last = (
        key.removeprefix("cells.standbyCells.").split(".") if "standbyCells." in key else key.split(".")
    )
    if "standbyCells." in key:
        return {"cells": {"standbyCells": value}}
    for step in (last, *reversed(sections)):
        value = {step: value}
    return value


def test_every_key_has_a_wrong_value_here() -> None:
    assert set(WRONG) == {dotted(path) for path in known_paths(Settings)}


@pytest.mark.parametrize(
    ("key", "value", "said"), [(key, *case) for key, cases in WRONG.items() for case in cases]
)
def test_a_wrong_value(key: str, value: Any, said: str, problems: Callable[[str], list[str]]) -> None:
    text = yaml.safe_dump(nested(key, value))
    (problem,) = problems(text)
    place, _, message = problem.partition(": ")
    assert message == said
    assert place.startswith("line ")


def test_every_key_says_what_it_is_for() -> None:
    def undescribed(section: Any, prefix: str = "") -> list[str]:
        missing = []
        for field in section.model_fields.values():
            key = f"{prefix}{field.alias}"
            missing += [] if field.description and field.description.endswith(".") else [key]
            if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
                missing += undescribed(field.annotation, f"{key}.")
        return missing

    assert undescribed(Settings) == []


def test_defaults() -> None:
    settings = Settings()
    assert settings.cells.default_instance_type == "t3.small"
    assert settings.cells.default_volume_size == 5 * 2**30
    assert settings.kubelet.capacity == {
        "cpu": "20",
        "memory": "100Gi",
        "pods": "20",
        "ephemeral-storage": "400Gi",
    }
    assert settings.kubelet.node_names == ("kip-provider-0",)
    assert (settings.kubelet.port, settings.health.port) == (10250, 8080)
    assert not settings.cells.boot_image_spec.given
    assert settings.cluster.impersonate_node


def test_the_defaults_are_values_that_could_be_given() -> None:
    given = Settings().model_dump(by_alias=True, exclude_none=True)
    for key in ("connectTimeout", "startTimeout", "deadManSwitch"):
        given["cells"][key] = f"{given['cells'][key]:.0f}s"
    for path in (("cloud", "aws", "subnetID"), ("cells", "standbyCells"), ("cells", "extraCIDRs")):
        section = given
        for step in path[:-1]:
            section = section[step]
        section[path[-1]] = list(section[path[-1]])
    given["cells"]["gpu"]["devicePluginTimeout"] = "5m"
    given["cells"]["imageCache"]["controller"] |= {
        "images": [],
        "platforms": ["linux/amd64"],
        "keepUnusedFor": "720h",
        "checkTagsEvery": "15m",
    }
    given["cells"]["imageArchitecture"]["timeout"] = "1s"
    given["cells"]["imageCache"]["deadline"] = "3s"
    given["cells"]["bootImageSpec"] = {}
    given["cells"]["extraSecurityGroups"] = []
    given["cells"]["instanceTypes"] = {"allowed": [], "excluded": []}
    given["cluster"]["dns"] = []
    given["registries"]["ecrLogins"]["accounts"] = []
    assert Settings.model_validate(given) == Settings()


def test_accounts_with_ecr_registries(write: Callable[[str], Path]) -> None:
    text = "registries: {ecrLogins: {enabled: false, accounts: [123456789012, '012345678910']}}"
    settings = load(write(f"apiVersion: v1\nkind: serverConfig\n{text}\n"), {})[0].registries.ecr_logins
    assert (settings.enabled, settings.accounts) == (False, ("123456789012", "012345678910"))


def loaded(write: Callable[[str], Path], text: str) -> Settings:
    settings, warnings = load(write(text), {})
    assert warnings == []
    return settings


def test_units(write: Callable[[str], Path]) -> None:
    cells = loaded(
        write,
        """
        cells:
          defaultVolumeSize: 20Gi
          connectTimeout: 1m30s
          startTimeout: 1500ms
          deadManSwitch: 1h
          keptLogs: {maxSize: 1M}
        """,
    ).cells
    assert cells.default_volume_size == 20 * 2**30
    assert (cells.connect_timeout, cells.start_timeout, cells.dead_man_switch) == (90, 1.5, 3600)
    assert cells.kept_logs.max_size == 1_000_000


@pytest.mark.parametrize("subnets", ["subnet-0a1b", "[subnet-0a1b]"])
def test_one_subnet_or_a_list(write: Callable[[str], Path], subnets: str) -> None:
    assert loaded(write, f"cloud: {{aws: {{subnetID: {subnets}}}}}").cloud.aws.subnet_ids == ("subnet-0a1b",)


@pytest.mark.parametrize(
    "text",
    [
        "{owners: amazon self, filters: 'name=a-*,b-* is-public=true', imageIDs: ami-1 ami-2}",
        "{owners: [amazon, self], filters: {name: [a-*, b-*], is-public: 'true'}, imageIDs: [ami-1, ami-2]}",
    ],
)
def test_the_machine_image_in_both_spellings(write: Callable[[str], Path], text: str) -> None:
    spec = loaded(write, f"cells: {{bootImageSpec: {text}}}").cells.boot_image_spec
    assert spec.given
    assert spec.owners == ("amazon", "self")
    assert spec.filters == {"name": ("a-*", "b-*"), "is-public": ("true",)}
    assert spec.image_ids == ("ami-1", "ami-2")


def test_annotations_that_pods_have_by_default(write: Callable[[str], Path]) -> None:
    text = """
    cells:
      defaultAnnotations:
        pod.elotl.co/launch-type: Spot
        pod.elotl.co/private-ip-only: true
        pod.elotl.co/healthcheck-healthy-timeout: 90
    """
    assert loaded(write, text).cells.default_annotations == {
        "pod.elotl.co/launch-type": "Spot",
        "pod.elotl.co/private-ip-only": "true",
        "pod.elotl.co/healthcheck-healthy-timeout": "90",
    }


def test_subnets_by_their_tags(write: Callable[[str], Path]) -> None:
    aws = loaded(write, "cloud: {aws: {subnetTags: {kip-cells: 'true', tier: ''}}}").cloud.aws
    assert aws.subnet_tags == {"kip-cells": "true", "tier": ""}


def test_subnets_by_id_or_by_tag(problems: Callable[[str], list[str]]) -> None:
    assert problems("cloud: {aws: {subnetID: subnet-0a, subnetTags: {a: b}}}") == [
        "line 1: cloud.aws: expected subnetID or subnetTags, not both"
    ]


def test_an_account_number_without_quotes(write: Callable[[str], Path]) -> None:
    spec = loaded(write, "cells: {bootImageSpec: {owners: 602401143452}}").cells.boot_image_spec
    assert spec.owners == ("602401143452",)


def test_capacity_keeps_what_is_not_named(write: Callable[[str], Path]) -> None:
    capacity = loaded(write, "kubelet: {capacity: {cpu: 64, nvidia.com/gpu: 8}}").kubelet.capacity
    assert capacity["cpu"] == "64"
    assert capacity["nvidia.com/gpu"] == "8"
    assert capacity["memory"] == "100Gi"


@pytest.mark.parametrize(
    "profile",
    [
        "kip-cell",
        "arn:aws:iam::123456789012:instance-profile/kip-cell",
        "arn:aws-cn:iam::1:instance-profile/a/b/c",
    ],
)
def test_instance_profiles(write: Callable[[str], Path], profile: str) -> None:
    text = f"cells: {{defaultIAMPermissions: '{profile}'}}"
    assert loaded(write, text).cells.default_iam_permissions == profile


@pytest.mark.parametrize("region", ["us-east-1", "us-gov-west-1", "eu-isoe-west-1", "mx-central-1"])
def test_regions(write: Callable[[str], Path], region: str) -> None:
    assert loaded(write, f"cloud: {{aws: {{region: {region}}}}}").cloud.aws.region == region


def test_several_virtual_nodes(write: Callable[[str], Path]) -> None:
    kubelet = loaded(write, "kubelet: {nodeNamePrefix: burst, nodes: 3}").kubelet
    assert kubelet.node_names == ("burst-0", "burst-1", "burst-2")


def test_a_name_of_ones_own(write: Callable[[str], Path]) -> None:
    assert loaded(write, "kubelet: {nodeName: burst.example.com}").kubelet.node_names == (
        "burst.example.com",
    )


def test_one_name_for_several_nodes(problems: Callable[[str], list[str]]) -> None:
    assert problems("kubelet: {nodeName: burst, nodes: 2}") == [
        "line 1: kubelet: expected nodeName with one node only; for several use nodeNamePrefix"
    ]


def test_keys_without_a_value_are_not_given(write: Callable[[str], Path]) -> None:
    text = """
    cloud:
      aws: {vpcID: '', subnetID: , region: ~}
    cells:
    kubelet: {labels: {empty: ''}}
    """
    settings = loaded(write, text)
    assert settings.model_copy(update={"kubelet": Kubelet()}) == Settings()
    assert settings.kubelet.labels == {"empty": ""}


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().cells.nametag = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("vpc_id", "vpcID"),
        ("image_ids", "imageIDs"),
        ("extra_cidrs", "extraCIDRs"),
        ("private_ip_only", "privateIPOnly"),
        ("insecure_tls_skip_verify", "insecureTLSSkipVerify"),
        ("default_iam_permissions", "defaultIAMPermissions"),
        ("endpoint_url", "endpointURL"),
        ("node_ip", "nodeIP"),
        ("identity", "identity"),
        ("idle_time", "idleTime"),
    ],
)
def test_keys_are_spelt_as_go_would(field: str, key: str) -> None:
    assert key_of(field) == key
