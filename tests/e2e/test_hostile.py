"""A cell in bad hands: its root shell and its token get what its own pod may have, and harm nobody else."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support import manifests
from support.cluster import Object
from support.world import E2eWorld, condition

pytestmark = pytest.mark.e2e

NODE = manifests.NODE
#: The operator's memory may grow by this much under attack, in KiB: some buffers, nothing that adds up.
_GROWTH = 64 * 1024
#: /healthz answers within this time whatever a cell does, in seconds: a probe that gets none in time is a restart.
_PROMPT = 5.0
#: `kubectl exec` in another pod takes so many seconds at most meanwhile.
_SERVED = 15.0

# Runs on the cell: one connection for each of the texts given on standard input, what comes back for each is printed.
_TALK = r"""
import base64, json, socket, sys
def talk(sent, patience):
    came = b""
    try:
        with socket.create_connection(("127.0.0.1", 6443), 5) as link:
            link.settimeout(patience)
            link.sendall(sent)
            while part := link.recv(65536):
                came += part
    except OSError as error:
        came += b"" if came else f"({error})".encode()
    return came
job = json.load(sys.stdin)
came = [talk(base64.b64decode(text), job["patience"]) for text in job["texts"]]
json.dump([base64.b64encode(text).decode() for text in came], sys.stdout)
"""


@dataclass(frozen=True)
class Ask:
    """One request; `token` None is the cell's own, an empty one none."""

    method: str
    target: str
    body: Any = None
    kind: str = "application/json"
    token: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoded(self, own_token: str) -> bytes:
        """As it goes over the wire, on a connection of its own."""
        token = own_token if self.token is None else self.token
        body = b"" if self.body is None else json.dumps(self.body).encode()
        head = {"Host": "127.0.0.1:6443", "Connection": "close"}
        head |= {"Authorization": f"Bearer {token}"} if token else {}
        head |= {"Content-Type": self.kind, "Content-Length": str(len(body))} if self.body is not None else {}
        lines = [f"{self.method} {self.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in (head | dict(self.headers)).items()]
        return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True)
class RootShell:
    """Root on one cell."""

    world: E2eWorld
    instance: str
    token: str

    def ask(self, *requests: Ask) -> list[tuple[int, str]]:
        """Status and body of each; (0, what was heard) for one without an answer."""
        return [_answer(came) for came in self.say(*(request.encoded(self.token) for request in requests))]

    def statuses(self, requests: Mapping[str, Ask]) -> dict[str, int]:
        """The status of each."""
        return dict(zip(requests, (status for status, _ in self.ask(*requests.values())), strict=True))

    def say(self, *texts: bytes, patience: float = 5.0) -> list[bytes]:
        """What comes back for each of these, on connections of their own; `patience` in seconds."""
        job = {"patience": patience, "texts": [base64.b64encode(text).decode() for text in texts]}
        done = self.run_python(_TALK, json.dumps(job), 60 + patience * len(texts))
        return [base64.b64decode(text) for text in json.loads(done)]

    def run_python(self, program: str, given: str = "", timeout: float = 60) -> str:
        """What a Python program on the cell prints."""
        script = f"python3 -c {shlex.quote(program)}"
        return self.world.on_cell(self.instance, script, input=given, timeout=timeout).stdout


def _answer(came: bytes) -> tuple[int, str]:
    head, _, body = came.partition(b"\r\n\r\n")
    version, _, rest = head.partition(b" ")
    if not version.startswith(b"HTTP/1."):
        return 0, came[:200].decode(errors="replace")
    return int(rest[:3]), body.decode(errors="replace")


@dataclass(frozen=True)
class Scene:
    """Two pods on two cells, and a third on the network of its machine."""

    world: E2eWorld
    namespace: str
    pods: Mapping[str, Object]
    root: RootShell
    """On the attacker's cell."""

    def uid(self, pod: str) -> str:
        uid: str = self.pods[pod]["metadata"]["uid"]
        return uid

    def path(self, resource: str, name: str = "", namespace: str = "") -> str:
        """The path of an object in the namespace of the scene, or in another one."""
        return f"/api/v1/namespaces/{namespace or self.namespace}/{resource}" + (f"/{name}" if name else "")


