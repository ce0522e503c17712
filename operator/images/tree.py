"""What a layer's directory is after each entry of its tar: containerd's rules, without a file system.

The norm is containerd's pkg/archive/tar.go (`applyNaive`) with `OverlayConvertWhiteout`: what comes later counts, a
directory keeps what is in it, paths are resolved below the layer's root, missing parents are made. A program that makes a
squashfs from a tar can do none of that, so it gets each file once, under its final name.

Memory: some 300 bytes per entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from kip.images.errors import LayerRefused
from kip.images.tarheader import DIRECTORY, FILE, LINK, SYMLINK, Entry, shown

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
_CAPABILITY = b"security.capability"
# POSIX ACLs are attributes of their own kind, which squashfs has no room for.
_ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")
_KEPT = (b"user.", b"security.")
_LATEST = (1 << 32) - 1
# As many symbolic links containerd follows in a path (continuity's fs.RootPath).
_LINKS = 255
_STEPS = 4096  # through a path's parts and those of its links: each costs as many as there are above it
# Bytes that Linux takes: NAME_MAX, and PATH_MAX without the zero at the end.
_LONGEST_NAME, _LONGEST_PATH = 255, 4095
_ENTRY = 300  # bytes besides names and attributes


@dataclass(slots=True)
class Attributes:
    """Of an inode. Two are equal if nobody could tell their files apart but by the content."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Directory:
    """A directory of the layer."""

    children: dict[bytes, Directory | Inode | Whiteout] = field(default_factory=dict)
    attributes: Attributes | None = None
    """None if the layer does not say: then it is as in the layers below, or 0755 and root's."""
    opaque: bool = False


@dataclass(slots=True)
class Whiteout:
    """Something of the layers below is not there any more."""


@dataclass(slots=True, eq=False)
class Inode:
    """Anything else; hard links are the same inode under several names."""

    index: int
    """Of the entry with its content."""
    path: bytes
    """Under which it was written; the first one."""
    kind: bytes
    """The entry's."""
    link: bytes | None
    """A symbolic link's target."""
    attributes: Attributes


