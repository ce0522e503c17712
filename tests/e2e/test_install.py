"""Kip as its users have it: an image, installed by the chart or by deploy.sh, as pods of an ordinary node.

One world for the file, in the order of an installation's life. Kip has its service account's rights and a role by IRSA,
and no others; what it has used of them is compared with what it was given.
"""

from __future__ import annotations

import json
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
import yaml
from support import eks, image, manifests, permissions
from support.installation import NAMESPACE, NODE, InstalledWorld
from support.permissions import Permission
from support.world import condition, container_ids, restarts

from kip.iam import documents
from kip.local import lifecycle, ordinary
from kip.local.progress import ConsoleProgress
from kip.local.registry import load
from kip.local.world import World, write_atomically

# Alone on 2 cores three minutes, and as much again where the image has to be built.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

ROLLED = 120.0  # seconds until every process is a new one; ten for each are waited on purpose
ROUTE = "172.30.0.0/16"


@pytest.fixture(scope="module")
def kip(reserved: Callable[[str], str], project: Path, helm_program: Path) -> Iterator[InstalledWorld]:
    """A cluster with an ordinary node, with what EKS brings, and without Kip."""
    name = reserved("kipinst")
    called, archive = image.build(project, ConsoleProgress())
    with ExitStack() as stack:
        lifecycle.down(name)
        stack.callback(lifecycle.down, name)
        made = World.open(name)
        write_atomically(made.audit_policy, permissions.audit_policy(NAMESPACE, "kip-provider"))
        lifecycle.up(name, ConsoleProgress(), only=["room", "dns", "scheduler", "access"])
        load(archive, made.url("registry"))
        ordinary.up(made, ConsoleProgress())
        world = InstalledWorld(made, project, helm_program, called)
        world.apply(*eks.pod_identity(made))
        yield world


@pytest.fixture(scope="module")
def shop(kip: InstalledWorld) -> str:
    """A namespace for pods."""
    kip.kubectl("create", "namespace", "shop")
    kip.eventually(lambda: kip.get("serviceaccounts", "default", "shop"), 15, "shop has its service account")
    return "shop"


class Visits:
    """Asks a pod's server again and again, and keeps when it did not answer."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go)
        self.answers = 0
        self.failures: list[str] = []

    def __enter__(self) -> Visits:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _go(self) -> None:
        while not self._over.wait(0.1):
            try:
                with urllib.request.urlopen(self._url, timeout=5):
                    self.answers += 1
            except OSError as error:
                self.failures.append(str(error))


def test_helm_installs_it_and_a_pod_runs_on_a_cell(kip: InstalledWorld, shop: str) -> None:
    kip.aws.forget_calls()
    kip.install()
    kip.eventually(lambda: condition(kip.existing("nodes", NODE), "Ready") == "True", 30, "the node is ready")
    assert len(kip.processes()) == 2
    for process in kip.processes():
        assert process["spec"]["nodeName"] == ordinary.NODE
        assert set(restarts(process).values()) == {0}
    # Two at once: what differs between them is tagged later, by a call of its own.
    kip.run(manifests.pod("web", shop, labels={"tier": "front"}), manifests.pod("api", shop))
    assert "serving on" in kip.kubectl("logs", "-n", shop, "web").stdout
    assert len(kip.cells(shop)) == 2


def test_processes_are_confined(kip: InstalledWorld) -> None:
    [process, *_] = kip.processes()
    name = process["metadata"]["name"]
    assert kip.exec(name, NAMESPACE, "id", "-u").strip() == "65532"
    wrote = kip.kubectl("exec", "-n", NAMESPACE, name, "--", "touch", "/opt/kip/x", check=False)
    assert "Read-only file system" in wrote.stderr
    wanted = "cc gcc c++ pip pip3 python3-config mksquashfs unsquashfs"
    programs = f"for program in {wanted}; do command -v $program; done; true"
    found = kip.exec(name, NAMESPACE, "sh", "-c", programs).split()
    assert found == ["/usr/bin/mksquashfs", "/usr/bin/unsquashfs"]
    kip.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")


def test_what_it_may_do_is_tried(kip: InstalledWorld, shop: str) -> None:
    """All that it needs a permission for, so that the comparison at the end sees it used."""
    kip.apply(volume(), claim(shop))
    claimed = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    routed = {"pod.elotl.co/cloud-route": ROUTE}
    kip.apply(
        manifests.pod("routed", shop, annotations=routed, volumes=[claimed]),
        manifests.pod("job", shop, manifests.shell("echo done"), restartPolicy="Never"),
    )
    kip.ready("routed", shop)
    kip.eventually(lambda: kip.aws.calls("CreateRoute"), 30, "its range leads to it", shop)

    def done() -> bool:
        job = kip.existing("pods", "job", shop)
        assert job["status"]["phase"] == "Succeeded", job["status"]
        return kip.cell_of("job", shop) is None

    kip.eventually(done, 60, "the job is done and its machine is gone", shop)
    assert kip.kubectl("logs", "-n", shop, "job").stdout == "done\n"
    kip.kubectl("delete", "pod", "-n", shop, "job")
    kip.apply(manifests.pod("refused", shop, manifests.web(ports=[{"containerPort": 22, "hostPort": 22}])))
    kip.eventually(
        lambda: kip.existing("pods", "refused", shop)["status"].get("reason"), 20, "it is told why", shop
    )
    kip.kubectl("delete", "pod", "-n", shop, "refused")
    # Deleted before a kubelet has it, a pod is ended by Kip itself.
    kip.apply(manifests.pod("early", shop))
    kip.eventually(lambda: kip.cell_of("early", shop), 20, "the pod has a cell", shop)
    kip.kubectl("delete", "pod", "-n", shop, "early", "--wait=false")
    kip.gone("pods", "early", shop)
    token = kip.kubectl("create", "token", "default", "-n", shop).stdout.strip()
    address = kip.existing("nodes", NODE)["status"]["addresses"][0]["address"]
    asked = kip.kubectl("get", "--raw", f"/api/v1/nodes/{NODE}/proxy/pods")
    assert "web" in asked.stdout
    assert kubelet_status(f"https://{address}:10250/pods", token) == 403


def kubelet_status(url: str, token: str) -> int:
    """What the node's own port answers to somebody whom only the API server knows."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        # By its address, for which nobody has signed: who asks is the question here.
        with urllib.request.urlopen(request, context=ssl._create_unverified_context(), timeout=10) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


