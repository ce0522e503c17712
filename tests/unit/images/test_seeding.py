"""Which images and layers a cell gets from the cache, and what people are told of the rest."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from kip.images import format as layout
from kip.images import seeding
from kip.images.format import Image, Layer, Trailer
from kip.images.look import Look
from kip.images.seeding import Decision, Plan
from kip.oci import manifest as oci
from kip.oci.access import Access
from kip.oci.manifest import Manifest
from kip.oci.reference import Reference, parse

AMD = "linux/amd64"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
WEB = parse("registry.test/web:1")


def digest(of: object) -> str:
    return oci.digest_of(repr(of).encode())


def image(*layers: str, dependent: str = "") -> Image:
    """Of layers by name; the file of `dependent` is of use on those below it alone."""
    diff_ids = [digest(name) for name in layers]
    chain = layout.chain_ids(diff_ids)
    described = tuple(
        Layer(diff_id, digest(f"blob of {name}"), 1_000_000, chain_id if name == dependent else "")
        for name, diff_id, chain_id in zip(layers, diff_ids, chain, strict=True)
    )
    config = json.dumps({"rootfs": {"diff_ids": diff_ids}})
    manifest = json.dumps(
        {
            "config": {"digest": oci.digest_of(config.encode())},
            "layers": [{"digest": layer.digest, "size": layer.blob_bytes} for layer in described],
        }
    )
    return Image(
        oci.digest_of(manifest.encode()), manifest, oci.OCI_MANIFEST, config, described, AMD, NOW, "test"
    )


def trailer(diff_id: str, chain_id: str = "") -> Trailer:
    return Trailer(diff_id, 1, 4096, 4096, "a" * 64, "b" * 64, "c" * 64, chain_id=chain_id)


def volume(*images: Image, without: str = "", broken: str = "", present: tuple[str, ...] = ()) -> Look:
    """What is read of a volume on which these images are; `without` and `broken` are names of layers."""
    files = {layout.image_path(each.digest).name: each.to_bytes() for each in images}
    found = {layer.file_id: layer for each in images for layer in each.layers}
    bad = {digest(broken): "cut short"} if broken else {}
    return Look(
        AMD,
        frozenset(present),
        files,
        {
            file_id: trailer(layer.diff_id, layer.chain_id)
            for file_id, layer in found.items()
            if file_id not in {digest(without), *bad}
        },
        bad,
    )


def indexed(look: Look, *led: tuple[Reference, str, Mapping[str, str]]) -> Look:
    """With files about references: what each led to, and its images."""
    files = {
        layout.reference_path(str(reference)).name: layout.Reference(
            str(reference), top, platforms, NOW
        ).to_bytes()
        for reference, top, platforms in led
    }
    return replace(look, files={**look.files, **files})


def chosen(look: Look, access: Access | None, *references: Reference) -> tuple[Decision, ...]:
    answers = {str(reference): access for reference in references or (WEB,) if access}
    return seeding.choose(references or (WEB,), answers, look)


def planned(found: Image, look: Look) -> Plan:
    look = indexed(look, (WEB, found.digest, {AMD: found.digest}))
    return seeding.plan(chosen(look, Access(found.digest)), {}, {}, look)


def all_done(plan: Plan) -> str:
    lines = [f"snapshot {each.chain_id}" for each in plan.snapshots]
    return "\n".join([*lines, *(f"import {each.chain_id}" for each in plan.imports)])


def archived(plan: Plan) -> dict[str, bytes]:
    [found] = plan.imports
    with tarfile.open(fileobj=io.BytesIO(found.archive)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar.getmembers()}  # type: ignore[union-attr]


# Which images are looked at.


def test_an_image_that_the_registry_still_gives_for_its_name_is_looked_at() -> None:
    web = image("a")
    look = indexed(Look(AMD, frozenset()), (WEB, "sha256:" + "1" * 64, {AMD: web.digest}))
    [decision] = chosen(look, Access("sha256:" + "1" * 64))
    assert (decision.digest, decision.top) == (web.digest, "sha256:" + "1" * 64)


@pytest.mark.parametrize(
    ("access", "outcome", "told"),
    [
        (None, "late", "has not said in time"),
        (Access(reason="ImageDenied", message="no such user"), "denied", "ImageDenied: no such user"),
    ],
)
def test_an_image_that_the_pod_may_not_pull_is_not_looked_at(
    access: Access | None, outcome: str, told: str
) -> None:
    look = indexed(Look(AMD, frozenset()), (WEB, digest("top"), {AMD: digest("web")}))
    [decision] = chosen(look, access)
    assert (decision.digest, decision.outcome) == ("", outcome)
    assert told in str(decision)


def test_what_is_not_in_the_cache_is_no_matter_of_access() -> None:
    [decision] = chosen(Look(AMD, frozenset()), Access(reason="ImageDenied"))
    assert decision.outcome == "missing"


def test_what_the_machine_has_is_left_alone() -> None:
    look = indexed(Look(AMD, frozenset({str(WEB)})), (WEB, digest("top"), {AMD: digest("web")}))
    assert chosen(look, Access(digest("top")))[0].outcome == "present"


def test_an_image_for_other_machines_is_none() -> None:
    look = indexed(Look("linux/arm64", frozenset()), (WEB, digest("top"), {AMD: digest("web")}))
    [decision] = chosen(look, Access(digest("top")))
    assert (decision.digest, decision.message) == ("", "not in the cache for linux/arm64")


def test_a_tag_that_has_moved_leads_where_the_registry_says() -> None:
    look = indexed(Look(AMD, frozenset()), (WEB, digest("old"), {AMD: digest("web")}))
    [decision] = chosen(look, Access(digest("new")))
    assert (decision.moved, decision.digest, decision.top) == (True, "", digest("new"))


def test_a_file_about_another_reference_is_not_believed() -> None:
    other = layout.Reference("registry.test/other:1", digest("top"), {}, NOW)
    look = Look(AMD, frozenset(), {layout.reference_path(str(WEB)).name: other.to_bytes()})
    assert chosen(look, Access(digest("top")))[0].outcome == "broken"


# Which layers are used.


def test_every_layer_becomes_a_snapshot_on_the_one_below() -> None:
    web = image("a", "b", "c")
    plan = planned(web, volume(web))
    assert [each.chain_id for each in plan.snapshots] == list(web.chain)
    assert [each.parent for each in plan.snapshots] == ["", *web.chain[:2]]
    assert plan.decisions[0].message == "all 3 layers from the cache, 3.0 MB not downloaded"
    assert seeding.results(plan, all_done(plan)) == plan.decisions


def test_layers_are_used_from_the_bottom_up_until_one_is_missing() -> None:
    web = image("a", "b", "c")
    plan = planned(web, volume(web, without="b"))
    assert [each.chain_id for each in plan.snapshots] == [web.chain[0]]
    assert plan.imports == ()
    [decision] = plan.decisions
    assert decision.outcome == "partly"
    assert decision.message.startswith("1 of 3 layers from the cache, 1.0 MB not downloaded; layer ")


def test_a_layer_that_is_cut_short_is_named() -> None:
    web = image("a", "b")
    [decision] = planned(web, volume(web, broken="a")).decisions
    assert decision.outcome == "broken"
    assert f"layer {web.layers[0].digest} is broken: cut short" in decision.message


def test_a_file_of_an_image_with_a_wrong_digest_is_refused_and_reported() -> None:
    web = image("a")
    look = volume(web)
    name = layout.image_path(web.digest).name
    forged = replace(
        look, files={name: look.files[name].replace(b"blob", b"blub")} | {name: image("x").to_bytes()}
    )
    [decision] = planned(web, forged).decisions
    assert decision.outcome == "broken"
    assert "expected " + web.digest in decision.message
    assert planned(web, forged).orders() == b""


def test_a_file_that_depends_on_the_layers_below_has_their_chain_in_its_name() -> None:
    web = image("a", "b", dependent="b")
    plan = planned(web, volume(web))
    assert [each.file_id for each in plan.snapshots] == [web.layers[0].diff_id, web.chain[1]]


def test_a_file_that_depends_on_nothing_below_is_not_used_on_other_layers() -> None:
    """The lowest layer's ChainID is its diffID, by which files of layers are called that serve anywhere."""
    lowest, above = image("b", dependent="b"), image("a", "b")
    plan = planned(above, replace(volume(above, lowest), files=volume(above).files))
    assert [each.file_id for each in plan.snapshots] == [above.layers[0].diff_id]
    assert plan.decisions[0].outcome == "partly"


