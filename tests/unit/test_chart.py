"""The Helm chart, as it is written and as it comes out."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kip import config
from kip.config import Settings

GIVEN = {"clusterName": "shop", "region": "us-west-2"}

Helm = Callable[..., subprocess.CompletedProcess[str]]


def test_what_config_may_change_is_read_from_the_merged_configuration(project: Path) -> None:
    """`config` is merged over the values: a template that reads a value itself would contradict provider.yaml."""
    templates = project / "charts" / "kip" / "templates"
    of_config = set(re.findall(r"\.Values\.([\w.]+)", (templates / "_config.tpl").read_text())) - {"config"}
    assert {"nodes", "rbac.impersonateNode", "clusterSecurityGroup", "subnetIDs"} <= of_config
    for template in templates.iterdir():
        if template.name != "_config.tpl":
            read = set(re.findall(r"\.Values\.([\w.]+)", template.read_text()))
            assert not read & of_config, template.name


def test_every_value_is_used_and_in_the_schema(project: Path) -> None:
    chart = project / "charts" / "kip"
    text = "".join(template.read_text() for template in (chart / "templates").iterdir())
    values = yaml.safe_load((chart / "values.yaml").read_text())
    for name in values:
        assert f".Values.{name}" in text, name
    schema = json.loads((chart / "values.schema.json").read_text())
    assert paths(schema) - {"global"} == set(keys(values)), "values.yaml and its schema differ"


def keys(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """`image.tag` and so on; what may hold anything counts as one."""
    for key, value in values.items():
        deeper = isinstance(value, dict) and value and key not in ("labels", "resources")
        yield from keys(value, f"{prefix}{key}.") if deeper else [prefix + key]


def paths(schema: dict[str, Any], prefix: str = "") -> set[str]:
    found = set()
    for key, inner in schema["properties"].items():
        # `config` is provider.yaml's: tests/unit/config/test_keyschema.py.
        deeper = key != "config" and inner.get("additionalProperties") is False and inner["type"] == "object"
        found |= paths(inner, f"{prefix}{key}.") if deeper else {prefix + key}
    return found


@pytest.fixture
def helm(project: Path, helm_program: Path) -> Helm:
    def run(*arguments: str, **values: Any) -> subprocess.CompletedProcess[str]:
        given = [f"--set-json={key}={json.dumps(value)}" for key, value in {**GIVEN, **values}.items()]
        command = arguments or ("template", "kip", "--namespace=tools")
        return subprocess.run(
            [helm_program, *command, project / "charts" / "kip", *given],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


@pytest.fixture
def render(helm: Helm) -> Callable[..., dict[tuple[str, str], Any]]:
    """The objects by kind, and namespace and name: `("Role", "kube-system/kip-provider")`."""

    def made(**values: Any) -> dict[tuple[str, str], Any]:
        done = helm(**values)
        assert done.returncode == 0, done.stderr
        objects = [document for document in yaml.safe_load_all(done.stdout) if document]
        return {
            (o["kind"], f"{o['metadata'].get('namespace', '')}/{o['metadata']['name']}"): o for o in objects
        }

    return made


@pytest.fixture
def provider(render: Callable[..., dict[tuple[str, str], Any]], tmp_path: Path) -> Callable[..., Settings]:
    def made(**values: Any) -> Settings:
        [found] = [o for (kind, _), o in render(**values).items() if kind == "ConfigMap"]
        file = tmp_path / "provider.yaml"
        file.write_text(found["data"]["provider.yaml"])
        settings, warnings = config.load(file, {})
        assert not warnings
        return settings

    return made


def test_what_is_required_is_enough(provider) -> None:
    settings = provider()
    assert settings.cluster.name == "shop"
    assert settings.cloud.aws.subnet_ids == ()
    assert settings.cloud.aws.vpc_id is None
    assert settings.cells.extra_security_groups == ()


def test_where_cells_go_and_what_they_join(provider) -> None:
    settings = provider(
        subnetIDs=["subnet-1", "subnet-2"],
        vpcID="vpc-1",
        clusterSecurityGroup="sg-1",
        config={"cells": {"extraSecurityGroups": ["sg-2"]}},
    )
    assert settings.cloud.aws.subnet_ids == ("subnet-1", "subnet-2")
    assert settings.cloud.aws.vpc_id == "vpc-1"
    assert settings.cells.extra_security_groups == ("sg-1", "sg-2")


@pytest.mark.parametrize("values", [{"nodes": 3}, {"config": {"kubelet": {"nodes": 3}}}])
def test_there_is_a_process_for_each_node_however_many_are_asked_for(render, values) -> None:
    [deployment] = [o for (kind, _), o in render(**values).items() if kind == "Deployment"]
    assert deployment["spec"]["replicas"] == 4


@pytest.mark.parametrize("values", [{"nodes": 5}, {"config": {"kubelet": {"nodes": 5}}}])
def test_more_nodes_than_there_are_permissions_for_are_refused(helm, values) -> None:
    refused = helm(**values)
    assert refused.returncode != 0
    assert "nodes: 5 are too many; at most 4" in refused.stderr


def test_a_name_without_a_number_is_refused(helm) -> None:
    refused = helm(config={"kubelet": {"nodeName": "burst"}})
    assert refused.returncode != 0
    assert "set config.kubelet.nodeNamePrefix instead" in refused.stderr


def test_permissions_follow_the_nodes_names(render) -> None:
    objects = render(config={"kubelet": {"nodeNamePrefix": "burst"}})
    names = {
        name
        for (kind, _), o in objects.items()
        if kind in ("ClusterRole", "Role")
        for rule in o["rules"]
        for name in rule.get("resourceNames", ())
        if re.search(r"-\d$", name)
    }
    assert names == {f"{who}burst-{number}" for who in ("", "system:node:") for number in range(4)}


def test_lint_has_nothing_to_say(helm) -> None:
    done = helm("lint", "--strict")
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"region": "west"}, "region"),
        ({"nodes": 0}, "nodes"),
        ({"regoin": "us-west-2"}, "regoin"),
        ({"image": {"tga": "1"}}, "tga"),
        ({"config": {"cells": {"defaultInstanceTyp": "t3.nano"}}}, "/config/cells"),
        ({"config": {"cells": {"gpu": "yes"}}}, "/config/cells/gpu"),
        ({"uninstall": {"pods": "leave"}}, "uninstall/pods"),
        ({"serviceAccount": {"roleARN": "kip"}}, "serviceAccount/roleARN"),
        ({"clusterSecurityGroup": "default"}, "clusterSecurityGroup"),
        ({"unreachableToleration": {"seconds": 300}}, "unreachableToleration/seconds"),
        ({"imageCache": {"endpoint": "fs-1.efs.us-west-2.amazonaws.com"}}, "imageCache/endpoint"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(helm, values: dict[str, Any], said: str) -> None:
    refused = helm(**values)
    assert refused.returncode != 0
    assert said in refused.stderr


@pytest.mark.parametrize("missing", ["clusterName", "region"])
def test_what_is_missing_is_said(helm, missing: str) -> None:
    refused = helm(**{missing: ""})
    assert refused.returncode != 0
    assert f"needed, such as by --set {missing}=" in refused.stderr


def test_all_that_is_missing_is_said_at_once(helm) -> None:
    refused = helm(clusterName="", region="")
    assert "--set clusterName=my-cluster --set region=us-west-2\n" in refused.stderr


@pytest.fixture
def notes(project: Path, helm_program: Path, tmp_path: Path) -> Callable[..., str]:
    """NOTES.txt as an installation shows it; `helm template` leaves it out."""
    chart = tmp_path / "kip"
    shutil.copytree(project / "charts" / "kip", chart)
    text = (chart / "templates" / "NOTES.txt").read_text()
    (chart / "templates" / "shown.yaml").write_text(
        f'{{{{ define "shown" }}}}{text}{{{{ end }}}}\ntext: {{{{ include "shown" . | toJson }}}}\n'
    )

    def shown(**values: Any) -> str:
        given = [f"--set-json={key}={json.dumps(value)}" for key, value in {**GIVEN, **values}.items()]
        command = [
            helm_program,
            "template",
            "kip",
            chart,
            "--namespace=tools",
            "--show-only=templates/shown.yaml",
        ]
        done = subprocess.run([*command, *given], capture_output=True, text=True, check=True, timeout=60)
        return str(yaml.safe_load(done.stdout)["text"])

    return shown


def test_the_notes_warn_of_what_is_not_set(notes: Callable[..., str]) -> None:
    assert notes().count("WARNING: ") == 3
    told = notes(
        clusterSecurityGroup="sg-1",
        serviceAccount={"roleARN": "arn:aws:iam::012345678910:role/kip"},
        image={"repository": "registry.example.com/kip"},
    )
    assert "WARNING" not in told


def test_the_notes_lead_to_the_releases_namespace(notes: Callable[..., str]) -> None:
    told = notes()
    assert "kubectl -n tools logs job/kip-uninstall" in told
    assert "kubectl -n tools rollout status deployment/kip-provider" in told


def test_everything_goes_into_the_releases_namespace(render) -> None:
    for (kind, name), o in render().items():
        namespace = o["metadata"].get("namespace")
        assert namespace in (None, "tools", "kube-system", "kube-node-lease"), f"{kind} {name}"
        for subject in o.get("subjects", ()):
            assert subject["namespace"] == "tools"


def test_every_object_says_whose_it_is(render) -> None:
    for (kind, name), o in render(**EVERYTHING).items():
        labels = o["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "kip", f"{kind} {name}"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"


def test_the_type_is_upgraded_with_the_release_and_kept_when_that_goes(render, project: Path) -> None:
    [definition] = [o for (kind, _), o in render().items() if kind == "CustomResourceDefinition"]
    assert definition["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert definition["spec"] == yaml.safe_load((project / "crds" / "cells.yaml").read_text())["spec"]
    assert "helm.sh/hook" not in definition["metadata"]["annotations"]
    removable = render(crds={"keep": False})[("CustomResourceDefinition", "/cells.kip.elotl.co")]
    assert "annotations" not in removable["metadata"]
    assert not [kind for kind, _ in render(crds={"enabled": False}) if kind == "CustomResourceDefinition"]


#: Everything that is behind a switch.
EVERYTHING: dict[str, Any] = {
    "unreachableToleration": {"enabled": True},
    "imageCache": {"endpoint": "nfs.example.com:/exports/images"},
    "networkPolicy": {"enabled": True, "extraEgress": [{"ports": [{"port": 2049}]}]},
    "metrics": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "podMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboards": {"enabled": True, "namespace": "grafana"},
    },
}


def test_alerts_and_dashboards_are_those_that_are_shipped(render, project: Path) -> None:
    objects = render(**EVERYTHING)
    shipped = project / "deploy" / "observability"
    rule = objects[("PrometheusRule", "tools/kip-provider")]
    assert rule["spec"] == yaml.safe_load((shipped / "alerts.yaml").read_text())
    boards = sorted((shipped / "dashboards").glob("*.json"))
    assert len(boards) >= 2
    for board in boards:
        found = objects[("ConfigMap", f"grafana/{board.stem}")]
        assert json.loads(found["data"][board.name]) == json.loads(board.read_text())
        assert found["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_what_is_behind_a_switch_is_off_unless_it_is_switched_on(render) -> None:
    optional = {
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "NetworkPolicy",
        "ServiceMonitor",
        "PodMonitor",
        "PrometheusRule",
    }
    assert not optional & {kind for kind, _ in render()}
    objects = render(**EVERYTHING)
    assert optional <= {kind for kind, _ in objects}
    monitor = objects[("ServiceMonitor", "tools/kip-provider")]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    service = objects[("Service", "tools/kip-provider")]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert [e["port"] for e in monitor["spec"]["endpoints"]] == [p["name"] for p in service["spec"]["ports"]]
    assert objects[("NetworkPolicy", "tools/kip-provider")]["spec"]["egress"][-1] == {
        "ports": [{"port": 2049}]
    }


def test_the_image_cache_alone_may_write_to_its_volume(render) -> None:
    assert ("Deployment", "tools/kip-image-cache") not in render()
    objects = render(**EVERYTHING)
    volume = objects[("PersistentVolume", "/kip-image-cache")]["spec"]
    assert volume["nfs"] == {"server": "nfs.example.com", "path": "/exports/images"}
    assert volume["persistentVolumeReclaimPolicy"] == "Retain"
    assert volume["claimRef"] == {"name": "kip-image-cache", "namespace": "tools"}
    using = [
        name
        for (kind, name), o in objects.items()
        if kind in ("Deployment", "Job")
        for volume in o["spec"]["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    ]
    assert using == ["tools/kip-image-cache"]
    pod = objects[("Deployment", "tools/kip-image-cache")]["spec"]["template"]
    assert pod["metadata"]["labels"] == {"app.kubernetes.io/name": "kip-image-cache"}
    [container] = pod["spec"]["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def pod_specs(objects: dict[tuple[str, str], Any]) -> Iterator[dict[str, Any]]:
    for kind, name in (("Deployment", "tools/kip-provider"), ("Job", "tools/kip-uninstall")):
        yield objects[(kind, name)]["spec"]["template"]["spec"]


def test_pods_are_as_restricted_as_pods_can_be(render) -> None:
    for spec in pod_specs(render()):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"]


@pytest.mark.parametrize(("wanted", "fails_on"), [("report", "never"), ("required", "failure")])
def test_the_doctor_comes_before_kip_if_wanted(render, wanted: str, fails_on: str) -> None:
    key = ("Deployment", "tools/kip-provider")
    assert "initContainers" not in render()[key]["spec"]["template"]["spec"]
    spec = render(doctor=wanted)[key]["spec"]["template"]["spec"]
    [doctor], [kip] = spec["initContainers"], spec["containers"]
    assert doctor["args"] == ["doctor", "--in-cluster", "--fail-on", fails_on]
    for same in ("image", "env", "volumeMounts", "securityContext"):
        assert doctor[same] == kip[same]


def test_where_pods_run_and_what_of_is_the_users_choice(render) -> None:
    digest = f"sha256:{'0' * 64}"
    objects = render(
        image={"repository": "registry.example.com/kip", "tag": "2", "digest": digest},
        imagePullSecrets=[{"name": "regcred"}],
        nodeSelector={"pool": "system"},
        tolerations=[{"key": "system", "operator": "Exists"}],
        extraEnv=[{"name": "HTTPS_PROXY", "value": "http://proxy"}],
        podLabels={"team": "infra", "app.kubernetes.io/name": "mine"},
    )
    for spec in pod_specs(objects):
        [container] = spec["containers"]
        assert container["image"] == f"registry.example.com/kip@{digest}"
        assert container["env"][-1] == {"name": "HTTPS_PROXY", "value": "http://proxy"}
        assert spec["imagePullSecrets"] == [{"name": "regcred"}]
        assert spec["nodeSelector"] == {"pool": "system"}
        assert spec["tolerations"] == [{"key": "system", "operator": "Exists"}]
    labels = objects[("Deployment", "tools/kip-provider")]["spec"]["template"]["metadata"]["labels"]
    assert labels == {"team": "infra", "app.kubernetes.io/name": "kip"}


def test_the_cleanup_of_an_uninstallation_runs_before_it_and_as_the_same_account(render) -> None:
    objects = render()
    hooks = {key: o for key, o in objects.items() if "helm.sh/hook" in o["metadata"].get("annotations", {})}
    assert {o["metadata"]["annotations"]["helm.sh/hook"] for o in hooks.values()} == {"pre-delete"}
    job = objects[("Job", "tools/kip-uninstall")]
    assert job["spec"]["template"]["spec"]["serviceAccountName"] == "kip-provider"
    # Neither counted by Kip's own disruption budget and Service, nor taken for a process of its Deployment.
    assert job["spec"]["template"]["metadata"]["labels"] == {"app.kubernetes.io/name": "kip-uninstall"}
    for (kind, name), o in hooks.items():
        for subject in o.get("subjects", ()):
            assert (subject["kind"], subject["name"]) == ("ServiceAccount", "kip-provider"), f"{kind} {name}"
    assert not [kind for kind, name in render(uninstall={"cleanup": False}) if name.endswith("kip-uninstall")]


@pytest.mark.parametrize(("pods", "option"), [("refuse", None), ("drain", "--drain"), ("kill", "--force")])
def test_what_becomes_of_pods_when_kip_is_uninstalled(render, pods: str, option: str | None) -> None:
    job = render(uninstall={"pods": pods, "timeout": 60})[("Job", "tools/kip-uninstall")]
    [container] = job["spec"]["template"]["spec"]["containers"]
    given = set(container["args"])
    assert {"cleanup", "--yes", "--stop=kip-provider", "--timeout=60"} <= given
    assert given & {"--drain", "--force"} == ({option} if option else set())
    assert job["spec"]["activeDeadlineSeconds"] == 60


def test_whoever_is_refused_is_told_how_to_go_on(render) -> None:
    job = render()[("Job", "tools/kip-uninstall")]
    assert job["metadata"]["annotations"]["helm.sh/hook-output-log-policy"] == "hook-succeeded,hook-failed"
    [container] = job["spec"]["template"]["spec"]["containers"]
    [told] = [a for a in container["args"] if a.startswith("--when-refused=")]
    assert told.endswith("\nTo keep it: helm rollback kip 1 --namespace tools")


@pytest.mark.parametrize(
    "values", [{"rbac": {"impersonateNode": False}}, {"config": {"cluster": {"impersonateNode": False}}}]
)
def test_without_impersonation_kip_gets_the_rights_that_it_needs_then(helm, provider, values) -> None:
    assert provider(**values).cluster.impersonate_node is False
    assert "kip-provider-without-impersonation" in helm(**values).stdout
    assert "kip-provider-without-impersonation" not in helm().stdout
