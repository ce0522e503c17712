"""Commands in the documents are ones that there are: of kip with its options, of make, values of the chart, files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from tests.unit.docs.pages import Page, pages

from kip import cli

# Between two of them there is one command.
_BETWEEN = re.compile(r"^[|&;()<>]+$|^\$$")
#: Where, which, and whether it stands alone: in a text a command may be mentioned without what it needs.
Told = tuple[str, list[str], bool]
_SHELL = ("", "sh", "bash", "console")
# What stands for something else in the documents: VALUE, $VALUE, VALUE…, …
_PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9_-]*…?|.*[$…].*")
_FOLDERS = re.compile(r"(?:charts|crds|deploy|docs|operator|tests|tools)/[\w./-]*")
#: What tells of former versions, and of what may come.
_HISTORY = {"CHANGELOG.md", "template.md"}


def words(line: str) -> Iterator[list[str]]:
    """The commands of a line of shell, each as its words."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, "#"
    command: list[str] = []
    for word in [*lexer, ";"]:
        if _BETWEEN.match(word):
            yield command
            command = []
        else:
            command.append(word.removeprefix("$(").strip("`"))


def commands(page: Page) -> Iterator[Told]:
    """All of a page, in its blocks and in its text."""
    for block in page.blocks(*_SHELL):
        text = block.text.replace("\\\n", " ")
        lines = text.splitlines()
        if block.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        for line in lines:
            yield from ((str(block), command, True) for command in _split(line))
    for number, token in page.inline():
        if token.type == "code_inline" and re.match(r"(?:\.venv/bin/)?(?:kip|helm|make) ", token.content):
            yield from ((f"{page.path}:{number}", command, False) for command in _split(token.content))


def _split(line: str) -> list[list[str]]:
    try:
        return [*words(line)]
    except ValueError:  # not shell, but what some program prints
        return []


def of(program: str, command: list[str]) -> list[str] | None:
    """The arguments with which a command calls `program`, also by way of another one (`kubectl exec … -- kip …`)."""
    while command and re.fullmatch(r"\w+=\S*", command[0]):
        command = command[1:]
    names = {program, f".venv/bin/{program}"}
    if command and command[0] in names:
        return command[1:]
    if "--" in command and (behind := command[command.index("--") + 1 :]) and behind[0] in names:
        return behind[1:]
    return None


def trouble(arguments: list[str], *, alone: bool) -> str:
    """What is wrong with a call of kip; empty if nothing is."""
    command: click.Command = cli.main
    context = click.Context(command, info_name="kip")
    while isinstance(command, click.Group):
        if not arguments or arguments[0].startswith("-"):
            known = {name for option in command.get_params(context) for name in option.opts}
            return "" if not arguments or arguments[0] in known else f"no option {arguments[0]}"
        if _PLACEHOLDER.fullmatch(arguments[0]):
            return ""
        found = command.get_command(context, arguments[0])
        if found is None:
            return f"kip has no {arguments[0]!r} there"
        command, context = found, click.Context(found, info_name=arguments[0], parent=context)
        arguments = arguments[1:]
    return _parsed(command, context, arguments, alone=alone)


def _parsed(command: click.Command, context: click.Context, arguments: list[str], *, alone: bool) -> str:
    if not alone and arguments and arguments[-1].startswith("--"):
        arguments = [
            *arguments,
            "VALUE",
        ]  # an option that is only mentioned; of a flag it is an argument too many
    try:
        values, rest, _ = command.make_parser(context).parse_args(arguments)
        for parameter in command.get_params(context):
            value = values.get(parameter.name or "")
            if isinstance(parameter.type, click.Choice):
                _choose(parameter, context, value)
            if alone and parameter.required and value in (None, ()) and not parameter.envvar:
                return f"{parameter.human_readable_name} is missing"
    except click.UsageError as error:
        return error.format_message()
    return f"too many arguments: {rest}" if alone and rest else ""


def _choose(parameter: click.Parameter, context: click.Context, value: Any) -> None:
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, str) and not _PLACEHOLDER.fullmatch(one):
            parameter.type.convert(one, parameter, context)