@pytest.fixture(scope="module")
def scene(world: E2eWorld, shared_namespace: str) -> Scene:
    """The attacker's pod refers to the secret and the configMap `mine`, the victim's to `yours`."""
    namespace = shared_namespace
    plain = {"runAsNonRoot": True, "runAsUser": 1000, "allowPrivilegeEscalation": False}
    sleeper = {**manifests.shell("sleep 100000"), "securityContext": plain}
    for name in ("mine", "yours", "nobodys"):
        world.apply(
            manifests.secret(name, namespace, word=f"word of {name}"),
            manifests.config_map(name, namespace, word=f"word of {name}"),
        )
    world.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "other", "namespace": namespace}}
    )
    refer = {"mine": "attacker", "yours": "victim"}
    pods = world.run(
        *(
            manifests.pod(
                name,
                namespace,
                {
                    **sleeper,
                    "envFrom": [{"secretRef": {"name": owned}}, {"configMapRef": {"name": owned}}],
                },
            )
            for owned, name in refer.items()
        ),
        manifests.pod("host", namespace, sleeper, hostNetwork=True),
    )
    instance = world.instance_of("attacker", namespace)
    token = world.on_cell(instance, "cat /etc/kip/token").stdout.strip()
    found = {pod["metadata"]["name"]: pod for pod in pods}
    return Scene(world, namespace, found, RootShell(world, instance, token))


# What it may ask.


def test_it_gets_what_its_pod_refers_to(scene: Scene) -> None:
    allowed = {
        "secret": Ask("GET", scene.path("secrets", "mine")),
        "configMap": Ask("GET", scene.path("configmaps", "mine")),
        "pod": Ask("GET", scene.path("pods", "attacker")),
        "pods": Ask("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE}"),
        "token": Ask(
            "POST", scene.path("serviceaccounts", "default/token"), token_request(scene, "attacker")
        ),
    }
    answers = dict(zip(allowed, scene.root.ask(*allowed.values()), strict=True))
    assert {name: status for name, (status, _) in answers.items()} == {
        **dict.fromkeys(allowed, 200),
        "token": 201,
    }
    listed = json.loads(answers["pods"][1])["items"]
    assert [pod["metadata"]["name"] for pod in listed] == ["attacker"]


