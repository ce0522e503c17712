"""A pod on a cell behaves as on any node: one pod that uses most of what a kubelet offers, looked at from all sides."""

from __future__ import annotations

import base64
import json
import re

import pytest
from support import manifests
from support.cluster import Object
from support.world import E2eWorld, ask, condition, container_ids, fetch, restarts

pytestmark = pytest.mark.e2e

POD = "rich"

# Twice the kubelet's syncFrequency (1 min), which it stretches by up to a half so that pods do not sync together.
CONFIG_ARRIVES = 100.0


def rich_pod(namespace: str) -> Object:
    """Secret, configMap, token and downward API; an init container, a sidecar, probes."""
    shared = {"name": "shared", "mountPath": "/shared"}
    mounts = [
        shared,
        {"name": "config", "mountPath": "/etc/config"},
        {"name": "token", "mountPath": "/var/run/kip"},
        {"name": "podinfo", "mountPath": "/etc/podinfo"},
        {"name": "secret", "mountPath": "/etc/secret"},
    ]
    fields = {
        "POD_NAME": "metadata.name",
        "POD_NAMESPACE": "metadata.namespace",
        "POD_IP": "status.podIP",
        "HOST_IP": "status.hostIP",
        "NODE_NAME": "spec.nodeName",
    }
    environment = [
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
        *({"name": n, "valueFrom": {"fieldRef": {"fieldPath": path}}} for n, path in fields.items()),
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
    ]
    # Ready and alive are asked of the same switch: off is unready after one second and dead after fifteen.
    probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}
    main = manifests.web(
        "main",
        env=environment,
        envFrom=[{"configMapRef": {"name": "settings"}}],
        volumeMounts=mounts,
        readinessProbe={**probe, "failureThreshold": 1},
        livenessProbe={**probe, "failureThreshold": 15},
        resources={"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
    )
    return manifests.pod(
        POD,
        namespace,
        main,
        manifests.shell("sleep 100000", "tools", volumeMounts=mounts),
        annotations={"example.com/note": "as on any node"},
        initContainers=[
            manifests.shell("ls /shared > /shared/before-init; date", "first", volumeMounts=[shared]),
            manifests.web(
                "sidecar",
                "--port=8081",
                restartPolicy="Always",
                startupProbe={"httpGet": {"path": "/healthz", "port": 8081}, "periodSeconds": 1},
            ),
            # Runs only after the sidecar has started, and can use it.
            manifests.shell(
                "timeout 5 wget -q -O /shared/from-sidecar http://127.0.0.1:8081/healthz",
                "last",
                volumeMounts=[shared],
            ),
        ],
        volumes=[
            {"name": "shared", "emptyDir": {}},
            {"name": "config", "configMap": {"name": "settings"}},
            {"name": "secret", "secret": {"secretName": "login", "defaultMode": 0o400}},
            {
                "name": "token",
                "projected": {
                    "sources": [
                        {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}},
                        {"configMap": {"name": "kube-root-ca.crt"}},
                    ]
                },
            },
            {
                "name": "podinfo",
                "downwardAPI": {
                    "items": [
                        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                        {
                            "path": "note",
                            "fieldRef": {"fieldPath": "metadata.annotations['example.com/note']"},
                        },
                    ]
                },
            },
        ],
    )


def waiting_pod(namespace: str) -> Object:
    """A pod whose configMap nobody has made yet."""
    container = manifests.web(envFrom=[{"configMapRef": {"name": "made-later"}}])
    return manifests.pod("waiting", namespace, container)


@pytest.fixture(scope="module")
def namespace(shared_namespace: str) -> str:
    return shared_namespace


@pytest.fixture(scope="module")
def pod(world: E2eWorld, namespace: str) -> Object:
    """The pod, Ready; the configMap in it is changed right then, which the last test here waits for."""
    world.apply(
        manifests.secret("login", namespace, password="correct horse"),
        manifests.config_map("settings", namespace, greeting="hello", GREETING="hello"),
    )
    world.apply(waiting_pod(namespace))
    [pod] = world.run(rich_pod(namespace))
    world.apply(manifests.config_map("settings", namespace, greeting="good day", GREETING="good day"))
    return pod


