"""User data: the cell's files and how to start them, as cloud-init wants to be told.

It is always compressed, which cloud-init undoes: 16 kB become 6, and the user's own part has room beside it. To read
what an instance got: `… | base64 -d | zcat`, or /var/lib/cloud/instance/user-data.txt.i on the machine.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import Any

import yaml

from kip.bootstrap.files import File, cell_files
from kip.bootstrap.layout import PROGRAMS
from kip.bootstrap.options import BootstrapOptions

USER_DATA_LIMIT = 16 * 1024
"""EC2's limit in bytes, before base64."""

# Runs in cloud-init's first stage, before write_files: so it starts something that waits for the last file.
# Waiting for runcmd instead, which is the end of cloud-init, would cost seconds on a stock image. The wait starts no
# process each time it looks, so that it can look often on a machine that has much to do.
_EARLY = ["systemd-run", "--no-block", "--collect", "--unit=kip-first-boot", "/bin/bash", "-c"]
_WHEN_WRITTEN = (
    f"exec 9<> <(:); until [ -x {PROGRAMS}/boot ]; do read -rt 0.01 -u 9; done;"
    " systemctl start --no-block kip-boot.service"
)
# Lists (write_files, runcmd, …) of several cloud-configs are appended instead of the last one replacing the others.
_MERGE = "list(append)+dict(no_replace,recurse_list)+str()"


class UserDataTooLarge(Exception):
    """It does not fit, although compressed; only the user's own part can be made smaller.

    Attributes:
        size: bytes after compression.
        limit: bytes that EC2 accepts.
    """

    def __init__(self, size: int, limit: int = USER_DATA_LIMIT) -> None:
        super().__init__(
            f"user data has {size} bytes after compression, EC2 accepts {limit}: shorten your cloud-init"
        )
        self.size = size
        self.limit = limit


def user_data(options: BootstrapOptions) -> bytes:
    """What RunInstances gets: the same bytes for the same options.

    A repeated RunInstances with the same client token must have the same parameters, so nothing here depends on
    time, chance or the order of a hash table.

    Raises:
        UserDataTooLarge: the user's own cloud-init leaves no room.
    """
    compressed = _gzip(plain_user_data(options))
    if len(compressed) > USER_DATA_LIMIT:
        raise UserDataTooLarge(len(compressed))
    return compressed


def plain_user_data(options: BootstrapOptions) -> bytes:
    """User data before compression: a cloud-config, or a MIME message when the user has a part in it."""
    ours = cloud_config(cell_files(options))
    return _multipart(options.extra_cloud_init, ours) if options.extra_cloud_init else ours


def cloud_config(files: tuple[File, ...]) -> bytes:
    """A cloud-config that writes the files and starts the cell as soon as they are there."""
    config: dict[str, Any] = {
        "merge_how": _MERGE,
        # Our sshd has a host key of its own; making three for the image takes up to a second, and none is no valid value.
        "ssh_deletekeys": False,
        "ssh_genkeytypes": ["ed25519"],
        "bootcmd": [[*_EARLY, _WHEN_WRITTEN]],
        "write_files": [_entry(file) for file in files],
        # For images whose cloud-init has no bootcmd or no systemd-run: late, but it starts.
        "runcmd": [["systemctl", "start", "--no-block", "kip-boot.service"]],
    }
    return b"#cloud-config\n" + yaml.dump(config, Dumper=_Dumper, sort_keys=False, width=1000).encode()


def _entry(file: File) -> dict[str, str]:
    return {"path": file.path, "permissions": file.mode, "content": file.content}


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are (`|`): smaller, and readable on the machine."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _multipart(extra: bytes, ours: bytes) -> bytes:
    """Both parts in one MIME message; the user's comes first and is left as it is.

    Put together by hand: Python's email package would re-encode what is in it, and not the same way in all versions.
    """
    boundary = b"kip-" + hashlib.sha256(extra + ours).hexdigest()[:24].encode()
    lines = [
        b"MIME-Version: 1.0",
        b'Content-Type: multipart/mixed; boundary="' + boundary + b'"',
        b"",
        b"--" + boundary,
        _part(extra),
        b"--" + boundary,
        b'Content-Type: text/cloud-config; charset="utf-8"',
        b"",
        ours,
        b"--" + boundary + b"--",
        b"",
    ]
    return b"\n".join(lines)


def _part(extra: bytes) -> bytes:
    if extra[:13].lower() in (b"mime-version:", b"content-type:"):
        return extra
    # cloud-init looks at the first line of text/plain to find out what it is.
    return b'Content-Type: text/plain; charset="utf-8"\n\n' + extra


def _gzip(data: bytes) -> bytes:
    """Like gzip.compress, whose header is not the same in all versions of Python (time, operating system)."""
    header = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff"
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(data) + deflate.flush()
    return header + body + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)
