"""How much of each resource a pod requests, counted as the scheduler and the kubelet's admission count.

The rules are those of `PodRequests` in Kubernetes 1.36 (component-helpers, `resource/helpers.go`): containers run
side by side, init containers one after the other, sidecars (init containers that are restarted always) from
their turn to the end; what is given for the whole pod replaces the sum; the runtime's overhead comes on top.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from kip.model.quantity import QuantityError, parse
from kip.pods.tree import Pod, dig, items

Amounts = dict[str, Decimal]

_POD_LEVEL = ("cpu", "memory")
#: Prefix of the resources that are huge pages; their size follows.
HUGE_PAGES = "hugepages-"


def requests(pod: Pod) -> Amounts:
    """Resource name → amount in base units. Raises QuantityError for what no API server lets through."""
    total = of_containers(pod) | of_whole_pod(pod)
    _add(total, overhead(pod))
    return total


def of_containers(pod: Pod) -> Amounts:
    """What all containers need at the moment when they need most."""
    total = at_once(pod)
    for _, step in init_steps(pod):
        for resource, amount in step.items():
            total[resource] = max(total.get(resource, amount), amount)
    return total


def of_whole_pod(pod: Pod) -> Amounts:
    """What `spec.resources` sets in place of the sum over the containers.

    A limit counts as a request where no container requests anything, as the API server's defaulting has it.
    """
    requested = _parsed(dig(pod, "spec", "resources", "requests"))
    unset = requested.keys() | of_containers(pod).keys()
    limits = _parsed(dig(pod, "spec", "resources", "limits"))
    defaulted = {resource: amount for resource, amount in limits.items() if resource not in unset}
    return {
        resource: amount
        for resource, amount in (requested | defaulted).items()
        if resource in _POD_LEVEL or resource.startswith(HUGE_PAGES)
    }


def overhead(pod: Pod) -> Amounts:
    """What the RuntimeClass adds."""
    return _parsed(dig(pod, "spec", "overhead"))


def at_once(pod: Pod) -> Amounts:
    """What containers and sidecars request together, once the pod has started."""
    total: Amounts = {}
    for container in items(pod, "spec", "containers"):
        _add(total, of_container(container))
    for container in sidecars(pod):
        _add(total, of_container(container))
    return total


def of_container(container: Mapping[str, Any]) -> Amounts:
    """What one container requests."""
    return _given(container.get("resources"))


def sidecars(pod: Pod) -> Iterator[Mapping[str, Any]]:
    """Init containers that go on running."""
    return (c for c in items(pod, "spec", "initContainers") if c.get("restartPolicy") == "Always")


def init_steps(pod: Pod) -> Iterator[tuple[str, Amounts]]:
    """Each step of the pod's start: the init container's name, and what runs while it does."""
    running: Amounts = {}
    for container in items(pod, "spec", "initContainers"):
        step = dict(running)
        _add(step, of_container(container))
        yield str(container.get("name", "")), step
        if container.get("restartPolicy") == "Always":
            running = step


def _given(resources: Any) -> Amounts:
    """Requests; a limit without a request is one, as the API server's defaulting has it."""
    return _parsed(dig(resources, "limits")) | _parsed(dig(resources, "requests"))


def _parsed(quantities: Mapping[str, Any] | None) -> Amounts:
    return {resource: _amount(resource, quantity) for resource, quantity in (quantities or {}).items()}


def _amount(resource: str, quantity: Any) -> Decimal:
    try:
        return parse(quantity)
    except QuantityError as error:
        raise QuantityError(f"{resource}: {error}") from None


def _add(total: Amounts, more: Mapping[str, Decimal]) -> None:
    for resource, amount in more.items():
        total[resource] = total.get(resource, Decimal(0)) + amount