def test_nothing_of_others_is_given(scene: Scene) -> None:
    token = scene.path("serviceaccounts", "default/token")
    theirs = token_request(scene, "victim")
    own = token_request(scene, "attacker")
    status = {"metadata": {"uid": scene.uid("victim")}, "status": {"phase": "Failed"}}
    own_status = {"metadata": {"uid": scene.uid("attacker")}}
    strategic = "application/strategic-merge-patch+json"
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "x"}}
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "x.1", "namespace": scene.namespace},
        "involvedObject": {"kind": "Pod", "namespace": scene.namespace, "name": "victim"},
        "reason": "Killing",
    }
    forbidden = {
        "another pod's secret": Ask("GET", scene.path("secrets", "yours")),
        "a secret nobody refers to": Ask("GET", scene.path("secrets", "nobodys")),
        "a configMap nobody refers to": Ask("GET", scene.path("configmaps", "nobodys")),
        "another namespace's secret": Ask("GET", scene.path("secrets", "mine", "kube-system")),
        "the operator's keys": Ask("GET", scene.path("secrets", "kip-keys", "kip")),
        "another namespace's configMap": Ask("GET", scene.path("configmaps", "kube-root-ca.crt", "kip")),
        "all secrets": Ask("GET", "/api/v1/secrets"),
        "all secrets of the namespace": Ask("GET", scene.path("secrets")),
        "a watch of the secrets": Ask("GET", scene.path("secrets") + "?watch=true"),
        "a watch of its own secret": Ask(
            "GET", scene.path("secrets") + "?watch=1&fieldSelector=metadata.name%3Dmine"
        ),
        "all pods": Ask("GET", "/api/v1/pods"),
        "another node's pods": Ask("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-0"),
        "another pod": Ask("GET", scene.path("pods", "victim")),
        "a shell in another pod": Ask("POST", scene.path("pods", "victim/exec") + "?command=id"),
        "another pod's log": Ask("GET", scene.path("pods", "victim/log")),
        "another pod's end": Ask("DELETE", scene.path("pods", "victim"), {"gracePeriodSeconds": 0}),
        "another pod's eviction": Ask("POST", scene.path("pods", "victim/eviction"), {}),
        "another pod's status": Ask("PATCH", scene.path("pods", "victim/status"), status, strategic),
        "another's UID at its own name": Ask(
            "PATCH", scene.path("pods", "attacker/status"), status, strategic
        ),
        "its own labels": Ask(
            "PATCH",
            scene.path("pods", "attacker/status"),
            {"metadata": {**own_status["metadata"], "labels": {"app": "victim"}}},
            strategic,
        ),
        "its own deletion begun": Ask(
            "DELETE", scene.path("pods", "attacker"), {"preconditions": {"uid": scene.uid("attacker")}}
        ),
        "a pod": Ask("POST", scene.path("pods"), {}),
        "another account's token": Ask("POST", scene.path("serviceaccounts", "other/token"), own),
        "another namespace's token": Ask(
            "POST", scene.path("serviceaccounts", "default/token", "kube-system"), own
        ),
        "a token bound to another pod": Ask("POST", token, theirs),
        "a token bound to nothing": Ask("POST", token, {**own, "spec": {"audiences": []}}),
        "a token bound to a secret": Ask("POST", token, bound(own, kind="Secret")),
        "a token bound to another UID": Ask("POST", token, bound(own, uid=scene.uid("victim"))),
        "a token for another audience": Ask(
            "POST", token, {**own, "spec": {**own["spec"], "audiences": ["vault"]}}
        ),
        "another node": Ask("GET", "/api/v1/nodes/node-0"),
        "another node's status": Ask("PATCH", "/api/v1/nodes/node-0/status", {"status": {}}, strategic),
        "another node's lease": Ask(
            "GET", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-0"
        ),
        "the operator's lease": Ask("GET", f"/apis/coordination.k8s.io/v1/namespaces/kip/leases/{NODE}"),
        "the nodes' proxy": Ask("GET", f"/api/v1/nodes/{NODE}/proxy/pods"),
        "a certificate": Ask("POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests", {}),
        "whose token it is": Ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review),
        "what somebody may": Ask("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {}),
        "its cell": Ask("GET", "/apis/kip.elotl.co/v1beta1/cells"),
        "an event about another pod": Ask("POST", scene.path("events"), event),
        "the groups": Ask("GET", "/apis"),
        "the API server's metrics": Ask("GET", "/metrics"),
        "somebody else's rights": Ask(
            "GET", scene.path("secrets", "yours"), headers={"Impersonate-User": "system:admin"}
        ),
        "a front proxy's word": Ask(
            "GET", scene.path("secrets", "yours"), headers={"X-Remote-Group": "system:masters"}
        ),
        "another method": Ask(
            "GET", scene.path("pods", "victim"), headers={"X-HTTP-Method-Override": "DELETE"}
        ),
    }
    found = scene.root.statuses(forbidden)
    assert {name: status for name, status in found.items() if status != 403} == {}
    for name in ("victim", "attacker"):
        pod = scene.world.existing("pods", name, scene.namespace)
        assert condition(pod, "Ready") == "True"
        assert pod["metadata"]["labels"] == {"app": name}
        assert "deletionTimestamp" not in pod["metadata"]


def token_request(scene: Scene, pod: str) -> Object:
    """What a kubelet asks for that pod's volume."""
    about = {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": scene.uid(pod)}
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [], "expirationSeconds": 3607, "boundObjectRef": about},
    }


def bound(request: Object, **changes: str) -> Object:
    """The request, bound to something else."""
    spec = request["spec"]
    return {**request, "spec": {**spec, "boundObjectRef": {**spec["boundObjectRef"], **changes}}}


