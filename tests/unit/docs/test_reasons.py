"""docs/troubleshooting.md has every reason that Kip writes into events and conditions, and none that it does not."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.docs.pages import Page

from kip.images.errors import CachingError
from kip.kube.errors import Forbidden, Unavailable
from kip.oci.credentials import CredentialError
from kip.pods import eligibility

# Where events and conditions come from.
_FOLDERS = ("cells", "cloud", "imagecache", "images", "kubelet", "node", "oci", "pods", "selection")
_REASON = re.compile(r"[A-Z][a-z0-9]+(?:[A-Z][A-Za-z0-9]*)*")
#: Given as a reason in the code, and why people never meet it.
NOT_MET = {
    "Accepted": "a verdict about a pod that is served",
    "Certificate": "HTTP",
    "CredentialsUnreadable": "in the text of ImageCacheNotUsed",
    "Normal": "the kind of an event",
    "PodDeleted": "told of nobody: the pod is gone",
    "PodFinished": "as above",
    "PodGone": "as above",
    "RegistryError": "the class above those that are raised",
    "StateReason": "a field of EC2's answer",
    "Status": "HTTP",
    "Warning": "the kind of an event",
}
#: Written by Kubernetes, and told of in the page.
OF_KUBERNETES = {"BackOff", "FailedMount", "FailedScheduling", "NodeStatusUnknown", "Pulling"}


class Reasons:
    """The texts that the code gives as a `reason`: as an argument, an attribute or a default."""

    def __init__(self, folder: Path) -> None:
        self._trees = [
            ast.parse(path.read_text()) for name in _FOLDERS for path in (folder / name).rglob("*.py")
        ]
        self._places: dict[str, set[int]] = defaultdict(set)
        self._constants: dict[str, set[str]] = defaultdict(set)
        for node in self._nodes():
            self._note(node)

    def _nodes(self) -> Iterator[ast.AST]:
        for tree in self._trees:
            yield from ast.walk(tree)

    def _note(self, node: ast.AST) -> None:
        """What takes a reason, and at which place; what constants stand for."""
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                self._note_place(name, [a.arg for a in (*node.args.posonlyargs, *node.args.args)])
            case ast.ClassDef(name=name, body=body):
                self._note_place(name, [b.target.id for b in body if isinstance(b, ast.AnnAssign)])
                for b in body:
                    if isinstance(b, ast.FunctionDef) and b.name == "__init__":
                        self._note_place(name, [a.arg for a in b.args.args])
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))) if (
                name.isupper()
            ):
                self._constants[name].add(text)
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict(values=values))
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.Dict(values=values))
            ) if name.isupper():
                self._constants[name].update(v.value for v in values if isinstance(v, ast.Constant))

    def _note_place(self, name: str, parameters: list[str]) -> None:
        if parameters[:1] in (["self"], ["cls"]):
            parameters = parameters[1:]
        if "reason" in parameters:
            self._places[name].add(parameters.index("reason"))

    def found(self) -> set[str]:
        values = [value for node in self._nodes() for value in self._values(node)]
        return {text for value in values for text in self._texts(value) if _REASON.fullmatch(text)}

    def _values(self, node: ast.AST) -> Iterator[ast.AST]:
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args, keywords=keywords):
                yield from (args[place] for place in self._places.get(name, ()) if place < len(args))
                yield from (keyword.value for keyword in keywords if keyword.arg == "reason")
            case ast.Assign(targets=[ast.Name(id="reason")], value=value):
                yield value
            case ast.AnnAssign(target=ast.Name(id="reason"), value=ast.AST() as value):
                yield value
            case ast.FunctionDef(args=args) | ast.AsyncFunctionDef(args=args):
                for argument, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
                    if argument.arg == "reason" and default is not None:
                        yield default

    def _texts(self, value: ast.AST) -> Iterator[str]:
        for node in ast.walk(value):
            match node:
                case ast.Constant(value=str(text)):
                    yield text
                case ast.Name(id=name):
                    yield from self._constants.get(name, ())


@pytest.fixture(scope="module")
def met(project: Path) -> set[str]:
    """The reasons that people meet."""
    # kip.imagecache.caching.reason_of: an error's own name, where it has no reason.
    kinds = [*CachingError.__subclasses__(), CredentialError, Forbidden, Unavailable]
    of_images = {kind.__name__ for kind in kinds}
    return (Reasons(project / "operator").found() - {*NOT_MET}) | {*eligibility._CHECKS} | of_images


def told(page: Path) -> set[str]:
    """The reasons of which a page's tables and texts speak."""
    code = (token.content for _, token in Page(page).inline() if token.type == "code_inline")
    return {
        text for text in code if _REASON.fullmatch(text) and sum(map(str.isupper, text)) > 1
    } | _first_column(page)


def _first_column(page: Path) -> set[str]:
    cells = re.findall(r"^\| ([^|]*) \|", page.read_text(), re.MULTILINE)
    words = {word.strip("`") for cell in cells for word in cell.split(", ")}
    return {word for word in words if _REASON.fullmatch(word)} - {"NODE"}


def test_every_reason_is_in_the_page(project: Path, met: set[str]) -> None:
    docs = project / "docs"
    missing = met - told(docs / "troubleshooting.md") - told(docs / "image-cache.md")
    assert not missing, "docs/troubleshooting.md has to say what to do about: " + ", ".join(sorted(missing))


def test_no_reason_is_in_the_page_that_is_never_written(project: Path, met: set[str]) -> None:
    rows = _first_column(project / "docs" / "troubleshooting.md")
    assert rows
    assert not rows - met - OF_KUBERNETES


def test_what_is_never_met_is_still_in_the_code(project: Path) -> None:
    assert not {*NOT_MET} - Reasons(project / "operator").found()


def test_where_reasons_are_found(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "a.py").write_text(
        "from elsewhere import TAKEN\n"
        "TAKEN = 'RouteTaken'\n"
        "class Broken(Exception):\n    reason = 'WasBroken'\n"
        "class End:\n    cell: str\n    reason: str\n"
        "class No(Exception):\n    def __init__(self, message, *, reason='NoneFits'): ...\n"
        "async def tell(self, pod, reason, message): ...\n"
        "tell(pod, 'CellReady', 'it is')\n"
        "End('x', 'PodLost')\n"
        "No('why', reason=TAKEN if x else 'Odd')\n"
        "_BY_STATE: dict = {'done': 'AllDone'}\n"
        "reason = _BY_STATE[state]\n"
        "print('NotThis')\n"
    )
    assert Reasons(tmp_path).found() == {
        "WasBroken", "NoneFits", "CellReady", "PodLost", "RouteTaken", "Odd", "AllDone",
    }  # fmt: skip