@pytest.fixture(scope="module")
def told(project: Path) -> list[Told]:
    """Every command in every document."""
    return [found for page in pages(project) if page.path.name not in _HISTORY for found in commands(page)]


def test_kip_understands_its_commands(told: list[Told]) -> None:
    calls = [(where, of("kip", command), alone) for where, command, alone in told]
    wrong = [
        f"{where}: kip {shlex.join(arguments)}: {said}"
        for where, arguments, alone in calls
        if arguments is not None and (said := trouble(arguments, alone=alone))
    ]
    assert not wrong, "\n".join(wrong)
    assert sum(arguments is not None for _, arguments, _ in calls) > 50


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("kip choose -f pod.yaml --explain", ""),
        ("kip choose -f pod.yaml --explian", "No such option"),
        ("kip chose -f pod.yaml", "no 'chose'"),
        ("kip choose", "FILES is missing"),
        ("kip top -o yaml", "is not one of"),
        ("kip top -o FORMAT", ""),
        ("kip config check a.yaml b.yaml", "too many"),
        ("kubectl exec x -- kip doctor --in-custer", "No such option"),
        ("kip iam policy --account $ID >policy.json && kip iam turst", "no 'turst'"),
        ("export A=$(kip efs stauts)", "no 'stauts'"),
    ],
)
def test_what_the_check_finds(line: str, said: str) -> None:
    calls = [of("kip", command) for command in words(line)]
    found = [trouble(call, alone=True) for call in calls if call is not None]
    assert found
    assert any(said.lower() in one.lower() if said else not one for one in found), found


def test_the_chart_has_the_values_that_are_set(project: Path, told: list[Told]) -> None:
    values = yaml.safe_load((project / "charts" / "kip" / "values.yaml").read_text())
    keys = [
        (where, pair.partition("=")[0])
        for where, command, _ in told
        if of("helm", command)
        for option, sets in pairwise(command)
        if option in ("--set", "--set-string")
        for pair in re.split(r",(?=[\w.]+=)", sets)
    ]
    assert keys
    wrong = [f"{where}: {key}" for where, key in keys if not has_value(values, key.split("."))]
    assert not wrong, "no values of the chart:\n" + "\n".join(wrong)


def has_value(values: Any, path: list[str]) -> bool:
    """Whether the chart has this value; below `config`, and below what is empty there, all is the user's."""
    if not path or path[0] == "config" or values == {}:
        return True
    return isinstance(values, dict) and path[0] in values and has_value(values[path[0]], path[1:])


def test_make_has_the_targets_and_reads_the_variables(project: Path, told: list[Told]) -> None:
    makefile = (project / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
    asked = [(where, word) for where, command, _ in told for word in of("make", command) or ()]
    assert asked
    wrong = [
        f"{where}: make {word}"
        for where, word in asked
        if (f"$({word.partition('=')[0]}" not in makefile if "=" in word else word not in targets)
    ]
    assert not wrong, "\n".join(wrong)


def test_files_in_commands_are_there(project: Path, told: list[Told]) -> None:
    named = [
        (where, word)
        for where, command, _ in told
        for before, word in pairwise(["", *command])
        # kubectl calls Deployments deploy/NAME.
        if _FOLDERS.fullmatch(word) and (command[0] != "kubectl" or before in ("-f", "-k"))
    ]
    assert named
    assert not [f"{where}: {word}" for where, word in named if not (project / word).exists()]


def test_deploy_sh_reads_the_variables(project: Path) -> None:
    script = (project / "deploy" / "deploy.sh").read_text()
    exported = [
        (str(block), name)
        for page in pages(project)
        for block in page.blocks(*_SHELL)
        if re.search(r"^\s*(?:\S*/)?deploy\.sh\b", block.text, re.MULTILINE)
        for line in block.text.splitlines()
        if line.startswith("export ")
        for name in re.findall(r"\b([A-Z_]+)=", line)
    ]
    assert exported
    assert not [f"{where}: {name}" for where, name in exported if name not in script]