def test_the_node_that_it_changes_is_its_own_copy(scene: Scene) -> None:
    before = scene.world.existing("nodes", NODE)
    strategic = "application/strategic-merge-patch+json"
    change = {"metadata": {"labels": {"evil": "yes"}}, "spec": {"unschedulable": True}}
    ready = {"type": "Ready", "status": "False", "reason": "Evil"}
    scene.root.ask(
        Ask("PATCH", f"/api/v1/nodes/{NODE}", change, strategic),
        Ask("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": {"conditions": [ready]}}, strategic),
        Ask("DELETE", f"/api/v1/nodes/{NODE}"),
        Ask("DELETE", f"/apis/resource.k8s.io/v1/resourceslices?fieldSelector=spec.nodeName%3D{NODE}"),
    )
    after = scene.world.existing("nodes", NODE)
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert not after["spec"].get("unschedulable")
    assert condition(after, "Ready") == "True"


def test_without_its_token_nothing_is_answered(scene: Scene) -> None:
    other = scene.world.instance_of("victim", scene.namespace)
    stolen = scene.world.on_cell(other, "cat /etc/kip/token").stdout.strip()
    account = scene.world.kubectl("create", "token", "-n", scene.namespace, "default").stdout.strip()
    target = scene.path("secrets", "mine")
    proxy = base64.b64encode(b"cell:" + stolen.encode()).decode()
    found = scene.root.statuses(
        {
            "none": Ask("GET", target, token=""),
            "a wrong one": Ask("GET", target, token="0" * 64),
            "nearly the right one": Ask("GET", target, token=scene.root.token[:-1]),
            "another cell's": Ask("GET", target, token=stolen),
            "another cell's, as a proxy's": Ask(
                "GET", target, token="", headers={"Proxy-Authorization": f"Basic {proxy}"}
            ),
            "a service account's": Ask("GET", target, token=account),
            "by the wrong scheme": Ask(
                "GET", target, token="", headers={"Authorization": f"Basic {scene.root.token}"}
            ),
            "none, for a path that is not": Ask("GET", "/nothing", token=""),
        }
    )
    assert set(found.values()) == {401}, found
    # The one thing that needs no token says nothing but that somebody is there.
    assert scene.root.ask(Ask("GET", "/readyz", token=""))[0][0] == 200


def test_paths_are_read_in_one_way_only(scene: Scene) -> None:
    mine, yours = scene.path("secrets", "mine"), scene.path("secrets", "yours")
    encoded = yours.replace("secrets", "%73ecrets")
    targets = {
        "up": f"{mine}/../yours",
        "up, encoded": f"{mine}/%2e%2e/yours",
        "up, half encoded": f"{mine}/.%2e/yours",
        "up with an encoded slash": f"{mine}%2f..%2fyours",
        "up, twice encoded": f"{mine}/%252e%252e/yours",
        "up with a backslash": f"{mine}/..\\yours",
        "down and up": scene.path("pods", "attacker/../../secrets/yours"),
        "two slashes": yours.replace("/secrets", "//secrets"),
        "two slashes in front": f"/{mine}",
        "a slash behind": f"{mine}/",
        "a dot": yours.replace("/secrets", "/./secrets"),
        "a parameter": f"{mine};/../yours",
        "an encoded letter": encoded,
        "an encoded zero": f"{mine}%00",
        "an encoded line end": f"{mine}%0d%0aX-Evil:%201",
        "a fragment": f"{mine}#x",
        "another server": f"http://10.96.0.1{yours}",
        "another server over TLS": f"https://10.96.0.1{yours}",
        "another user of this server": f"http://127.0.0.1:6443@10.96.0.1{yours}",
        "another port of this server": f"http://127.0.0.1:64430{mine}",
        "this server twice": f"http://127.0.0.1:6443http://127.0.0.1:6443{mine}",
        "a name that is no path": "secrets",
        "nothing": "*",
        "a very long name": scene.path("secrets", "a" * 2000),
        "a very deep path": "/api" * 1000,
        "a very long query": f"{mine}?x={'y' * 3000}",
        "a parameter twice": f"/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE}&fieldSelector=",
    }
    found = scene.root.statuses({name: Ask("GET", target) for name, target in targets.items()})
    assert {name: status for name, status in found.items() if status != 400} == {}
    others = scene.root.ask(
        Ask("CONNECT", "10.96.0.1:443"),
        Ask("GET", "/" + "a" * 200_000),
        Ask("OPTIONS", "*"),
        Ask("TRACE", mine),
    )
    assert {status for status, _ in others} <= {0, 400, 403, 405}, others
    word = base64.b64encode(b"word of").decode()
    assert not any(word[:8] in body for _, body in others)


