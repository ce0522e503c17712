"""A store tells every change once, survives stale news, and heals what a lost watch has missed."""

from __future__ import annotations

from kip.kube.store import Store


def obj(uid: str, version: int, **metadata: object) -> dict:
    return {"metadata": {"uid": uid, "name": uid, "resourceVersion": str(version), **metadata}}


def drain(queue) -> list[tuple[str, str, str]]:
    told = []
    while not queue.empty():
        kind, thing = queue.get_nowait()
        told.append((kind, thing["metadata"]["uid"], thing["metadata"]["resourceVersion"]))
    return told


def test_subscribers_hear_of_their_object_and_of_all():
    store = Store()
    with store.subscribe("a") as one, store.subscribe() as everything:
        store.put(obj("a", 1))
        store.put(obj("b", 2))
        store.put(obj("a", 3))
        store.remove(obj("a", 4))
        assert drain(one) == [("ADDED", "a", "1"), ("MODIFIED", "a", "3"), ("DELETED", "a", "4")]
        assert len(drain(everything)) == 4
    store.put(obj("a", 5))
    assert one.empty()


def test_an_older_or_equal_version_changes_nothing():
    store = Store()
    store.put(obj("a", 5))
    with store.subscribe() as queue:
        assert not store.put(obj("a", 5))
        assert not store.put(obj("a", 4))
        assert drain(queue) == []
    assert store.get("a") == obj("a", 5)


def test_a_list_reports_what_vanished_while_nobody_watched():
    store = Store()
    store.put(obj("a", 1))
    store.put(obj("b", 2))
    with store.subscribe() as queue:
        store.replace([obj("b", 2)], "9")
        assert drain(queue) == [("DELETED", "a", "1")]
    assert store.synced
    assert store.resource_version == "9"


def test_a_list_does_not_remove_what_is_newer_than_itself():
    store = Store()
    store.put(obj("new", 12))
    store.replace([], "10")
    assert store.get("new") is not None


def test_the_resource_version_never_goes_back():
    store = Store()
    store.bookmark("20")
    store.put(obj("a", 7))
    store.replace([], "15")
    assert store.resource_version == "20"


def test_versions_are_compared_as_numbers():
    store = Store()
    store.put(obj("a", 9))
    assert store.put(obj("a", 10))
