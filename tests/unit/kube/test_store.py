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


def test_a_list_read_before_a_deletion_does_not_bring_the_object_back():
    """The list was asked for, the deletion was told by the watch, then the list arrived."""
    store = Store()
    store.put(obj("a", 5))
    store.remove(obj("a", 12))
    store.replace([obj("a", 5), obj("b", 6)], "10")
    assert store.get("a") is None
    assert store.get("b") is not None


def test_old_news_of_what_a_list_no_longer_had_does_not_bring_it_back():
    store = Store()
    store.put(obj("a", 5))
    store.replace([], "10")
    assert not store.put(obj("a", 7))
    assert store.get("a") is None


def test_what_is_gone_is_not_remembered_for_ever():
    store = Store()
    for number in range(20_000):
        store.put(obj(f"u{number}", number + 1))
        store.remove(obj(f"u{number}", number + 2))
    assert len(store._removed) <= 10_000
    store.replace([], "30000")
    store.replace([], "30001")
    assert store._removed == {}


def test_of_two_objects_with_one_name_the_newer_is_found():
    """A StatefulSet's pod was replaced, and news of the first one's end is still on its way."""
    store = Store()
    store.put(obj("new", 9, name="db-0", namespace="shop") | {})
    store.put(obj("old", 4, name="db-0", namespace="shop"))
    found = store.find("shop", "db-0")
    assert found is not None
    assert found["metadata"]["uid"] == "new"
    assert store.find("other", "db-0") is None
