"""Exactly what is watched, and that kopf writes nothing for it."""

from __future__ import annotations

import copy

import kopf
import pytest

from kip.context import Context
from kip.handlers import cells, node, pods, registry

TABLE = registry.watched("kip-provider-0")


def test_pods_cells_and_the_node_itself_are_watched_and_nothing_else():
    assert [(row.resource, row.field_selector, row.label_selector) for row in TABLE] == [
        (("v1", "pods"), "spec.nodeName=kip-provider-0", None),
        (("kip.elotl.co/v1beta1", "cells"), None, "kip.elotl.co/node=kip-provider-0"),
        (("v1", "nodes"), "metadata.name=kip-provider-0", None),
    ]


def test_kopfs_registry_has_these_handlers_for_events_only():
    """Its handlers of creation, change and deletion put annotations and a finalizer on every object."""
    built = registry.build(TABLE)
    watching = built._watching.get_all_handlers()
    assert [handler.fn for handler in watching] == [pods.seen, cells.seen, node.seen]
    for other in (built._changing, built._spawning, built._indexing, built._webhooks):
        assert list(other.get_all_handlers()) == []


def test_the_api_server_filters_and_not_we():
    watching = registry.settings(TABLE).watching
    assert {s.any_name: text for s, text in watching.field_selectors.items()} == {
        "pods": "spec.nodeName=kip-provider-0",
        "nodes": "metadata.name=kip-provider-0",
    }
    assert {s.any_name: text for s, text in watching.label_selectors.items()} == {
        "cells": "kip.elotl.co/node=kip-provider-0"
    }


def test_kopf_posts_no_events_and_watches_neither_crds_nor_namespaces():
    chosen = registry.settings(TABLE)
    assert chosen.posting.enabled is False
    assert chosen.scanning.disabled is True
    assert isinstance(chosen, kopf.OperatorSettings)


class Sightings:
    def pod(self, kind, obj): ...
    def cell(self, kind, obj): ...
    def node(self, kind, obj): ...


@pytest.mark.parametrize(("handler", "method"), [(pods, "pod"), (cells, "cell"), (node, "node")])
async def test_a_handler_passes_on_what_it_was_told(handler, method):
    passed = []
    sightings = Sightings()
    memo = Context(sightings=sightings, post=lambda *what: passed.append(what))
    raw = {"metadata": {"uid": "u-1"}}
    await handler.seen(event={"type": "DELETED", "object": raw}, memo=memo, body={}, logger=None)
    [(function, kind, obj)] = passed
    assert (function, kind, obj) == (getattr(sightings, method), "DELETED", raw)
    assert obj is not raw


def test_the_memo_is_shared_by_all_objects():
    memo = Context(sightings=Sightings(), post=lambda *what: None)
    assert copy.copy(memo) is memo
