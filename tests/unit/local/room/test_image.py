"""The machine image: what it is made of, and when it is made anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kip.local.room.ami import Sources, digest, prepare, system_accounts
from kip.local.room.debs import missing_packages, to_install
from kip.local.world import WorldError


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    binaries = {}
    for name in ("containerd", "containerd-shim-runc-v2", "ctr", "kubelet", "mount.nfs4"):
        binaries[name] = tmp_path / name
        binaries[name].write_text(name)
    return Sources(binaries, images={})


def test_the_same_ingredients_are_the_same_image(sources):
    assert digest(sources) == digest(sources)


def test_another_binary_or_image_is_another_image(sources, tmp_path):
    before = digest(sources)
    archive = tmp_path / "image.tar"
    archive.write_text("tar")
    with_image = digest(replace(sources, images={"a:1": archive}))
    sources.binaries["kubelet"].write_text("newer kubelet")
    assert len({before, with_image, digest(sources)}) == 3


def test_a_missing_binary_is_named(sources, tmp_path):
    incomplete = replace(sources, binaries={"ctr": sources.binaries["ctr"]})
    with pytest.raises(WorldError, match="needs containerd, containerd-shim-runc-v2, kubelet"):
        prepare(tmp_path / "ami", incomplete)


def test_people_of_the_host_have_no_account_on_a_machine():
    passwd = (
        "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nnobody:x:65534:65534::/:\n+::::\n"
    )
    assert [line.split(":")[0] for line in system_accounts(passwd)] == ["root", "nobody"]


def test_a_simulated_installation_says_which_packages_are_missing():
    text = "Reading…\nInst libwrap0 (7.6 Debian:12 [amd64])\nInst openssh-server (1:9.2 Debian:12 [amd64])\nConf x\n"
    assert to_install(text) == ["libwrap0", "openssh-server"]


def test_a_program_found_anywhere_on_the_systems_path_is_not_missing():
    assert missing_packages({"/sbin/of/no/host/sh": "dash", "/usr/bin/of-no-host": "none"}) == ["none"]
