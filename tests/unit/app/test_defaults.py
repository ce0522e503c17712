"""Annotations of namespaces and of the configuration."""

from __future__ import annotations

from typing import Any

from kip.app.defaults import CONFIGURATION, PodDefaults
from kip.pods.annotations import Layer

SPOT = {"pod.elotl.co/launch-type": "spot"}
POD = {"metadata": {"name": "web", "namespace": "shop"}}


def namespace(name: str, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": annotations}}


def test_the_namespace_goes_before_the_configuration() -> None:
    known = [namespace("shop", {**SPOT, "else": "x"}), namespace("other", {"pod.elotl.co/gpu-type": "l4"})]
    defaults = PodDefaults(lambda: known, {"pod.elotl.co/launch-type": "on-demand"})
    assert defaults.of(POD) == (
        Layer("namespace shop", SPOT),
        Layer(CONFIGURATION, {"pod.elotl.co/launch-type": "on-demand"}),
    )


def test_a_change_counts_once_it_is_told() -> None:
    known = [namespace("shop")]
    defaults = PodDefaults(lambda: known, {})
    assert defaults.of(POD) == ()
    known[0] = namespace("shop", SPOT)
    defaults.changed()
    assert defaults.of(POD) == (Layer("namespace shop", SPOT),)
    known.clear()
    defaults.changed()
    assert defaults.of(POD) == ()