def test_environment_comes_from_secrets_config_maps_and_the_pod_itself(world: E2eWorld, pod: Object) -> None:
    namespace = pod["metadata"]["namespace"]

    def variable(name: str) -> str:
        return ask(f"http://{pod['status']['podIP']}:8080/env/{name}").strip()

    assert variable("PASSWORD") == "correct horse"
    assert variable("GREETING") == "hello"
    assert variable("POD_NAME") == POD
    assert variable("POD_NAMESPACE") == namespace
    assert variable("POD_IP") == pod["status"]["podIP"]
    assert variable("HOST_IP") == pod["status"]["hostIP"]
    assert variable("NODE_NAME") == manifests.NODE
    assert variable("MEMORY") == str(128 * 2**20)


def test_volumes_hold_secrets_and_the_downward_api(world: E2eWorld, pod: Object) -> None:
    def cat(path: str) -> str:
        return world.exec(POD, pod["metadata"]["namespace"], "cat", path, container="tools")

    assert cat("/etc/secret/password") == "correct horse"
    assert cat("/etc/podinfo/labels").splitlines() == [f'app="{POD}"']
    assert cat("/etc/podinfo/note") == "as on any node"


def test_its_token_authenticates_at_the_api_server_through_the_kubernetes_service(
    world: E2eWorld, pod: Object
) -> None:
    namespace = pod["metadata"]["namespace"]
    world.kubectl(
        "create",
        "rolebinding",
        "view",
        "-n",
        namespace,
        "--clusterrole=view",
        f"--serviceaccount={namespace}:default",
    )
    server = world.exec(
        POD,
        namespace,
        "sh",
        "-c",
        "echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT",
        container="tools",
    ).strip()
    assert server == f"{world.world.service_cidr[1]}:443"

    def ask(path: str) -> Object:
        files = "ca=/var/run/kip/ca.crt&token=/var/run/kip/token"
        answer: Object = json.loads(fetch(pod, f"https://{server}{path}", files))
        return answer

    allowed = ask(f"/api/v1/namespaces/{namespace}/pods/{POD}")
    assert allowed["metadata"]["uid"] == pod["metadata"]["uid"]
    refused = ask(f"/api/v1/namespaces/{namespace}/secrets")
    assert f'User "system:serviceaccount:{namespace}:default" cannot list' in refused["message"]

    token = world.exec(POD, namespace, "cat", "/var/run/kip/token", container="tools").split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    assert claims["exp"] - claims["iat"] == 600
    assert claims["kubernetes.io"]["pod"] == {"name": POD, "uid": pod["metadata"]["uid"]}
    assert claims["kubernetes.io"]["node"]["name"] == manifests.NODE
    authority = world.exec(POD, namespace, "cat", "/var/run/kip/ca.crt", container="tools")
    assert authority == world.existing("configmaps", "kube-root-ca.crt", namespace)["data"]["ca.crt"]


def test_init_containers_run_in_order_and_a_sidecar_stays(world: E2eWorld, pod: Object) -> None:
    statuses = {one["name"]: one for one in pod["status"]["initContainerStatuses"]}
    first, sidecar, last = statuses["first"], statuses["sidecar"], statuses["last"]
    assert first["state"]["terminated"]["exitCode"] == 0
    assert last["state"]["terminated"]["exitCode"] == 0
    assert sidecar["started"] is True
    assert first["state"]["terminated"]["finishedAt"] <= sidecar["state"]["running"]["startedAt"]
    assert sidecar["state"]["running"]["startedAt"] <= last["state"]["terminated"]["startedAt"]
    main = next(one for one in pod["status"]["containerStatuses"] if one["name"] == "main")
    assert last["state"]["terminated"]["finishedAt"] <= main["state"]["running"]["startedAt"]

    namespace = pod["metadata"]["namespace"]
    assert world.exec(POD, namespace, "cat", "/shared/before-init", container="tools") == "before-init\n"
    assert world.exec(POD, namespace, "cat", "/shared/from-sidecar", container="tools") == "ok\n"


def test_its_status_is_the_kubelets_with_the_addresses_of_its_instance(world: E2eWorld, pod: Object) -> None:
    status = pod["status"]
    instance_id = world.instance_of(POD, pod["metadata"]["namespace"])
    [instance] = [one for one in world.instances() if one["id"] == instance_id]
    assert status["phase"] == "Running"
    assert status["hostIP"] == instance["private_ip"]
    assert status["hostIPs"] == [{"ip": instance["private_ip"]}]
    assert [status["podIP"]] == instance["secondary_ips"]
    assert status["podIPs"] == [{"ip": status["podIP"]}]
    assert status["qosClass"] == "Burstable"
    assert status["startTime"] >= pod["metadata"]["creationTimestamp"]
    assert "reason" not in status
    assert pod["spec"]["nodeName"] == manifests.NODE
    for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready"):
        assert condition(pod, kind) == "True"
    for container in status["containerStatuses"]:
        assert container["ready"]
        assert container["containerID"].startswith("containerd://")
        assert "sha256:" in container["imageID"]
        assert container["restartCount"] == 0


