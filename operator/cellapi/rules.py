"""What a cell may ask: the whole policy, in one table.

A request is looked up by method and path; the first rule that fits decides, and what fits none is refused. The
verdicts:

    own      answered here, from what belongs to this cell alone; never forwarded
    pass     forwarded to the API server (as the virtual node) if the check finds nothing against it
    share    answered from one cache for all cells
    swallow  answered as if done; nothing is forwarded
    deny     refused (403); the same as no rule, but for a reason worth writing down

Every request needs the cell's token and comes through the cell's own socket, but for `/readyz`, which tells
nothing. Who asks is never read from a request.

The numbers in the reasons are those of the requests that kubelets 1.33 to 1.37 make; what they do when they get
something else for an answer is told there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from kip.cellapi import checks, empty, events, nodes, passing, pods, pullsecret, shared, swallowing
from kip.cellapi.call import Check, Handler
from kip.cellapi.paths import Pattern, Target

Verdict = Literal["own", "pass", "share", "swallow", "deny"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the policy."""

    method: str
    """Of HTTP; `*` for all."""
    path: str
    verdict: Verdict
    check: Check
    handler: Handler
    reason: str
    anonymous: bool = False
    """Answered without the cell's token."""
    pattern: Pattern = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", Pattern(self.path))

    @property
    def name(self) -> str:
        """For logs and metrics."""
        return f"{self.method} {self.path}"


_CORE = "/api/v1"
_IN_NAMESPACE = "/api/v1/namespaces/{namespace}"
_STORAGE = "/apis/storage.k8s.io/v1"
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
_CERTIFICATES = "/apis/certificates.k8s.io/{version}"
_CLAIMS = "/apis/resource.k8s.io/{version}/namespaces/{namespace}/resourceclaims"


def _own(
    method: str, path: str, check: Check, handler: Handler, reason: str, *, anonymous: bool = False
) -> Rule:
    return Rule(method, path, "own", check, handler, reason, anonymous)


def _pass(method: str, path: str, check: Check, handler: Handler, reason: str) -> Rule:
    return Rule(method, path, "pass", check, handler, reason)


def _share(path: str, check: Check, handler: Handler, reason: str) -> Rule:
    return Rule("GET", path, "share", check, handler, reason)


def _swallow(method: str, path: str, check: Check, handler: Handler, reason: str) -> Rule:
    return Rule(method, path, "swallow", check, handler, reason)


def _deny(method: str, path: str, reason: str) -> Rule:
    return Rule(method, path, "deny", checks.nothing, swallowing.refuse, reason)