def test_containers_share_layers() -> None:
    other = parse("registry.test/other:1")
    web, second = image("a", "b"), image("a", "c")
    look = volume(web, second)
    look = indexed(look, (WEB, web.digest, {AMD: web.digest}), (other, second.digest, {AMD: second.digest}))
    decisions = seeding.choose(
        (WEB, other), {str(WEB): Access(web.digest), str(other): Access(second.digest)}, look
    )
    plan = seeding.plan(decisions, {}, {}, look)
    assert len(plan.layers) == 3
    assert [each.chain_id for each in plan.snapshots] == [*web.chain, second.chain[1]]
    assert len(plan.imports) == 2


def test_the_same_layer_twice_in_an_image_is_mounted_twice() -> None:
    web = image("a", "b", "a")
    plan = planned(web, volume(web))
    digits = web.layers[0].diff_id[7:]
    assert [each.mount_id for each in plan.snapshots] == [digits, web.layers[1].diff_id[7:], f"{digits}.2"]
    assert {*plan.layers} == {each.mount_id for each in plan.snapshots}


def test_of_a_moved_tag_the_layers_that_are_there_are_used() -> None:
    old, new = image("a", "b"), image("a", "c")
    look = volume(old)
    decision = Decision(
        WEB, "missing", "moved", digest=new.digest, top=new.digest, moved=True, before=old.digest
    )
    plan = seeding.plan((decision,), {new.digest: new}, {}, look)
    assert [each.chain_id for each in plan.snapshots] == [new.chain[0]]
    assert "whose tag has moved" in plan.decisions[0].message
    assert str(layout.layer_path(new.chain[1])) in seeding.layer_paths([new])


