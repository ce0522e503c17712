"""What the machine room's cloud-init understands, compared with what cloud-init documents."""

from __future__ import annotations

import base64
import gzip

import pytest

from kip.local.room import userdata
from kip.local.room.userdata import read, shell_script

_MULTIPART = b"""\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="=="

--==
Content-Type: text/cloud-config; charset="utf-8"

#cloud-config
runcmd: [echo first]
bootcmd: [echo early]

--==
Content-Type: text/plain; charset="utf-8"

#!/bin/sh
echo a script that says only by its first line what it is

--==
Content-Type: text/x-shellscript; charset="utf-8"
Content-Disposition: attachment; filename="named.sh"

#!/bin/sh
echo a named script

--==
Content-Type: text/cloud-config; charset="utf-8"

#cloud-config
merge_how: 'list(append)+dict(no_replace,recurse_list)+str()'
runcmd: [echo second]
ssh_deletekeys: false
--==--
"""


def test_nothing_at_all_asks_for_nothing():
    found = read(b"")
    assert (found.config, found.scripts, found.problems) == ({}, [], [])


def test_a_script_is_run_as_it_is():
    script = b"#!/bin/bash\nexit 0\n"
    assert [part.body for part in read(script).scripts] == [script]


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress], ids=["plain", "gzipped"])
def test_cloud_config_is_understood(pack):
    assert read(pack(b"#cloud-config\nruncmd:\n- [ls, /]\n")).config == {"runcmd": [["ls", "/"]]}


def test_parts_of_a_mime_message_come_together():
    found = read(_MULTIPART)
    assert found.problems == []
    assert found.config["runcmd"] == ["echo first", "echo second"]
    assert found.config["bootcmd"] == ["echo early"]
    assert found.config["ssh_deletekeys"] is False
    assert [script.name for script in found.scripts] == ["part-002", "named.sh"]


def test_a_later_part_replaces_what_an_earlier_one_said_unless_it_asks_otherwise():
    assert userdata.merged({"runcmd": ["a"], "x": 1}, {"runcmd": ["b"], "x": 2}) == {"runcmd": ["b"], "x": 2}


@pytest.mark.parametrize(
    "how",
    [
        "list(append)+dict(no_replace,recurse_list)+str()",
        [
            {"name": "list", "settings": ["append"]},
            {"name": "dict", "settings": ["no_replace", "recurse_list"]},
        ],
    ],
    ids=["text", "list"],
)
def test_merge_how_appends_lists_and_keeps_the_rest(how):
    found = userdata.merged({"runcmd": ["a"], "x": 1}, {"merge_how": how, "runcmd": ["b"], "x": 2, "y": 3})
    assert found == {"merge_how": how, "runcmd": ["a", "b"], "x": 1, "y": 3}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"#cloud-config\nruncmd: [a\n", "no YAML"),
        (b"#cloud-config\n- a\n", "a list, not a mapping"),
        (b"hello", "text/x-not-multipart is not handled"),
        (b"#include\nhttps://example.com\n", "text/x-include-url is not handled"),
        (b"#cloud-config\npackages: [vim]\n", "'packages' is not played"),
    ],
)
def test_what_cannot_be_understood_is_told(data, told):
    assert told in " ".join(read(data).problems)


def test_commands_become_one_script_that_goes_on_after_a_failure():
    assert shell_script(["false; x=1", ["echo", "a b", 3], None]) == "#!/bin/sh\nfalse; x=1\necho 'a b' 3\n"


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("", lambda data: data.decode()),
        ("text/plain", lambda data: data.decode()),
        ("b64", lambda data: base64.b64encode(data).decode()),
        ("base64", base64.b64encode),
        ("gz+b64", lambda data: base64.b64encode(gzip.compress(data)).decode()),
        ("gzip+base64", lambda data: base64.b64encode(gzip.compress(data)).decode()),
        ("gzip", gzip.compress),
    ],
)
def test_content_is_decoded(encoding, encode):
    assert userdata.content_of({"content": encode(b"hello\n"), "encoding": encoding}) == b"hello\n"