def test_what_is_refused_is_told_once(scene: Scene) -> None:
    def told() -> list[Object]:
        lines = [json.loads(line) for line in scene.world.operator.log().splitlines() if line.startswith("{")]
        pod = f"{scene.namespace}/attacker"
        return [line for line in lines if line.get("pod") == pod and "not its own" in line["message"]]

    # Of a kind that nothing else here asks for.
    again = Ask("GET", scene.path("persistentvolumeclaims", "yours"))
    assert [status for status, _ in scene.root.ask(*[again] * 20)] == [403] * 20
    lines = scene.world.eventually(told, 5, "the refusals are in the operator's log")
    kinds = [(line["method"], line["resource"]) for line in lines]
    assert ("GET", "persistentvolumeclaims") in kinds
    assert len(kinds) == len(set(kinds))
    assert all(line["level"] == "warning" and line["reason"] for line in lines)
    assert not any(scene.root.token in json.dumps(line) for line in lines)


# What it may send, and how fast.


def test_one_request_is_never_taken_for_two(scene: Scene) -> None:
    """Smuggling: where a proxy and a server disagree about where a request ends, the rest of one becomes another's."""
    target, token = scene.path("pods", "attacker/status"), scene.root.token
    auth = f"Host: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    inner = f"GET {scene.path('secrets', 'mine')} HTTP/1.1\r\n{auth}\r\n"
    post = f"POST {target} HTTP/1.1\r\n{auth}"
    chunked = f"0\r\n\r\n{inner}"
    texts = {
        "length and chunks": f"{post}Content-Length: {len(chunked)}\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}",
        "chunks and length": f"{post}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{chunked}",
        "two lengths": f"{post}Content-Length: 0\r\nContent-Length: {len(inner)}\r\n\r\n{inner}",
        "a list of lengths": f"{post}Content-Length: 0, {len(inner)}\r\n\r\n{inner}",
        "a length below zero": f"{post}Content-Length: -1\r\n\r\n{inner}",
        "a length with a sign": f"{post}Content-Length: +0\r\n\r\n{inner}",
        "an unknown coding": f"{post}Transfer-Encoding: xchunked\r\n\r\n{chunked}",
        "two codings": f"{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n{chunked}",
        "a space before the colon": f"{post}Transfer-Encoding : chunked\r\n\r\n{chunked}",
        "a folded header": f"{post}X: y\r\n Transfer-Encoding: chunked\r\n\r\n{chunked}",
        "a wrong chunk": f"{post}Transfer-Encoding: chunked\r\n\r\nzz\r\n{inner}",
    }
    answers = scene.root.say(*(text.encode() for text in texts.values()), patience=1.0)
    came = dict(zip(texts, answers, strict=True))
    secret = base64.b64encode(b"word of mine")
    assert {name: text[:300] for name, text in came.items() if secret in text} == {}
    refused = re.compile(rb"HTTP/1\.[01] 400 ")
    assert {name: text[:60] for name, text in came.items() if len(refused.findall(text)) != 1} == {}


def test_each_request_of_a_pipeline_needs_the_token(scene: Scene) -> None:
    target = scene.path("secrets", "mine")
    allowed = f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {scene.root.token}\r\n\r\n"
    unnamed = f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    [came] = scene.root.say((allowed + unnamed).encode())
    assert re.findall(rb"HTTP/1\.1 (\d+) ", came) == [b"200", b"401"]