@pytest.mark.parametrize("known", [True, False])
def test_of_a_moved_tag_no_layer_is_used_that_its_repository_only_names(known: bool) -> None:
    """Whoever may push an image may write any digests into it."""
    own, private, hostile = image("a"), image("a", "b"), image("a", "b")
    hostile = replace(hostile, layers=(hostile.layers[0], replace(hostile.layers[1], digest=digest("mine"))))
    for moved in (hostile, private):
        decision = Decision(
            WEB, "missing", "moved", moved.digest, moved.digest, moved=True, before=own.digest
        )
        look = volume(own, private) if known else volume(private)
        plan = seeding.plan((decision,), {moved.digest: moved}, {}, look)
        assert [each.chain_id for each in plan.snapshots] == list(moved.chain[:1] if known else ())
        assert not plan.imports


# What is imported.


def test_an_image_is_imported_under_its_name_and_its_digest() -> None:
    web = image("a")
    found = archived(planned(web, volume(web)))
    entries = json.loads(found["index.json"])["manifests"]
    assert [entry["annotations"]["io.containerd.image.name"] for entry in entries] == [
        str(WEB),
        f"registry.test/web@{web.digest}",
    ]
    assert {entry["digest"] for entry in entries} == {web.digest}
    assert found[f"blobs/{web.digest.replace(':', '/')}"].decode() == web.manifest


def test_an_image_of_an_index_is_called_as_the_index() -> None:
    web = image("a")
    index = Manifest(digest("index"), oci.OCI_INDEX, b"index")
    index = replace(index, digest=oci.digest_of(index.content))
    look = indexed(volume(web), (WEB, index.digest, {AMD: web.digest}))
    plan = seeding.plan(chosen(look, Access(index.digest)), {}, {index.digest: index}, look)
    found = archived(plan)
    entries = json.loads(found["index.json"])["manifests"]
    assert {entry["digest"] for entry in entries} == {index.digest}
    assert entries[1]["annotations"]["io.containerd.image.name"] == f"registry.test/web@{index.digest}"
    assert found[f"blobs/{index.digest.replace(':', '/')}"] == b"index"


def test_orders_are_lines_that_a_shell_reads() -> None:
    web = image("a", "b")
    lines = planned(web, volume(web)).orders().decode().splitlines()
    assert [line.split()[0] for line in lines] == ["layer", "layer", "snapshot", "snapshot", "import"]
    assert lines[0] == f"layer {web.layers[0].diff_id[7:]} 4096 {'a' * 64} {'b' * 64}"
    assert lines[2] == f"snapshot {web.chain[0]} - {web.layers[0].diff_id[7:]}"
    assert base64.b64decode(lines[4].split()[2]).startswith(b"oci-layout")


# What became of it.


def test_a_layer_that_cannot_be_mounted_leaves_those_below_it() -> None:
    web = image("a", "b", "c")
    plan = planned(web, volume(web))
    said = f"snapshot {web.chain[0]}\nfailed {web.layers[1].diff_id[7:]} wrong fs type"
    [decision] = seeding.results(plan, said)
    assert (decision.outcome, decision.chain) == ("partly", web.chain[:1])
    assert decision.message == "1 of 3 layers from the cache, 1.0 MB not downloaded; then: wrong fs type"


def test_what_was_not_done_in_time_is_late() -> None:
    web = image("a")
    [decision] = seeding.results(planned(web, volume(web)), "failed seeding not done after 2 s")
    assert (decision.outcome, decision.message, decision.saved_bytes) == ("late", "not done after 2 s", 0)


def test_an_image_that_cannot_be_imported_has_its_layers_all_the_same() -> None:
    web = image("a")
    plan = planned(web, volume(web))
    [decision] = seeding.results(plan, f"snapshot {web.chain[0]}\nfailed {web.chain[0]} ctr: refused")
    assert (decision.outcome, decision.chain) == ("partly", web.chain)
    assert "ctr: refused" in decision.message