def test_describe_tells_of_its_way_from_scheduling_to_its_containers(world: E2eWorld, pod: Object) -> None:
    namespace = pod["metadata"]["namespace"]
    said = {event["reason"] for event in world.events(namespace, POD)}
    assert {"Scheduled", "Pulled", "Created", "Started"} <= said
    described = world.kubectl("describe", "pod", "-n", namespace, POD).stdout
    _, heading, events = described.partition("Events:")
    assert heading
    assert world.instance_of(POD, namespace) in events
    for container in ("first", "sidecar", "last", "main", "tools"):
        assert any(
            event["involvedObject"].get("fieldPath", "").endswith(f"{{{container}}}")
            for event in world.events(namespace, POD)
        ), f"no event about container {container}:\n{events}"


def test_a_pod_waits_for_the_config_map_that_it_refers_to(
    world: E2eWorld, pod: Object, namespace: str
) -> None:
    def complains() -> bool:
        status = world.existing("pods", "waiting", namespace)["status"]
        waiting = status["containerStatuses"][0]["state"]["waiting"]
        assert waiting["reason"] == "CreateContainerConfigError"
        return bool(re.fullmatch(r'configmaps? "made-later" not found', waiting["message"]))

    world.eventually(complains, 30, "the pod says what it misses", namespace)
    world.apply(manifests.config_map("made-later", namespace, FOUND="yes"))
    found = world.ready("waiting", namespace)
    assert ask(f"http://{found['status']['podIP']}:8080/env/FOUND") == "yes\n"
    assert restarts(found) == {"web": 0}


def test_its_resources_are_changed_in_place(world: E2eWorld, pod: Object, namespace: str) -> None:
    before = world.existing("pods", POD, namespace)
    more = {"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "150m"}}}]}}
    world.kubectl("patch", "pod", "-n", namespace, POD, "--subresource=resize", "--patch", json.dumps(more))

    def resized() -> bool:
        found = world.existing("pods", POD, namespace)
        [main] = [one for one in found["status"]["containerStatuses"] if one["name"] == "main"]
        assert main["resources"]["requests"]["cpu"] == "150m", main["resources"]
        return container_ids(found) == container_ids(before)

    world.eventually(resized, 20, "its main container has the new request and is the same", namespace)


def test_probes_take_it_out_of_service_and_restart_it(world: E2eWorld, pod: Object) -> None:
    namespace = pod["metadata"]["namespace"]
    before = world.existing("pods", POD, namespace)
    ask(f"http://{pod['status']['podIP']}:8080/healthz/off")

    def unready() -> bool:
        seen = world.existing("pods", POD, namespace)
        return condition(seen, "Ready") == "False" and restarts(seen)["main"] == 0

    world.eventually(unready, 10, "the pod is not Ready although nothing was restarted", namespace)

    def restarted() -> bool:
        seen = world.existing("pods", POD, namespace)
        return condition(seen, "Ready") == "True" and restarts(seen)["main"] == 1

    world.eventually(restarted, 60, "its main container was restarted and is Ready again", namespace)
    after = world.existing("pods", POD, namespace)
    changed = {name for name, found in container_ids(after).items() if found != container_ids(before)[name]}
    assert changed == {"main"}
    said = [event["message"] for event in world.events(namespace, POD) if event["reason"] == "Unhealthy"]
    assert any("Readiness probe failed" in message for message in said)
    assert any("Liveness probe failed" in message for message in said)
    previous = world.kubectl("logs", "-n", namespace, POD, "-c", "main", "--previous").stdout
    assert "/healthz/off" in previous


def test_a_changed_config_map_arrives_in_the_running_pod(world: E2eWorld, pod: Object) -> None:
    namespace = pod["metadata"]["namespace"]

    def greeting() -> str:
        return world.exec(POD, namespace, "cat", "/etc/config/greeting", container="tools")

    world.eventually(
        lambda: greeting() == "good day", CONFIG_ARRIVES, "the changed configMap is in the pod", namespace
    )
