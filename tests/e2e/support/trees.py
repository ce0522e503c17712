"""What is in an image, file by file, as a machine's containerd has it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from typing import Any

from support.world import E2eWorld

# Run by the machine's own Python. Directories have no time: containerd unpacks files into them without putting it back.
_PROGRAM = r"""
import errno, hashlib, json, os, stat, sys
top = os.fsencode(sys.argv[1])
def attributes(path):
    try:
        return {key: os.getxattr(path, key, follow_symlinks=False).hex()
                for key in sorted(os.listxattr(path, follow_symlinks=False))}
    except OSError as error:
        # Of a squashfs in which nothing has any.
        if error.errno != errno.EOPNOTSUPP:
            raise
        return {}
seen, links = {}, {}
for base, directories, files in os.walk(top):
    for name in [*directories, *files]:
        path = os.path.join(base, name)
        shown = os.fsdecode(os.path.relpath(path, top))
        found = os.lstat(path)
        entry = {"mode": oct(found.st_mode), "owner": [found.st_uid, found.st_gid], "device": found.st_rdev}
        entry["xattrs"] = attributes(path)
        if stat.S_ISLNK(found.st_mode):
            entry["target"] = os.readlink(path).decode()
        if stat.S_ISREG(found.st_mode):
            with open(path, "rb") as file:
                entry["content"] = hashlib.file_digest(file, "sha256").hexdigest()
            entry["size"], entry["links"] = found.st_size, found.st_nlink
            entry["first name"] = links.setdefault((found.st_dev, found.st_ino), shown) if found.st_nlink > 1 else shown
        if not stat.S_ISDIR(found.st_mode):
            entry["time"] = int(found.st_mtime)
        seen[shown] = entry
    directories.sort(), files.sort()
print(json.dumps(seen))
"""


def tree(world: E2eWorld, instance: str, chain: Iterable[str]) -> dict[str, Any]:
    """Every file of the image with these ChainIDs: what a container that has written nothing sees."""
    top = [*chain][-1]
    key = f"look-{top[7:19]}"
    # The view is no root of containerd's garbage collection, which may take it away at any time; what is mounted are the
    # directories of the committed snapshots below it, which are. So the command that makes it has to name them.
    done = world.on_cell(
        instance,
        "set -e; mkdir -p /run/look;"
        f" mounting=$(ctr -n k8s.io snapshots view --target /run/look {key} {top}); $mounting;"
        f" python3 -c {shlex.quote(_PROGRAM)} /run/look;"
        f" umount /run/look; ctr -n k8s.io snapshots rm {key} || true",
        timeout=120,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