class Tree:
    """The layer's directory. `apply` takes the entries in their order and says what can be written of each at once.

    Raises LayerRefused for a layer that containerd would refuse, that squashfs cannot hold, or that is too large for us.
    """

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes` of names and attributes: a blob of some megabytes can have gigabytes of them, since they are all the
        same to a compression."""
        self._most = most_bytes
        self.root = Directory(attributes=Attributes())
        self.stale = False
        """Whether what was written at once has turned out otherwise: then all is to be written anew, by `final`."""
        self._parent: tuple[bytes, bytes, Directory] | None = None
        self._bytes = 0

    def apply(self, index: int, entry: Entry) -> Inode | tuple[bytes, Inode] | None:
        """What the entry adds: an inode, a further name of one, or something that is written at the end."""
        parts = _clean(entry.name)
        if not parts:
            return None  # the root: containerd leaves its own
        self._count(entry, parts)
        where, parent = self._directory(parts[:-1])
        base = parts[-1]
        if base == OPAQUE:
            parent.opaque = True
            return None
        if base.startswith(WHITEOUT):
            self._put(parent, _whited_out(base), Whiteout())
            return None
        path = where + b"/" + base if where else base
        if entry.kind == DIRECTORY:
            self._make_directory(parent, base, entry)
            return None
        if entry.kind == LINK:
            target = self._link(parent, base, entry)
            return (path, target) if target else None
        link = entry.link if entry.kind == SYMLINK else None
        inode = Inode(index, path, entry.kind, link, attributes_of(entry, entry.kind))
        self._put(parent, base, inode)
        return inode

    def _count(self, entry: Entry, parts: list[bytes]) -> None:
        """Refuses what Linux would, and what would take too much memory here."""
        length = sum(map(len, parts)) + len(parts) - 1
        if max(map(len, parts)) > _LONGEST_NAME or max(length, len(entry.link)) > _LONGEST_PATH:
            raise LayerRefused(f"{shown(entry.name[:_LONGEST_NAME])}…: a name that is too long for Linux")
        self._bytes += _ENTRY + 2 * length + len(entry.link)
        self._bytes += sum(len(k) + len(v) for k, v in entry.xattrs.items())
        if self._bytes > self._most:
            raise LayerRefused(
                f"its names and attributes take more than {self._most >> 20} MiB, the share of a conversion"
            )

    def final(self) -> dict[int, tuple[Inode, list[bytes]]]:
        """By entry: the inode that is left of it, and all of its names."""
        found: dict[int, tuple[Inode, list[bytes]]] = {}
        for path, node in self.walk():
            if isinstance(node, Inode):
                found.setdefault(node.index, (node, []))[1].append(path)
        return found

    def walk(self) -> Iterator[tuple[bytes, Directory | Inode | Whiteout]]:
        """Everything below the root, each directory before what is in it, in the order of names."""
        todo: list[tuple[bytes, Directory]] = [(b"", self.root)]
        while todo:
            where, directory = todo.pop()
            for name in sorted(directory.children):
                node = directory.children[name]
                path = where + b"/" + name if where else name
                yield path, node
                if isinstance(node, Directory):
                    todo.append((path, node))

    def implied(self) -> tuple[bytes, ...]:
        """Directories that the layer has something in, without describing them."""
        return tuple(
            path for path, node in self.walk() if isinstance(node, Directory) and node.attributes is None
        )

    def _put(self, parent: Directory, name: bytes, node: Inode | Whiteout) -> None:
        """Puts it there; what was there is gone, with all that was in it."""
        if (old := parent.children.get(name)) is not None:
            self._parent = None
            self.stale = self.stale or _has_inodes(old)
        if isinstance(node, Inode) and node.link is not None:
            self._parent = None
        parent.children[name] = node

    def _make_directory(self, parent: Directory, name: bytes, entry: Entry) -> None:
        attributes = attributes_of(entry, entry.kind)
        old = parent.children.get(name)
        if isinstance(old, Directory):
            if old.attributes is not None:
                attributes.xattrs = {**old.attributes.xattrs, **attributes.xattrs}
            old.attributes = attributes
            return
        if old is not None:
            self._parent = None
            self.stale = self.stale or _has_inodes(old)
        parent.children[name] = Directory(attributes=attributes)

    def _link(self, parent: Directory, name: bytes, entry: Entry) -> Inode | None:
        """The inode that has a new name by it; None for a whiteout, which containerd links as any other device. containerd
        gives it the attributes of the link's header, and the kernel takes capabilities from a file whose owner is set."""
        old = parent.children.pop(name, None)
        self._parent = None
        target = self._target(entry.link)
        if target is None:
            raise LayerRefused(
                f"{shown(entry.name)} is a hard link to {shown(entry.link)}, which is no file of this layer"
            )
        if isinstance(target, Whiteout):
            self.stale = self.stale or (old is not None and _has_inodes(old))
            parent.children[name] = target
            return None
        changed, before = attributes_of(entry, target.kind), target.attributes
        kept = {key: value for key, value in before.xattrs.items() if key != _CAPABILITY}
        changed.xattrs = {**kept, **changed.xattrs}
        if target.link is not None:
            changed.mode = before.mode
        if changed != before:
            self.stale = True
            target.attributes = changed
        if old is not None and old is not target:
            self.stale = self.stale or _has_inodes(old)
        parent.children[name] = target
        return None if old is target else target

    def _target(self, link: bytes) -> Inode | Whiteout | None:
        parts = _clean_target(link)
        directory = self._lookup(parts[:-1]) if parts else None
        node = directory.children.get(parts[-1]) if directory else None
        return None if isinstance(node, Directory) else node

    def _directory(self, parts: list[bytes]) -> tuple[bytes, Directory]:
        """The directory with that path, made if it is missing, and its path without symbolic links."""
        wanted = b"/".join(parts)
        if self._parent and self._parent[0] == wanted:
            return self._parent[1], self._parent[2]
        resolved = resolve(parts, self._symbolic_link)
        if sum(map(len, resolved)) + len(resolved) > _LONGEST_PATH:
            raise LayerRefused(f"{shown(wanted[:_LONGEST_NAME])}…: a path that is too long for Linux")
        directory = self.root
        for depth, part in enumerate(resolved):
            child = directory.children.get(part)
            if child is None:
                child = directory.children[part] = Directory()
                self._bytes += _ENTRY + sum(map(len, resolved[: depth + 1]))
            if not isinstance(child, Directory):
                raise LayerRefused(f"{shown(b'/'.join(resolved[: depth + 1]))} is a file and a directory")
            directory = child
        where = b"/".join(resolved)
        self._parent = wanted, where, directory
        return where, directory

    def _lookup(self, parts: list[bytes]) -> Directory | None:
        directory = self.root
        for part in resolve(parts, self._symbolic_link):
            child = directory.children.get(part)
            if not isinstance(child, Directory):
                return None
            directory = child
        return directory

    def _symbolic_link(self, parts: list[bytes]) -> bytes | None:
        directory = self.root
        for part in parts[:-1]:
            child = directory.children.get(part)
            if not isinstance(child, Directory):
                return None
            directory = child
        last = directory.children.get(parts[-1])
        return last.link if isinstance(last, Inode) else None


def resolve(parts: list[bytes], symbolic_link: Callable[[list[bytes]], bytes | None]) -> list[bytes]:
    """The path without symbolic links, which never lead out of the root. `symbolic_link` gives the target of one."""
    found: list[bytes] = []
    todo, links, steps = parts[::-1], 0, 0
    while todo:
        steps += 1
        if steps > _STEPS:
            raise LayerRefused(f"{shown(b'/'.join(parts))}: symbolic links lead through {_STEPS} directories")
        part = todo.pop()
        if part == b"..":
            del found[-1:]
            continue
        found.append(part)
        target = symbolic_link(found)
        if target is None:
            continue
        links += 1
        if links > _LINKS:
            raise LayerRefused(f"{shown(b'/'.join(parts))}: more than {_LINKS} symbolic links")
        if target.startswith(b"/"):
            found = []
        else:
            found.pop()
        todo += [each for each in target.split(b"/")[::-1] if each not in (b"", b".")]
    return found


def attributes_of(entry: Entry, kind: bytes) -> Attributes:
    """As containerd sets them on an inode of that kind. Times before 1970 become 1970 there; squashfs ends in 2106."""
    mtime = min(entry.mtime, _LATEST) if entry.mtime > 0 else 0
    xattrs = _xattrs(entry, kind) if entry.xattrs else {}
    return Attributes(entry.mode, entry.uid, entry.gid, mtime, xattrs)


def _xattrs(entry: Entry, kind: bytes) -> dict[bytes, bytes]:
    """Those that containerd can set: nothing of trusted.*, nothing that the kernel does not know, user.* on files and
    directories alone."""
    if kind != SYMLINK and (acls := [key for key in _ACLS if key in entry.xattrs]):
        raise LayerRefused(f"{shown(entry.name)} has {shown(acls[0])}, which squashfs cannot keep")
    of_user = kind in (FILE, DIRECTORY)
    return {
        key: value
        for key, value in entry.xattrs.items()
        if key.startswith(_KEPT) and (of_user or not key.startswith(b"user."))
    }


def _clean(name: bytes) -> list[bytes]:
    """Go's filepath.Clean, as containerd uses it: what would lead above the root leads to it."""
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return parts


def _clean_target(name: bytes) -> list[bytes]:
    """A hard link's target is not cleaned before its parent is resolved: `..` is the parent of what a link leads to."""
    return [part for part in name.split(b"/") if part not in (b"", b".")]


def _whited_out(base: bytes) -> bytes:
    name = base.removeprefix(WHITEOUT)
    if name in (b"", b".", b".."):
        raise LayerRefused(f"{shown(base)} is no name of a whiteout")
    return name


def _has_inodes(node: Directory | Inode | Whiteout) -> bool:
    todo = [node]  # paths may be deeper than Python's calls
    while todo:
        node = todo.pop()
        if isinstance(node, Inode):
            return True
        if isinstance(node, Directory):
            todo += node.children.values()
    return False
