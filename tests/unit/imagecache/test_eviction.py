"""Whatever is cached and used: nothing that is needed goes, and what goes says why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from kip.imagecache.eviction import GRACE, SHORT_GRACE, CachedImage, Limits, Plan, Use, plan
from kip.images.volume import LayerFile

NOW = datetime(2026, 6, 1, tzinfo=UTC)
LAYERS = [f"layer{number}" for number in range(8)]
DIGESTS = [f"image{number}" for number in range(6)]


def ago(**time: float) -> datetime:
    return NOW - timedelta(**time)


def image(
    digest: str, *layers: str, used: datetime = NOW, roots: frozenset[str] = frozenset()
) -> CachedImage:
    return CachedImage(digest, frozenset(layers), used, roots)


def layer(file_id: str, size: int = 10, modified: datetime | None = None) -> LayerFile:
    return LayerFile(file_id, size, modified or ago(days=2))


def gone(decided: Plan) -> set[str]:
    return {removal.what for removal in decided.images}


def deleted(decided: Plan) -> set[str]:
    return {removal.what for removal in decided.layers}


def decide(
    images: list[CachedImage],
    layers: list[LayerFile],
    use: Use | None = None,
    *,
    free: int = 10**9,
    **limits: object,
) -> Plan:
    return plan(images, layers, use or Use(), Limits(**limits), free_bytes=free, now=NOW)  # type: ignore[arg-type]


def test_without_limits_everything_stays() -> None:
    decided = decide([image("a", "1", used=ago(days=900))], [layer("1")])
    assert decided == Plan()


def test_the_least_recently_used_go_until_it_is_enough() -> None:
    images = [image("old", "1", used=ago(days=3)), image("older", "2", used=ago(days=4)), image("new", "3")]
    decided = decide(images, [layer(each) for each in "123"], max_bytes=25)
    assert gone(decided) == {"older"}
    assert "too much" in decided.images[0].why
    assert not decided.layers, "they go when nobody can be about to mount them"
    assert gone(decide(images, [layer(each) for each in "123"], max_bytes=15)) == {"old", "older"}


def test_an_image_that_sets_nothing_free_stays() -> None:
    images = [
        image("thin", "base", used=ago(days=9)),
        image("old", "base", "1", used=ago(days=8)),
        image("new", "base"),
    ]
    decided = decide(images, [layer("base"), layer("1")], max_bytes=15)
    assert gone(decided) == {"old"}
    assert decided.images[0].bytes == 10


def test_what_was_not_used_for_long_goes() -> None:
    images = [image("a", "1", used=ago(days=31)), image("b", "2", used=ago(days=29))]
    decided = decide(images, [layer("1"), layer("2")], keep_unused=timedelta(days=30))
    assert gone(decided) == {"a"}
    assert "2026-05-01" in decided.images[0].why


def test_what_is_in_use_stays_and_it_is_said_that_space_is_short() -> None:
    images = [
        image("held", "1", used=ago(days=99)),
        image("by-its-index", "2", used=ago(days=99), roots=frozenset({"index"})),
        image("wanted", "3", used=ago(days=99)),
    ]
    use = Use({"held": "cell-1", "index": "cell-2"}, frozenset({"wanted"}))
    decided = decide(images, [layer(each) for each in "123"], use, max_bytes=1, keep_unused=timedelta(days=1))
    assert not decided.images
    assert "in use" in decided.short


def test_a_layer_that_nobody_needs_goes_after_its_time() -> None:
    layers = [layer("1", modified=ago(hours=2)), layer("2", modified=ago(minutes=20)), layer("3")]
    images = [image("a", "3")]
    assert deleted(decide(images, layers)) == {"1"}
    assert deleted(decide(images, layers, free=0, min_free_bytes=1)) == {"1", "2"}, (
        "sooner when space is short"
    )


def test_a_cell_with_an_image_that_is_not_known_stops_the_deletion_of_layers() -> None:
    decided = decide([], [layer("1")], Use({"unknown": "cell-7"}))
    assert not decided.layers
    assert "cell-7" in decided.blocked


def test_orphans_are_counted_before_images_are_evicted() -> None:
    decided = decide([image("a", "1")], [layer("1", 10), layer("orphan", 50)], free=0, min_free_bytes=40)
    assert not decided.images, "the orphan's bytes are enough"
    assert deleted(decided) == {"orphan"}


moments = st.integers(0, 100).map(lambda hours: ago(hours=hours))
images_there = st.lists(
    st.builds(
        CachedImage,
        digest=st.sampled_from(DIGESTS),
        layers=st.frozensets(st.sampled_from(LAYERS)),
        last_used=moments,
        roots=st.frozensets(st.sampled_from(["index0", "index1"]), max_size=1),
    ),
    unique_by=lambda each: each.digest,
)
layers_there = st.lists(
    st.builds(LayerFile, st.sampled_from(LAYERS), st.integers(1, 100), moments),
    unique_by=lambda each: each.file_id,
)
uses = st.builds(
    Use,
    held=st.dictionaries(
        st.sampled_from([*DIGESTS, "index0", "index1", "unknown"]), st.just("cell"), max_size=3
    ),
    wanted=st.frozensets(st.sampled_from(DIGESTS), max_size=2),
)
limits_set = st.builds(
    Limits,
    max_bytes=st.none() | st.integers(0, 300),
    min_free_bytes=st.integers(0, 300),
    keep_unused=st.none() | st.integers(0, 100).map(lambda hours: timedelta(hours=hours)),
)


@given(images_there, layers_there, uses, limits_set, st.integers(0, 300))
def test_never_what_is_needed(
    images: list[CachedImage], layers: list[LayerFile], use: Use, limits: Limits, free: int
) -> None:
    decided = plan(images, layers, use, limits, free_bytes=free, now=NOW)
    there = {each.digest: each for each in images}
    for removal in decided.images:
        evicted = there[removal.what]
        assert removal.why
        assert not ({evicted.digest, *evicted.roots} & use.held.keys())
        assert evicted.digest not in use.wanted
    # Not even the layers of what goes now: a cell may have looked it up a moment ago.
    needed = {layer for each in images for layer in each.layers}
    assert not deleted(decided) & needed
    known = {name for each in images for name in (each.digest, *each.roots)}
    if use.held.keys() - known:
        assert not decided.layers
        assert decided.blocked
    ages = {each.file_id: NOW - each.modified for each in layers}
    assert all(ages[file_id] > SHORT_GRACE for file_id in deleted(decided))
    if free >= limits.min_free_bytes and limits.max_bytes is None:
        assert all(ages[file_id] > GRACE for file_id in deleted(decided))


@given(images_there, layers_there, uses, st.integers(1, 300))
def test_it_is_enough_or_says_that_it_is_not(
    images: list[CachedImage], layers: list[LayerFile], use: Use, most: int
) -> None:
    decided = plan(images, layers, use, Limits(max_bytes=most), free_bytes=10**9, now=NOW)
    sizes = {each.file_id: each.file_bytes for each in layers}
    needed = {layer for each in images if each.digest not in gone(decided) for layer in each.layers}
    left = sum(sizes.get(each, 0) for each in needed)
    assert left <= most or decided.short
    if not decided.images:
        return
    # Nothing goes without need: were any one of them left, it would be too much, or nothing would be gained by it.
    assert all(removal.bytes >= 0 for removal in decided.images)
    assert sum(removal.bytes for removal in decided.images) > 0