# fmt: off
RULES: tuple[Rule, ...] = (
    # ── Is there anybody ──────────────────────────────────────────────────────────────────────────────────────────
    _own("GET", "/readyz", checks.nothing, nodes.ready,
         "what the cell waits for before it starts its kubelet: one that starts too early backs off for up to a "
         "minute", anonymous=True),

    # ── The Node: the cell's own copy, never the cluster's ────────────────────────────────────────────────────────
    _own("GET", f"{_CORE}/nodes", checks.own_node_selected, nodes.list_or_watch,
         "pods are not even listed before the kubelet has its Node"),
    _own("GET", f"{_CORE}/nodes/{{node}}", checks.own_node, nodes.get,
         "owner of the CSINode and the Lease; volumes wait for it"),
    _own("POST", f"{_CORE}/nodes", checks.nothing, nodes.refuse_creation,
         "409: the node is there; only a kubelet with registerNode asks"),
    _own("PATCH", f"{_CORE}/nodes/{{node}}", checks.own_node, nodes.patch,
         "labels and annotations of plugins on the cell"),
    _own("PATCH", f"{_CORE}/nodes/{{node}}/status", checks.own_node, nodes.patch,
         "merged and kept: pods are admitted by what the Node says, and volumes wait to see themselves in it"),
    _own("GET", f"{_LEASES}/{{node}}", checks.own_node, nodes.get_lease,
         "the real Lease is the operator's heartbeat, not the cells'"),
    _own("POST", _LEASES, checks.own_node, nodes.create_lease, "see above"),
    _own("PUT", f"{_LEASES}/{{node}}", checks.own_node, nodes.replace_lease, "see above"),
    _own("GET", f"{_STORAGE}/csinodes/{{node}}", checks.own_node, nodes.get_csinode,
         "polled every second at start; the kubelet is not Ready before"),
    _own("POST", f"{_STORAGE}/csinodes", checks.nothing, nodes.create_csinode,
         "a kubelet that cannot write it exits"),
    _own("PUT", f"{_STORAGE}/csinodes/{{node}}", checks.own_node, nodes.replace_csinode,
         "CSI drivers of this cell, not of the node"),
    _own("DELETE", f"{_STORAGE}/csinodes/{{node}}", checks.own_node, nodes.delete_csinode, "see above"),

    # ── The pod ───────────────────────────────────────────────────────────────────────────────────────────────────
    _own("GET", f"{_CORE}/pods", checks.of_own_node_selected, pods.list_or_watch,
         "the cell's pod, once it is shown; 503 rather than an empty list that is not certain"),
    _pass("GET", f"{_IN_NAMESPACE}/pods/{{name}}", checks.own_pod, pods.get,
          "fresh: the kubelet computes its status patch from it"),
    _pass("PATCH", f"{_IN_NAMESPACE}/pods/{{name}}/status", checks.own_pod_status, passing.write,
          "how the pod is doing"),
    _pass("DELETE", f"{_IN_NAMESPACE}/pods/{{name}}", checks.own_pod_deletion, pods.delete,
          "the end of a graceful deletion that somebody else began"),
    _swallow("POST", f"{_IN_NAMESPACE}/pods", checks.own_mirror_pod, swallowing.created,
             "the mirror of the device plugin's static pod, asked for each minute: it is not the cluster's affair, and "
             "the kubelet neither needs it nor looks for it"),
    _deny("POST", f"{_IN_NAMESPACE}/pods/{{name}}/eviction", "kubelets evict by writing the status"),
    _deny("PATCH", f"{_IN_NAMESPACE}/pods/{{name}}", "a kubelet writes the status only"),

    # ── What the pod refers to ────────────────────────────────────────────────────────────────────────────────────
    _own("GET", f"{_IN_NAMESPACE}/secrets/{pullsecret.NAME}", checks.nothing, pullsecret.get,
         "Kip's login to ECR, of which the cluster has nothing: for a pod with images there, and no other"),
    _pass("GET", f"{_IN_NAMESPACE}/secrets/{{name}}", checks.referenced_secret, passing.read,
          "env, volumes, image pulls; by name, because cells run the strategy Cache"),
    _pass("GET", f"{_IN_NAMESPACE}/configmaps/{{name}}", checks.referenced, passing.read, "env and volumes"),
    _deny("GET", f"{_IN_NAMESPACE}/secrets", "listing; also a watch by name, which cells do not use"),
    _deny("GET", f"{_IN_NAMESPACE}/configmaps", "listing; also a watch by name, which cells do not use"),
    _pass("POST", f"{_IN_NAMESPACE}/serviceaccounts/{{name}}/token", checks.own_token, passing.write,
          "tokens for the pod's volumes, at mount and at 80 % of their life"),
    _pass("GET", f"{_IN_NAMESPACE}/serviceaccounts/{{name}}", checks.referenced, passing.read,
          "image pulls with the service account's credentials (1.34+)"),
    _pass("GET", _CLAIMS + "/{name}", checks.referenced, passing.read, "devices that the pod claims"),

    # ── Volumes ───────────────────────────────────────────────────────────────────────────────────────────────────
    _pass("GET", f"{_IN_NAMESPACE}/persistentvolumeclaims/{{name}}", checks.referenced, passing.read,
          "until it is mounted, ten times a second"),
    _pass("PATCH", f"{_IN_NAMESPACE}/persistentvolumeclaims/{{name}}/status", checks.own_claim_status,
          passing.write, "a volume was expanded on the cell"),
    _pass("GET", f"{_CORE}/persistentvolumes/{{name}}", checks.nothing, passing.read_volume,
          "the volume behind one of the pod's claims: checked against the volume's own claimRef"),
    _own("GET", f"{_STORAGE}/volumeattachments/{{name}}", checks.nothing, swallowing.not_there,
         "cells have no attached volumes: the cluster's attachments are to real nodes"),

    # ── The same for all cells ────────────────────────────────────────────────────────────────────────────────────
    _share(f"{_CORE}/services", checks.services_selector, shared.services,
           "no container is created before they are known; shown are those of the pod's namespace, and kubernetes"),
    _share(f"{_STORAGE}/csidrivers", checks.no_selector, shared.csidrivers,
           "every CSI volume waits for them, without limit"),
    _share("/apis/node.k8s.io/v1/runtimeclasses", checks.no_selector, shared.runtimeclasses,
           "a pod with a runtimeClassName does not start without"),

    # ── What the kubelet tells ────────────────────────────────────────────────────────────────────────────────────
    _pass("POST", f"{_IN_NAMESPACE}/events", checks.own_event, events.create,
          "about the pod: told. About the Node: swallowed, the machine behind it is nobody's business"),
    _pass("PATCH", f"{_IN_NAMESPACE}/events/{{name}}", checks.own_event_update, events.update,
          "another occurrence of an event that this cell told, or believes it did"),
    _swallow("DELETE", "/apis/resource.k8s.io/{version}/resourceslices", checks.of_own_node_selected,
             swallowing.nothing_to_do,
             "asked at every start of a kubelet: forwarded, it would wipe the slices of all cells"),

    # ── Certificates for pods: on by default from 1.37 on, and a gate that older kubelets do not know cannot be set ────
    _own("GET", f"{_CERTIFICATES}/podcertificaterequests", checks.of_own_node_selected,
         empty.pod_certificate_requests,
         "listed and watched from the start; none are made, because pods with such certificates get no cell"),
    _deny("*", f"{_CERTIFICATES}/namespaces/{{namespace}}/podcertificaterequests", "as above"),
    _deny("*", f"{_CERTIFICATES}/podcertificaterequests", "as above, and nobody else's"),
    _own("GET", _CERTIFICATES, checks.nothing, swallowing.not_there,
         "asked before the first trust bundle: not there, upon which a kubelet does without"),
    _deny("GET", f"{_CERTIFICATES}/clustertrustbundles", "as above: pods with trust bundles get no cell"),

    # ── What kubelets of other configurations would ask ───────────────────────────────────────────────────────────
    _deny("POST", f"{_CERTIFICATES}/certificatesigningrequests",
          "certificates in the node's name; cells run without rotateCertificates and serverTLSBootstrap"),
    _deny("POST", "/apis/authentication.k8s.io/v1/tokenreviews",
          "a cell's kubelet knows its callers by certificate; nothing else may learn whose a token is"),
    _deny("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", "as above"),
)
# fmt: on


@dataclass(frozen=True, slots=True)
class Match:
    """A rule, and what its placeholders stand for."""

    rule: Rule
    names: Mapping[str, str]


class Rulebook:
    """The rules, ready for looking up."""

    def __init__(self, rules: tuple[Rule, ...] = RULES) -> None:
        self._rules = rules
        # By number of segments: a dozen candidates instead of all.
        self._by_length: dict[int, list[Rule]] = {}
        for rule in rules:
            self._by_length.setdefault(rule.path.count("/"), []).append(rule)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules)

    def find(self, method: str, target: Target) -> Match | None:
        """The first rule that fits."""
        for rule in self._by_length.get(len(target.segments), ()):
            if rule.method in (method, "*") and (names := rule.pattern.match(target.segments)) is not None:
                return Match(rule, names)
        return None
