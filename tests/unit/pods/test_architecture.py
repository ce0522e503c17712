"""What follows from a pod's images for its architecture."""

from __future__ import annotations

import pytest

from kip.pods.architecture import Built, Preference, linux, of_images

AMD, ARM, BOTH = frozenset({"amd64"}), frozenset({"arm64"}), frozenset({"amd64", "arm64"})
UNKNOWN = None


def test_the_architectures_among_platforms() -> None:
    listed = ("linux/amd64", "linux/arm64/v8", "linux/s390x", "windows/amd64", "unknown/unknown", "odd")
    assert linux(listed) == {"amd64", "arm64", "s390x"}


@pytest.mark.parametrize(
    ("images", "usual", "cheapest"),
    [
        ((), None, None),
        ((UNKNOWN,), None, None),
        ((AMD,), AMD, AMD),
        ((ARM,), ARM, ARM),
        ((BOTH,), None, BOTH),
        ((BOTH | {"s390x"}, BOTH), None, BOTH),
        ((BOTH, ARM), ARM, ARM),
        ((BOTH, AMD), AMD, AMD),
        # Of what is not known the usual is to be feared; what certainly fails is worse.
        ((BOTH, UNKNOWN), None, None),
        ((ARM, UNKNOWN), ARM, ARM),
        # No machine can run all of them.
        ((ARM, AMD), frozenset(), frozenset()),
        ((frozenset({"s390x"}),), frozenset(), frozenset()),
    ],
)
def test_all_images_run_on_one_machine(
    images: tuple[frozenset[str] | None, ...],
    usual: frozenset[str] | None,
    cheapest: frozenset[str] | None,
) -> None:
    built = {f"image-{number}": Built(known, "away") for number, known in enumerate(images)}
    preferences: dict[Preference, frozenset[str] | None] = {"amd64": usual, "cheapest": cheapest}
    for preference, expected in preferences.items():
        assert of_images(built, preference).architectures == expected


def test_what_people_are_told() -> None:
    assert of_images({"web": Built(AMD)}).told == ""
    assert of_images({"web": Built(ARM)}).told == "the pod's images are built for arm64"
    assert of_images({"web": Built(BOTH), "side": Built(None, "no such image")}).told == (
        "it is not known what side is built for (no such image)"
    )