def test_an_upgrade_is_not_noticed_by_pods(kip: InstalledWorld, shop: str) -> None:
    before = {name: kip.existing("pods", name, shop) for name in ("web", "api")}
    cells = {cell["metadata"]["uid"] for cell in kip.cells(shop)}
    processes = {process["metadata"]["uid"] for process in kip.processes()}
    with Visits(f"http://{before['web']['status']['podIP']}:8080/") as visits:
        # A range of addresses goes, a label comes.
        kip.upgrade(config=kip.config(extraCIDRs=[], labels={"example.com/pool": "cells"}))
        kip.eventually(
            lambda: not processes & {process["metadata"]["uid"] for process in kip.processes()},
            ROLLED,
            "every process is a new one",
        )
        kip.ready("web", shop)
    assert visits.answers > 50
    assert visits.failures == []
    for name, pod in before.items():
        now = kip.existing("pods", name, shop)
        assert container_ids(now) == container_ids(pod)
        assert restarts(now) == restarts(pod)
        since = {c["type"]: c["lastTransitionTime"] for c in pod["status"]["conditions"]}
        assert {c["type"]: c["lastTransitionTime"] for c in now["status"]["conditions"]} == since
    assert {cell["metadata"]["uid"] for cell in kip.cells(shop)} == cells
    kip.eventually(
        lambda: kip.kubectl("logs", "-n", shop, "web", check=False).stdout,
        15,
        "the log is to be had again",
        shop,
    )
    labels = kip.existing("nodes", NODE)["metadata"]["labels"]
    assert labels["example.com/pool"] == "cells"
    kip.run(manifests.pod("later", shop))
    kip.eventually(
        lambda: kip.aws.calls("RevokeSecurityGroupIngress"), 30, "the range's rules are revoked", shop
    )


def test_an_uninstallation_is_refused_while_pods_run_and_names_them(kip: InstalledWorld, shop: str) -> None:
    refused = kip.helm("uninstall", "kip", "--wait", check=False)
    assert refused.returncode != 0
    assert "job kip-uninstall failed" in refused.stderr
    log = kip.kubectl("logs", "-n", NAMESPACE, "job/kip-uninstall").stdout
    assert log in refused.stdout + refused.stderr, "Helm shows it"
    assert "helm rollback kip " in log
    assert "refused: pods are bound to the virtual nodes" in log
    for name in ("shop/web", "shop/api", "shop/routed"):
        assert name in log
    assert kip.existing("deployments", "kip-provider", NAMESPACE)["spec"]["replicas"] == 2
    assert condition(kip.ready("web", shop), "Ready") == "True"
    assert not kip.kubectl("get", "clusterrole", "kip-uninstall", "--ignore-not-found").stdout


