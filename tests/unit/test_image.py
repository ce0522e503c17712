"""The Dockerfile and what it is given."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path


def locked(path: Path) -> dict[str, str]:
    """What is pinned, by package: everything from its name on, hashes included, markers and comments not."""
    entries = re.split(r"^(?=[a-z0-9])", path.read_text(), flags=re.MULTILINE)[1:]
    without_comments = (re.sub(r"^ *#.*\n", "", entry, flags=re.MULTILINE) for entry in entries)
    return {entry.partition("==")[0]: re.sub(r" ;[^\\]*", " ", entry) for entry in without_comments}


def test_the_image_gets_what_the_tests_run_with_less_what_only_they_need(project: Path) -> None:
    everything, image = locked(project / "requirements.lock"), locked(project / "requirements-runtime.lock")
    for name, entry in image.items():
        assert entry == everything[name], f"{name}: make requirements-runtime.lock anew, see CONTRIBUTING.md"
        assert "--hash=sha256:" in entry
    declared = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    names = (re.split(r"[<>=\[; ]", text)[0] for text in declared["dependencies"])
    wanted = {re.sub(r"[-_.]+", "-", name).lower() for name in names}
    assert wanted <= image.keys()
    assert not {"moto", "pytest", "uv"} & image.keys()


def test_the_base_is_pinned_by_digest_and_can_be_chosen(project: Path) -> None:
    dockerfile = (project / "Dockerfile").read_text()
    [base] = re.findall(r"^ARG BASE=(.*)$", dockerfile, re.MULTILINE)
    assert re.fullmatch(r"docker\.io/library/debian:bookworm-slim@sha256:[0-9a-f]{64}", base)
    stages = re.findall(r"^FROM (\S+)(?: AS (\w+))?$", dockerfile, re.MULTILINE)
    made = {name for _, name in stages if name}
    assert {source for source, _ in stages} - made == {"${BASE}"}


def test_everything_that_is_copied_is_let_into_the_build(project: Path) -> None:
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.*)$", (project / "Dockerfile").read_text(), re.MULTILINE)
        for name in line.split()[:-1]
    }
    let_in = set(re.findall(r"^!(.*)$", (project / ".dockerignore").read_text(), re.MULTILINE))
    assert copied == let_in
    assert all((project / name).exists() for name in copied)
