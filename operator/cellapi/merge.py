"""Strategic merge patches, as far as kubelets send them for a Node.

The rules are those of apimachinery's `strategicpatch`. What distinguishes them from a plain merge patch is in the
types: a few lists are merged by a key, all others are replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kip.cellapi.problem import invalid

Path = tuple[str, ...]

# core/v1 Node: the lists with patchStrategy=merge, and their patchMergeKey.
_MERGED_BY: Mapping[Path, str] = {
    ("metadata", "ownerReferences"): "uid",
    ("status", "addresses"): "type",
    ("status", "conditions"): "type",
}
_MERGED_SETS: frozenset[Path] = frozenset({("metadata", "finalizers")})

_ORDER = "$setElementOrder/"
_DELETE_PRIMITIVE = "$deleteFromPrimitiveList/"
_RETAIN_KEYS = "$retainKeys"
_DIRECTIVE = "$patch"


def strategic_merge(original: Mapping[str, Any], patch: Mapping[str, Any], path: Path = ()) -> dict[str, Any]:
    """The original with the patch applied; neither is changed. Raises Problem (422) for a malformed patch."""
    match patch.get(_DIRECTIVE):
        case None | "merge":
            merged = dict(original)
        case "replace":
            return {key: value for key, value in patch.items() if not key.startswith("$")}
        case "delete":
            return {}
        case other:
            raise invalid(f"{_at(path)}: $patch cannot be {other!r}")
    if _RETAIN_KEYS in patch:
        retained = _list(patch[_RETAIN_KEYS], path)
        merged = {key: value for key, value in merged.items() if key in retained}
    for key, value in patch.items():
        if key.startswith(_DELETE_PRIMITIVE):
            name = key.removeprefix(_DELETE_PRIMITIVE)
            gone = _list(value, (*path, name))
            merged[name] = [item for item in _list(merged.get(name) or [], (*path, name)) if item not in gone]
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge_value(merged.get(key), value, patch.get(_ORDER + key), (*path, key))
    _apply_bare_orders(merged, patch, path)
    return merged


def _merge_value(known: Any, value: Any, order: Any, path: Path) -> Any:
    if isinstance(value, Mapping):
        return strategic_merge(known if isinstance(known, Mapping) else {}, value, path)
    if path in _MERGED_BY:
        merged = _merge_list(known or [], _list(value, path), _MERGED_BY[path], path)
        return _in_order(merged, order, _MERGED_BY[path])
    if path in _MERGED_SETS:
        known = _list(known or [], path)
        return [*known, *(item for item in _list(value, path) if item not in known)]
    return value


def _merge_list(known: Any, changes: list[Any], key: str, path: Path) -> list[dict[str, Any]]:
    if any(isinstance(change, Mapping) and change.get(_DIRECTIVE) == "replace" for change in changes):
        # One element that consists of the directive: the others are the whole new list.
        return _keyed([change for change in changes if _DIRECTIVE not in change], key, path)
    merged = {element[key]: element for element in _keyed(known, key, path)}
    for change in _keyed(changes, key, path):
        if change.get(_DIRECTIVE) == "delete":
            merged.pop(change[key], None)
        else:
            merged[change[key]] = strategic_merge(merged.get(change[key], {}), change, path)
    return list(merged.values())


def _apply_bare_orders(merged: dict[str, Any], patch: Mapping[str, Any], path: Path) -> None:
    """An order without changes to the elements: they were only moved, or the rest was deleted by other means."""
    for directive, order in patch.items():
        name = directive.removeprefix(_ORDER)
        key = _MERGED_BY.get((*path, name))
        if directive.startswith(_ORDER) and key and name not in patch and name in merged:
            merged[name] = _in_order(_keyed(merged[name], key, (*path, name)), order, key)


def _in_order(elements: list[dict[str, Any]], order: Any, key: str) -> list[dict[str, Any]]:
    if not isinstance(order, list):
        return elements
    position = {
        entry[key]: place
        for place, entry in enumerate(order)
        if isinstance(entry, Mapping) and isinstance(entry.get(key), str)
    }
    return sorted(elements, key=lambda element: position.get(element[key], len(position)))


def _keyed(value: Any, key: str, path: Path) -> list[dict[str, Any]]:
    """A list whose elements are told apart by `key`. What was there before is looked at too: a patch may have
    replaced it by anything."""
    elements = _list(value, path)
    if not all(isinstance(element, dict) and isinstance(element.get(key), str) for element in elements):
        raise invalid(f"{_at(path)}: expected a list of objects that each have a {key!r}")
    return elements


def _list(value: Any, path: Path) -> list[Any]:
    if not isinstance(value, list):
        raise invalid(f"{_at(path)}: expected a list")
    return value


def _at(path: Path) -> str:
    return ".".join(path) or "the patch"
