"""What the project as a whole promises: the folder called operator, clean files, links that lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

# Where packages come from is every machine's own business.
_INDEX = re.compile(
    r"--(?:extra-)?index-url|--find-links|--trusted-host|index-url\s*="
    r"|https?://[^\s\"')]*(?:pypi\.|/simple/?(?=[\s\"')]|$)|goproxy|artifactory|nexus|mirror)"
    r"|GOPROXY\s*=\s*http"
)
# Somebody's home; ec2-user's is the same on every cell.
_HOME = re.compile(r"(?<![\w.~$}/-])/(?:home/(?!ec2-user)\w|Users/\w)")


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


def findings(project: Path, pattern: re.Pattern[str], *patterns: str) -> list[str]:
    return [
        f"{path.relative_to(project)}:{number}: {line.strip()[:120]}"
        for path in committed(project, *patterns)
        if path != Path(__file__)  # which holds what it looks for
        for number, line in text_lines(path)
        if pattern.search(line)
    ]


def test_no_file_says_where_packages_come_from(project: Path) -> None:
    assert not findings(project, _INDEX)


def test_no_file_knows_this_machine(project: Path) -> None:
    here = re.compile("|".join(re.escape(str(path)) for path in {project, Path(sys.prefix)}))
    assert not findings(project, here)
    # Tests may make homes up.
    assert not findings(project, _HOME, ":!tests")


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("--index-url x", _INDEX),
        ("pip install -i https://pypi.org/simple", _INDEX),
        ("https://mirror.example.com/debian", _INDEX),
        ("'/home/someone'", _HOME),
    ],
)
def test_what_the_search_finds(text: str, pattern: re.Pattern[str]) -> None:
    assert pattern.search(text)


def test_the_chart_installs_the_same_cell_as_the_manifests(project: Path) -> None:
    chart = project / "charts" / "kip" / "files" / "cells.yaml"
    assert chart.read_text() == (project / "crds" / "cells.yaml").read_text()


def test_cells_are_listed_with_the_columns_that_were_promised(project: Path) -> None:
    definition = yaml.safe_load((project / "crds" / "cells.yaml").read_text())
    (version,) = definition["spec"]["versions"]
    columns = version["additionalPrinterColumns"]
    usual = ["Name", *(column["name"] for column in columns if not column.get("priority"))]
    promised = "NAME PHASE POD NAMESPACE NODE LAUNCH-TYPE INSTANCE-TYPE INSTANCE-ID IP AGE"
    assert " ".join(usual).upper() == promised
    wide = [column["name"] for column in columns if column.get("priority")]
    assert wide == ["Zone", "Price", "Launch-Reason"], "only with -o wide"


def test_every_target_has_a_line_of_help(project: Path) -> None:
    text = (project / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split()
    assert targets == ["help", "demo", "test", "check", "docs", "bench", "image", "catalogue", "clean"]
    for target in targets:
        assert re.search(rf"^{target}: \$\(ENVIRONMENT\) ## \S", text, re.MULTILINE), target
