"""The Cell survives a round through its object, and its phase follows from its conditions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from tests.doubles.samples import filled

from kip.model import names
from kip.model.cell import (
    CONNECTED,
    DRAINED,
    LAUNCHED,
    READY,
    SERVING,
    TERMINATED,
    Cell,
    Intent,
    new_cell_object,
)

ROOT = Path(__file__).resolve().parents[3]
NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
POD = {
    "metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "labels": {"app": "web"}},
    "spec": {"nodeName": "kip-provider-0"},
}


def fresh(**status: object) -> Cell:
    obj = new_cell_object(POD)
    obj["metadata"] |= {"uid": "c-1", "resourceVersion": "7", "creationTimestamp": "2026-05-04T11:59:00Z"}
    return Cell.from_object({**obj, "status": status})


def test_the_new_object_is_named_after_the_pod_and_guarded_by_a_finalizer():
    obj = new_cell_object(POD)
    assert obj["metadata"]["name"] == names.cell_name("u-1") == "kip-u-1"
    assert obj["metadata"]["finalizers"] == [names.CELL_FINALIZER]
    assert obj["metadata"]["labels"] == {"app": "web", "kip.elotl.co/node": "kip-provider-0"}
    assert obj["spec"] == {
        "nodeName": "kip-provider-0",
        "podName": "web",
        "podNamespace": "shop",
        "podUID": "u-1",
    }


def test_everything_written_to_the_status_is_read_back():
    cell = filled(fresh())
    obj = new_cell_object(POD)
    obj["metadata"] |= {"uid": "c-1", "resourceVersion": "7", "creationTimestamp": "2026-05-04T11:59:00Z"}
    assert Cell.from_object({**obj, "status": cell.status()}) == cell


def test_an_unknown_field_is_written_as_null_so_that_a_merge_patch_removes_the_old_one():
    status = filled(fresh()).given_up(now=NOW, reason="CellUnreachable", message="no answer").status()
    for key in ("instanceID", "ip", "podIP", "hostKey", "launch", "zone"):
        assert status[key] is None


def test_the_phase_follows_the_life_of_a_cell():
    cell = fresh()
    seen = [cell.phase]
    cell = replace(cell, intent=filled(fresh()).intent)
    seen.append(cell.phase)
    cell = cell.set(LAUNCHED, "True", "Launched", "", now=NOW)
    seen.append(cell.phase)
    cell = replace(cell, host_key="ssh-ed25519 AAAA").set(CONNECTED, "True", "Connected", "", now=NOW)
    seen.append(cell.phase)
    cell = cell.set(SERVING, "True", "KubeletConnected", "", now=NOW)
    seen.append(cell.phase)
    assert cell.conditions.is_true(READY)
    cell = cell.set(DRAINED, "True", "PodFinished", "", now=NOW)
    seen.append(cell.phase)
    assert not cell.conditions.is_true(READY)
    seen.append(cell.set(TERMINATED, "Unknown", "PodFinished", "", now=NOW).phase)
    assert seen == ["Pending", "Launching", "Booting", "Starting", "Running", "Draining", "Terminating"]


def test_a_launch_that_was_refused_shows_as_failed_with_its_reason_in_ready():
    cell = fresh().set(LAUNCHED, "False", "NotAuthorized", "ec2:RunInstances is not allowed", now=NOW)
    assert cell.phase == "Failed"
    ready = cell.conditions.get(READY)
    assert ready is not None
    assert (ready.status, ready.reason) == ("False", "NotAuthorized")


def test_the_transition_time_moves_only_with_the_status():
    cell = fresh().set(LAUNCHED, "False", "Throttled", "one", now=NOW)
    later = cell.set(LAUNCHED, "False", "QuotaExceeded", "two", now=NOW + timedelta(minutes=1))
    assert later.conditions.since(LAUNCHED) == NOW
    assert later.set(LAUNCHED, "True", "Launched", "", now=NOW + timedelta(minutes=2)).conditions.since(
        LAUNCHED
    ) == NOW + timedelta(minutes=2)


def test_a_machine_given_up_leaves_nothing_of_it_but_the_count():
    cell = filled(fresh()).given_up(now=NOW, reason="CellUnreachable", message="no answer")
    assert (cell.attempt, cell.launches, cell.instance_id, cell.pod_may_run) == (2, 2, None, False)


def test_client_tokens_fit_and_depend_on_everything_that_must_differ():
    one = names.client_token(cells=[("a", 1), ("b", 1)], parameters="p")
    assert len(one) <= 64
    assert one.isascii()
    assert names.client_token(cells=[("b", 1), ("a", 1)], parameters="p") == one
    others = {
        names.client_token(cells=[("a", 2), ("b", 1)], parameters="p"),
        names.client_token(cells=[("a", 1)], parameters="p"),
        names.client_token(cells=[("a", 1), ("b", 1)], parameters="q"),
    }
    assert len(others | {one}) == 4


def test_the_schema_demands_of_an_intent_just_what_reading_it_needs():
    """What the API server lets in must be readable: an unreadable Cell is a machine that nobody looks after."""
    crd = yaml.safe_load((ROOT / "crds" / "cells.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    launch = schema["properties"]["status"]["properties"]["launch"]
    written = filled(fresh()).intent.to_dict()
    assert set(launch["properties"]) == set(written)
    for key in written:
        without = {k: v for k, v in written.items() if k != key}
        if key in launch["required"]:
            with pytest.raises(KeyError):
                Intent.from_dict(without)
        else:
            assert Intent.from_dict(without)


def test_when_it_was_launched_and_when_anything_last_changed():
    cell = fresh()
    assert cell.launched_at is None
    assert cell.changed_at == cell.created
    later = cell.created + timedelta(seconds=60)
    asked = cell.set(LAUNCHED, "False", "QuotaExceeded", "no", now=cell.created + timedelta(seconds=5))
    assert asked.launched_at is None
    launched = replace(asked, instance_id="i-1").set(LAUNCHED, "True", "Launched", "", now=later)
    assert launched.launched_at == later
    assert launched.changed_at == later
