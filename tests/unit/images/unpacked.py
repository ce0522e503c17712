"""What containerd makes of a layer, with system calls in containerd's order; and what is in a directory, to be compared.

Written after pkg/archive/tar.go and tar_opts_linux.go; entries are read by Python's tarfile, so not by what is tested.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import posixpath
import stat
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kip.images.tree import OPAQUE, WHITEOUT


class Refused(Exception):
    """containerd would refuse the layer."""


def unpack(tar: bytes, root: Path, parents: Sequence[Path] = ()) -> None:
    """Applies a layer to an empty directory; `parents` are the layers below it, the uppermost first."""
    root.mkdir()
    root.chmod(0o755)
    directories: list[tuple[str, int]] = []
    with tarfile.open(fileobj=io.BytesIO(tar), errors="surrogateescape") as archive:
        for member in archive:
            _apply(archive, member, os.fspath(root), [os.fspath(parent) for parent in parents])
            if member.isdir():
                path = _inside(os.fspath(root), posixpath.normpath(member.name))
                directories.append((path, max(0, int(member.mtime))))
    for path, mtime in directories:
        with suppress(FileNotFoundError):
            os.utime(path, (mtime, mtime))


def _apply(archive: tarfile.TarFile, member: tarfile.TarInfo, root: str, parents: Sequence[str]) -> None:
    name = posixpath.normpath(member.name)
    above, base = posixpath.split(name)
    where = _inside(root, above)
    path = posixpath.join(where, posixpath.normpath("/" + base).lstrip("/"))
    if path.rstrip("/") == root:
        return
    if where != root:
        _make_parent(where, root, parents)
    base = posixpath.basename(path)
    if base == os.fsdecode(OPAQUE):
        if where != root:
            os.setxattr(where, "trusted.overlay.opaque", b"y")
        return
    if base.startswith(os.fsdecode(WHITEOUT)):
        hidden = base.removeprefix(os.fsdecode(WHITEOUT))
        if hidden in ("", ".", ".."):
            raise Refused("whiteout")
        # containerd: EEXIST here, but for the lowest layer, where it removes
        _remove(posixpath.join(where, hidden))
        os.mknod(posixpath.join(where, hidden), stat.S_IFCHR, 0)
        return
    if os.path.lexists(path) and not (_is_directory(path) and member.isdir()):
        _remove(path)
    _create(archive, member, path, root)


def _create(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, root: str) -> None:
    device = os.makedev(member.devmajor, member.devminor)
    if member.isdir():
        if not _is_directory(path):
            os.mkdir(path)
    elif member.isreg():
        content = archive.extractfile(member)
        Path(path).write_bytes(content.read() if content else b"")
    elif member.isblk() or member.ischr():
        os.mknod(path, (stat.S_IFBLK if member.isblk() else stat.S_IFCHR) | 0o600, device)
    elif member.isfifo():
        os.mkfifo(path)
    elif member.issym():
        os.symlink(member.linkname, path)
    elif member.islnk():
        above, base = posixpath.split(member.linkname)
        try:
            os.link(posixpath.join(_inside(root, above), base), path, follow_symlinks=False)
        except OSError as error:
            raise Refused(str(error)) from error
    os.lchown(path, member.uid, member.gid)
    for key, value in member.pax_headers.items():
        if key.startswith("SCHILY.xattr.") and not key.startswith("SCHILY.xattr.trusted."):
            with suppress(PermissionError):
                name = key.removeprefix("SCHILY.xattr.")
                os.setxattr(path, name, os.fsencode(value), follow_symlinks=False)
    if not stat.S_ISLNK(os.lstat(path).st_mode):
        os.chmod(path, member.mode & 0o7777)
    mtime = max(0, member.mtime)  # boundTime
    os.utime(path, (mtime, mtime), follow_symlinks=False)


def _make_parent(path: str, root: str, parents: Sequence[str]) -> None:
    if os.path.lexists(path):
        if not _is_directory(path):
            raise Refused(f"{path} is no directory")
        return
    if os.path.dirname(path) != root:
        _make_parent(os.path.dirname(path), root, parents)
    os.mkdir(path)
    os.chmod(path, 0o755)
    for parent in parents:
        below = _inside(parent, path[len(root) :])
        if not os.path.lexists(below):
            continue
        if not _is_directory(below):
            return
        status = os.lstat(below)
        os.chown(path, status.st_uid, status.st_gid)
        os.chmod(path, stat.S_IMODE(status.st_mode))
        for key in os.listxattr(below):
            if not key.startswith("trusted."):
                os.setxattr(path, key, os.getxattr(below, key))
        return


def _inside(root: str, path: str) -> str:
    """The path below the root, with links resolved as if the root were `/`."""
    found: list[str] = []
    todo, links = [part for part in path.split("/") if part not in ("", ".")][::-1], 0
    while todo:
        part = todo.pop()
        if part == "..":
            del found[-1:]
            continue
        here = "/".join([root, *found, part])
        if not os.path.islink(here):
            found.append(part)
            continue
        links += 1
        if links > 255:
            raise Refused("links")
        target = os.readlink(here)
        if target.startswith("/"):
            found = []
        todo += [each for each in target.split("/")[::-1] if each not in ("", ".")]
    return "/".join([root, *found])


def _is_directory(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _remove(path: str) -> None:
    if _is_directory(path):
        for name in os.listdir(path):
            _remove(posixpath.join(path, name))
        os.rmdir(path)
    elif os.path.lexists(path):
        os.unlink(path)


@dataclass(frozen=True)
class Found:
    """Something in a directory, as far as a program in a container could see."""

    kind: str
    mode: str
    owner: tuple[int, int]
    mtime: int | None
    xattrs: tuple[tuple[str, bytes], ...]
    content: str
    same: tuple[str, ...]
    """All of its names."""


def contents(root: Path, *, times: bool = True) -> dict[str, Found]:
    """Everything below a directory. Without times of directories if they cannot be told: those nobody has described."""
    paths: dict[str, os.stat_result] = {}
    names: dict[int, list[str]] = {}
    top = os.fsencode(root)
    for above, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(above, name)
            shown = os.fsdecode(os.path.relpath(path, top))
            paths[shown] = status = os.lstat(path)
            names.setdefault(status.st_ino, []).append(shown)
    return {
        shown: _found(os.path.join(top, os.fsencode(shown)), status, sorted(names[status.st_ino]), times)
        for shown, status in paths.items()
    }


def _found(path: bytes, status: os.stat_result, names: Sequence[str], times: bool) -> Found:
    content = ""
    if stat.S_ISREG(status.st_mode):
        content = f"{status.st_size} {hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()}"
    elif stat.S_ISLNK(status.st_mode):
        content = os.fsdecode(os.readlink(path))
    elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        content = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    whiteout = content == "0:0" and stat.S_ISCHR(status.st_mode)
    xattrs = [] if whiteout else _xattrs(path)  # nobody sees a whiteout, but what it hides
    return Found(
        stat.filemode(status.st_mode)[0],
        "" if whiteout else f"{stat.S_IMODE(status.st_mode):o}",
        (0, 0) if whiteout else (status.st_uid, status.st_gid),
        int(status.st_mtime) if not whiteout and (times or not stat.S_ISDIR(status.st_mode)) else None,
        tuple((key, os.getxattr(path, key, follow_symlinks=False)) for key in xattrs),
        content,
        () if whiteout or stat.S_ISDIR(status.st_mode) else tuple(names),
    )


def _xattrs(path: bytes) -> list[str]:
    try:
        return sorted(os.listxattr(path, follow_symlinks=False))
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:  # a squashfs without any
            raise
        return []


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[Path]:
    """A squashfs, mounted by the kernel."""
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "squashfs", "-o", "ro,loop", image, at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)