class Vitals:
    """How the operator is while it is attacked."""

    def __init__(self, world: E2eWorld) -> None:
        self._world = world
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._before = _memory(world)
        self.slowest = 0.0
        self.looks = 0
        self.troubles: list[str] = []
        self.most = self._before

    def __enter__(self) -> Vitals:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(15)

    def check(self) -> None:
        """Fails unless the operator was prompt and did not grow all the while."""
        assert self.looks > 0
        assert not self.troubles
        assert not self._thread.is_alive(), "the last look hangs"
        assert self.slowest < _PROMPT
        assert self.most - self._before < _GROWTH

    def _look(self) -> None:
        while True:
            try:
                self._note()
            except Exception as error:  # (a thread that ends is noticed by nobody)
                self.troubles.append(repr(error))
            if self._stop.wait(0.2):
                return

    def _note(self) -> None:
        self.looks += 1
        began = time.monotonic()
        if not self._world.operator.healthy():
            self.troubles.append("not healthy")
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.most = max(self.most, _memory(self._world))


def _memory(world: E2eWorld) -> int:
    """Resident memory of the operator in KiB."""
    status = Path(f"/proc/{world.operator.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])


def well(scene: Scene) -> None:
    """Fails unless the other cell is served as ever."""
    began = time.monotonic()
    assert scene.world.exec("victim", scene.namespace, "echo", "here").strip() == "here"
    assert time.monotonic() - began < _SERVED


# Sends a request with a body of so many MB, with its length or in chunks, and prints what comes back.
_HUGE = r"""
import json, socket, sys
job = json.load(sys.stdin)
with socket.create_connection(("127.0.0.1", 6443), 5) as link:
    link.settimeout(20)
    link.sendall(job["head"].encode())
    piece, sent = b"x" * 65536, 0
    try:
        while sent < job["bytes"]:
            link.sendall(b"10000\r\n" + piece + b"\r\n" if job["chunked"] else piece)
            sent += len(piece)
    except OSError:
        pass
    try:
        came = link.recv(300).decode(errors="replace")
    except OSError as error:
        came = f"({error})"
json.dump({"sent": sent, "came": came}, sys.stdout)
"""


@pytest.mark.parametrize("chunked", [False, True], ids=["with-its-length", "in-chunks"])
def test_a_huge_body_is_not_read(scene: Scene, chunked: bool) -> None:
    size = 100 * 2**20
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    head = (
        f"PATCH {scene.path('pods', 'attacker/status')} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {scene.root.token}\r\n"
        f"Content-Type: application/strategic-merge-patch+json\r\n{length}\r\n\r\n"
    )
    with Vitals(scene.world) as vitals:
        given = json.dumps({"head": head, "bytes": size, "chunked": chunked})
        told = json.loads(scene.root.run_python(_HUGE, given))
        well(scene)
    vitals.check()
    assert told["came"].startswith(("HTTP/1.1 413", "(")), told
    assert told["sent"] < size


# Opens many connections and sends each of the heads a byte at a time; prints how many were still open in the end.
_SLOW = r"""
import json, socket, sys, time
job = json.load(sys.stdin)
links, refused = [], 0
for _ in range(job["connections"]):
    try:
        link = socket.create_connection(("127.0.0.1", 6443), 5)
        link.setblocking(False)
        link.send(job["head"].encode())
        links.append(link)
    except OSError:
        refused += 1
until, closed = time.monotonic() + job["seconds"], set()
while time.monotonic() < until:
    for number, link in enumerate(links):
        if number in closed:
            continue
        try:
            link.send(b"x")
            if not link.recv(4096):
                closed.add(number)
        except BlockingIOError:
            pass
        except OSError:
            closed.add(number)
    time.sleep(0.25)
json.dump({"open": len(links) - len(closed), "refused": refused}, sys.stdout)
"""


def test_slow_heads_and_bodies_on_many_connections_hold_up_nobody(scene: Scene) -> None:
    line = f"PATCH {scene.path('pods', 'attacker/status')} HTTP/1.1\r\nHost: x\r\n"
    token = f"Authorization: Bearer {scene.root.token}\r\n"
    body = (
        f"{line}{token}Content-Type: application/strategic-merge-patch+json\r\nContent-Length: 1000\r\n\r\n"
    )
    connections = 150
    with Vitals(scene.world) as vitals, contextlib.ExitStack() as stack:
        told = []
        for head in (f"{line}X-Slow: ", body):
            given = json.dumps({"head": head, "connections": connections, "seconds": 12})
            told.append(stack.enter_context(_background(scene.root, _SLOW, given)))
        for _ in range(3):
            time.sleep(2)  # in the middle of the attack
            well(scene)
    vitals.check()
    # It was an attack: nearly all of them were connected, if only for a while.
    refused = [json.loads(printed)["refused"] for [printed] in told]
    assert max(refused) < connections / 10, refused
    # It has done harm to nobody but itself, and to that only while it lasted.
    assert scene.root.statuses({"pod": Ask("GET", scene.path("pods", "attacker"))}) == {"pod": 200}


# Asks as fast as it can on some connections, not reading what comes back on half of them.
_FLOOD = r"""
import json, socket, sys, threading, time
job = json.load(sys.stdin)
until = time.monotonic() + job["seconds"]
counts = {}
def ask(reading):
    while time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", 6443), 5) as link:
                link.settimeout(2)
                while time.monotonic() < until:
                    link.sendall(job["text"].encode() * 20)
                    for code in [part[:3] for part in link.recv(65536).split(b"HTTP/1.1 ")[1:]] if reading else []:
                        counts[code.decode()] = counts.get(code.decode(), 0) + 1
        except OSError:
            time.sleep(0.05)
threads = [threading.Thread(target=ask, args=(number % 2 == 0,)) for number in range(16)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
json.dump(counts, sys.stdout)
"""


def test_a_flood_of_requests_is_slowed_down(scene: Scene) -> None:
    text = (
        f"GET {scene.path('secrets', 'mine')} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {scene.root.token}\r\n\r\n"
    )
    with (
        Vitals(scene.world) as vitals,
        _background(scene.root, _FLOOD, json.dumps({"text": text, "seconds": 6})) as done,
    ):
        for _ in range(2):
            time.sleep(1.5)  # in the middle of the attack
            well(scene)
    vitals.check()
    counts = json.loads(done[0])
    # A burst, and then the rate that a kubelet needs at most: no more went on to the API server.
    assert counts.get("429", 0) > 0
    assert counts.get("200", 0) <= 200 + 50 * 8


@contextlib.contextmanager
def _background(root: RootShell, program: str, given: str) -> Iterator[list[str]]:
    """A Python program that runs on the cell meanwhile; afterwards the list has what it printed."""
    printed: list[str] = []
    thread = threading.Thread(target=lambda: printed.append(root.run_python(program, given)))
    thread.start()
    try:
        yield printed
    finally:
        thread.join(90)
    assert printed, "the program on the cell failed"


# From the pod.


def test_a_pod_reaches_neither_the_cell_api_nor_a_kubelet(scene: Scene) -> None:
    own, other = (scene.pods[name]["status"]["hostIP"] for name in ("attacker", "victim"))
    doors = [
        f"{host} {port}" for host in ("127.0.0.1", "169.254.1.1", own, other) for port in (6443, 6444, 10250)
    ]
    # One that is open to every pod: who finds it would find the others.
    api_server = f"{scene.world.world.service_cidr[1]} 443"
    doors.append(api_server)
    script = "; ".join(f"nc -w 2 {door} </dev/null >/dev/null 2>&1 && echo {door}" for door in doors)
    open_doors = scene.world.exec("attacker", scene.namespace, "sh", "-c", f"{script}; true")
    assert open_doors.splitlines() == [api_server]


def test_a_pod_on_the_machines_network_is_refused_without_the_token(scene: Scene) -> None:
    target = scene.path("secrets", "yours")
    head = f"GET {target} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n"
    for port in (6443, 6444):
        told = scene.world.exec(
            "host", scene.namespace, "sh", "-c", f"(printf '{head}'; sleep 1) | nc 127.0.0.1 {port}"
        )
        assert told.startswith("HTTP/1.1 401"), f"at {port}: {told}"
    secret_files = "for file in /etc/kip/token /etc/kip/kubeconfig /etc/kip/ssh_host_ed25519_key; do"
    instance = scene.world.instance_of("host", scene.namespace)
    readable = scene.world.on_cell(
        instance, f"{secret_files} setpriv --reuid=1000 --clear-groups cat $file 2>/dev/null; done; true"
    )
    assert readable.stdout == ""


def test_a_pod_without_a_profile_gets_nothing_from_the_metadata_service(scene: Scene) -> None:
    request = (
        "PUT /latest/api/token HTTP/1.1\\r\\nHost: 169.254.169.254\\r\\nContent-Length: 0\\r\\n"
        "X-aws-ec2-metadata-token-ttl-seconds: 60\\r\\nConnection: close\\r\\n\\r\\n"
    )
    ask = f"printf '{request}' | timeout 4 nc -w 3 169.254.169.254 80"
    told = scene.world.exec("attacker", scene.namespace, "sh", "-c", f"{ask}; true")
    assert told == ""
    # The machine itself gets an answer: it is the hop that makes the difference.
    curl = "curl -sf -m 3 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token"
    assert scene.world.on_cell(scene.root.instance, curl).stdout


# By SSH.


@pytest.fixture(scope="module")
def operator_key(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's key to every cell, as a file for ssh."""
    secret = scene.world.kubectl("get", "secret", "-n", "kip", "kip-keys", "-o", "json").stdout
    file = tmp_path_factory.mktemp("ssh") / "key"
    file.touch(mode=0o600)
    file.write_bytes(base64.b64decode(json.loads(secret)["data"]["ssh-key"]))
    return file


def ssh(key: Path, address: str, *arguments: str, seconds: float = 15) -> subprocess.CompletedProcess[str]:
    """ssh as root to a cell, trusting any host key: here it is the cell that defends itself."""
    options = [
        "BatchMode=yes",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "ConnectTimeout=5",
    ]
    options += ["IdentitiesOnly=yes", "LogLevel=INFO"]
    flags = [word for option in options for word in ("-o", option)]
    return subprocess.run(
        ["ssh", "-F", "none", *flags, "-i", str(key), *arguments[:-1], f"root@{address}", *arguments[-1:]],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_the_operators_key_opens_the_two_tunnels_and_nothing_else(scene: Scene, operator_key: Path) -> None:
    own, other = (scene.pods[name]["status"]["hostIP"] for name in ("attacker", "victim"))
    elsewhere = ["127.0.0.1:22", f"{own}:10250", f"{other}:22", f"{other}:10250", "169.254.169.254:80"]
    for target in elsewhere:
        done = ssh(operator_key, own, "-W", target, "--")
        assert "administratively prohibited" in done.stderr, f"{target}: {done.stderr}"
    for place in ("127.0.0.1:9999", "0.0.0.0:6443", "*:6443", "/run/kip/x.sock"):
        done = ssh(operator_key, own, "-o", "ExitOnForwardFailure=yes", "-R", f"{place}:127.0.0.1:1", "true")
        assert done.returncode != 0, place
        assert "forwarding failed" in done.stderr, f"{place}: {done.stderr}"
    terminal = ssh(operator_key, own, "-tt", "tty")
    assert "PTY allocation request failed" in terminal.stderr
    agent = ssh(operator_key, own, "-A", "-X", "echo agent=$SSH_AUTH_SOCK display=$DISPLAY")
    assert agent.stdout == "agent= display=\n"


def test_no_key_on_a_cell_opens_another_cell(scene: Scene) -> None:
    other = scene.pods["victim"]["status"]["hostIP"]
    script = f"""
        keys=$(grep -rlsE 'BEGIN [A-Z ]*PRIVATE KEY' /etc/kip /etc/ssh /root/.ssh /var/lib/kubelet /run/kip 2>/dev/null)
        for key in $keys; do
            cp "$key" /tmp/tried; chmod 600 /tmp/tried
            for user in root ec2-user; do
                ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \\
                    -o IdentitiesOnly=yes -o ConnectTimeout=5 -i /tmp/tried $user@{other} id && echo "$key opens $user"
            done
            rm /tmp/tried
        done 2>/dev/null
        echo tried $keys
        timeout 3 bash -c ': </dev/tcp/{other}/10250' 2>/dev/null && echo "the kubelet's port is open"
        timeout 3 bash -c ': </dev/tcp/{other}/6443' 2>/dev/null && echo "the API's port is open"
        true
    """
    told = scene.world.on_cell(scene.root.instance, script).stdout
    assert told.startswith("tried /"), told
    assert "/etc/kip/ssh_host_ed25519_key" in told
    assert len(told.splitlines()) == 1, told