def test_uninstalled_with_its_pods_drained_it_leaves_nothing(
    kip: InstalledWorld, shop: str, chart_objects: list[Any]
) -> None:
    kip.eventually(lambda: kip.aws.calls("CreateTags"), 90, "cells have the tags that they do not share")
    # The release has to be brought back first: Helm has noted that it is being uninstalled.
    revision = json.loads(kip.helm("history", "kip", "--output=json").stdout)[-1]["revision"]
    kip.helm("rollback", "kip", str(revision), "--wait", "--timeout=3m")
    kip.upgrade(uninstall={"pods": "drain"})
    kip.helm("uninstall", "kip", "--wait")
    used = iam_actions(kip.aws.calls())
    assert kip.list("pods", shop) == []
    assert kip.left() == []
    assert kip.in_namespace() == []
    assert "cells.kip.elotl.co" in kip.kubectl("get", "crds", "-o", "name").stdout
    given = permissions.granted(chart_objects)
    asked = permissions.used(kip.world.audit_log, given)
    assert asked.refused == []
    assert told(asked.permissions - given) == []
    assert sorted(used - allowed(documents.BASE) - allowed("market")) == []
    assert sorted(allowed(documents.BASE) - used) == [], "allowed, but not used"


def allowed(policy: str) -> set[str]:
    """The actions of one of the policies that are shipped."""
    statements = documents.template(policy)["Statement"]
    return {action for statement in statements for action in documents.actions(statement)}


#: What may not have been asked for in this file, and why it is allowed all the same.
NOT_EVERY_TIME = {
    Permission("approve", "certificates.k8s.io", "signers"): "no request: asked of whoever approves",
    Permission("get", "", "namespaces"): "kube-system, where no cluster.name is configured",
    Permission("get", "kip.elotl.co", "cells"): "after a conflict",
    Permission("get", "", "pods"): "when a kubelet asks for a pod that the watch has not shown yet",
    Permission("get", "", "nodes"): "to find the instance that Kip itself runs on",
}


def told(found: set[Permission]) -> list[str]:
    return sorted(map(str, found))


def iam_actions(calls: list[dict[str, Any]]) -> set[str]:
    """As IAM names them; what a launch asks for beside itself is not to be seen in the list of calls."""
    actions = {call["action"] for call in calls if not call["action"].startswith(("/", "AssumeRole"))}
    needed = {f"pricing:{a}" if a == "GetProducts" else f"ec2:{a}" for a in actions}
    return needed | ({"iam:PassRole"} if "RunInstances" in actions else set())


@pytest.fixture(scope="module")
def chart_objects(kip: InstalledWorld) -> list[Any]:
    """What the release consists of, its hooks included."""
    told = [kip.helm("get", what, "kip").stdout for what in ("manifest", "hooks")]
    return [o for text in told for o in yaml.safe_load_all(text) if o]


def test_deploy_sh_installs_and_removes_it_too(kip: InstalledWorld, shop: str) -> None:
    kip.deploy_sh()
    for name in ("kip-provider", "kip-image-cache"):
        kip.kubectl("rollout", "status", "-n", NAMESPACE, f"deployment/{name}", "--timeout=90s", timeout=100)
    # Ready, it sees its volume; and it may write to it, though it is root without any capability.
    write = "touch /volume/tried && rm /volume/tried"
    kip.kubectl("exec", "-n", NAMESPACE, "deployment/kip-image-cache", "--", "sh", "-c", write)
    kip.run(manifests.pod("again", shop))
    asked = (
        "exec",
        "-n",
        NAMESPACE,
        "deployment/kip-provider",
        "--",
        "kip",
        "doctor",
        "--in-cluster",
        "-o",
        "json",
    )
    found = json.loads(kip.kubectl(*asked, check=False, timeout=180).stdout)["findings"]
    assert {
        f["status"] for f in found if f["check"] in ("configuration", "cell-type", "rbac", "credentials")
    } == {"ok"}
    before = kip.kubectl(
        "get", "deployment", "-n", NAMESPACE, "-o", "jsonpath={.items[*].metadata.generation}"
    )
    kip.deploy_sh()
    after = kip.kubectl(
        "get", "deployment", "-n", NAMESPACE, "-o", "jsonpath={.items[*].metadata.generation}"
    )
    assert after.stdout == before.stdout, "the same again changes nothing"
    said = kip.deploy_sh("--uninstall", "--kill")
    assert "pods are bound to the virtual nodes and would lose their machines: shop/again" in said
    assert "cells.kip.elotl.co" not in kip.kubectl("get", "crds", "-o", "name").stdout
    assert kip.left(cells=False) == []
    assert kip.kubectl("get", "persistentvolumes", "-o", "name").stdout.split() == ["persistentvolume/data"]
    assert kip.kubectl("get", "namespace", NAMESPACE, "--ignore-not-found").stdout == ""


def test_no_permission_is_given_that_was_never_used(kip: InstalledWorld, chart_objects: list[Any]) -> None:
    """By either way to install: the manifests give the same (tests/integration/deploy/test_chart.py)."""
    given = permissions.granted(chart_objects)
    asked = permissions.used(kip.world.audit_log, given)
    assert told(given - asked.permissions - NOT_EVERY_TIME.keys()) == []


def volume() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "data"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/tmp"},
            "storageClassName": "",
            "claimRef": {"namespace": "shop", "name": "data"},
        },
    }


def claim(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "volumeName": "data",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
