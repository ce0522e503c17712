"""What the project as a whole promises: the folder called operator, clean files, links that lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

# Where packages come from is every machine's own business, and so is where a checkout lies. The parts are
# put together here so that this file does not hold what it looks for.
_INDEX = re.compile(
    r"--(?:extra-)?index-url|--find-links|--trusted-host|index-url\s*="
    + r"|https?://[^\s\"')]*(?:py"
    + r"pi\.|/simple/?(?=[\s\"')]|$)|goproxy|artifactory|nexus|mirror)"
    + r"|GOPROXY\s*=\s*http"
)
_MACHINE_PATH = re.compile(r"(?<![\w.~$}/-])/(?:home/(?!ec2-user)\w|Users/\w|work/\w|root/\w)")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def committed(project: Path, *patterns: str) -> list[Path]:
    """The files of the repository that still exist; what an unpacked archive holds where there is no git."""
    if not (project / ".git").exists():
        pytest.skip("not a git checkout: which files belong to the project is not known")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns], cwd=project, capture_output=True, text=True, check=True
    )
    return [project / name for name in listed.stdout.split("\0") if name and (project / name).is_file()]


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        yield from enumerate(path.read_text().splitlines(), 1)
    except UnicodeDecodeError:
        return  # a binary file


def test_the_folder_called_operator_does_not_hide_the_standard_library(project: Path) -> None:
    assert not (project / "operator" / "__init__.py").exists(), (
        "see CONTRIBUTING.md, The folder called operator"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import operator, collections; print(operator.__file__)"],
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(project) not in done.stdout


def test_the_import_name_is_a_link_to_the_folder(project: Path) -> None:
    assert (project / "src" / "kip").readlink() == Path("../operator")


@pytest.mark.parametrize(
    ("kind", "pattern"), [("an index of packages", _INDEX), ("a path of one machine", _MACHINE_PATH)]
)
def test_no_file_names(project: Path, kind: str, pattern: re.Pattern[str]) -> None:
    found = [
        f"{path.relative_to(project)}:{number}: {line.strip()[:120]}"
        for path in committed(project)
        for number, line in text_lines(path)
        if pattern.search(line)
    ]
    assert not found, f"{kind} is in\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("--index-url x", _INDEX),
        ("pip install -i https://py" + "pi.org/simple", _INDEX),
        ("https://mirror.example.com/debian", _INDEX),
        ("cd /work" + "/main", _MACHINE_PATH),
        ("'/home" + "/someone'", _MACHINE_PATH),
    ],
)
def test_what_the_search_finds(text: str, pattern: re.Pattern[str]) -> None:
    assert pattern.search(text)


def test_links_lead_somewhere(project: Path) -> None:
    missing = [
        f"{page.relative_to(project)}:{number}: {target}"
        for page in committed(project, "*.md")
        for number, line in text_lines(page)
        for target in _LINK.findall(line)
        if not re.match(r"https?:|mailto:|#", target)
        and not (page.parent / target.partition("#")[0]).exists()
    ]
    assert not missing, "links to nothing:\n" + "\n".join(missing)


def test_the_chart_installs_the_same_cell_as_the_manifests(project: Path) -> None:
    chart = project / "charts" / "kip" / "crds" / "cells.yaml"
    assert chart.read_text() == (project / "crds" / "cells.yaml").read_text()


def test_cells_are_listed_with_the_columns_that_were_promised(project: Path) -> None:
    definition = yaml.safe_load((project / "crds" / "cells.yaml").read_text())
    (version,) = definition["spec"]["versions"]
    columns = ["Name", *(column["name"] for column in version["additionalPrinterColumns"])]
    promised = "NAME PHASE POD NAMESPACE NODE LAUNCH-TYPE INSTANCE-TYPE INSTANCE-ID IP AGE"
    assert " ".join(columns).upper() == promised


def test_every_target_has_a_line_of_help(project: Path) -> None:
    text = (project / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split()
    assert targets == ["help", "demo", "test", "check", "bench", "clean"]
    for target in targets:
        assert re.search(rf"^{target}: \$\(ENVIRONMENT\) ## \S", text, re.MULTILINE), target
