"""What the machine room's cloud-init does on a machine, here a directory."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from kip.local.room import cloudinit
from kip.local.room.cloudinit import Machine, play_final, play_init

_SCRIPTS = b"""\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="=="

--==
Content-Type: text/cloud-config; charset="utf-8"

#cloud-config
runcmd: [echo first, echo second]
--==
Content-Type: text/x-shellscript; charset="utf-8"

#!/bin/sh
echo an unnamed script
--==
Content-Type: text/x-shellscript; charset="utf-8"
Content-Disposition: attachment; filename="named.sh"

#!/bin/sh
echo a named script
--==--
"""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    for name in ("var/log", "var/lib/cloud/instance", "etc/ssh", "root", "home/ec2-user"):
        (tmp_path / name).mkdir(parents=True)
    return Machine(tmp_path)


def console(machine: Machine) -> str:
    return (machine.root / cloudinit.CONSOLE).read_text()


def test_files_are_written_with_their_permissions(machine):
    entries = [
        {"path": "/etc/new/secret", "content": "s", "permissions": "0600"},
        {"path": "/etc/plain", "content": "one\n"},
        {"path": "/etc/plain", "content": "two\n", "append": True, "permissions": 0o640},
        {"path": "/etc/late", "content": "x", "defer": True},
    ]
    machine.write_files(entries, deferred=False)
    assert machine.failures == 0
    assert stat.S_IMODE((machine.root / "etc/new/secret").stat().st_mode) == 0o600
    assert (machine.root / "etc/plain").read_text() == "one\ntwo\n"
    assert stat.S_IMODE((machine.root / "etc/plain").stat().st_mode) == 0o640
    assert not (machine.root / "etc/late").exists()
    machine.write_files(entries, deferred=True)
    assert (machine.root / "etc/late").exists()


@pytest.mark.parametrize(
    "entry",
    [
        {"content": "no path"},
        "text",
        {"path": "/etc/x", "content": "abcde", "encoding": "b64"},
        {"path": "/etc/x", "content": "", "permissions": "rw"},
    ],
)
def test_a_bad_file_is_told_and_the_next_is_written(machine, entry):
    machine.write_files([entry, {"path": "/etc/good", "content": ""}], deferred=False)
    assert machine.failures == 1
    assert "ERROR: write_files" in console(machine)
    assert (machine.root / "etc/good").exists()


def test_host_keys_that_write_files_brought_are_deleted_as_cloud_init_does(machine):
    config = b"#cloud-config\nwrite_files: [{path: /etc/ssh/ssh_host_ed25519_key, content: mine}]\n"
    play_init(machine, config)
    assert (machine.root / "etc/ssh/ssh_host_ed25519_key").read_text() != "mine"
    assert (machine.root / "etc/ssh/ssh_host_ecdsa_key").exists()


def test_host_keys_stay_when_asked(machine):
    config = b"#cloud-config\nssh_deletekeys: false\nssh_genkeytypes: []\n"
    config += b"write_files: [{path: /etc/ssh/ssh_host_ed25519_key, content: mine}]\n"
    play_init(machine, config)
    assert [path.name for path in (machine.root / "etc/ssh").iterdir()] == ["ssh_host_ed25519_key"]
    assert (machine.root / "etc/ssh/ssh_host_ed25519_key").read_text() == "mine"


def test_given_host_keys_are_the_only_ones(machine):
    machine.prepare_ssh({"ssh_keys": {"ed25519_private": "P", "ed25519_public": "Q", "nonsense": "x"}})
    keys = {path.name: path.read_text() for path in (machine.root / "etc/ssh").iterdir()}
    assert keys == {"ssh_host_ed25519_key": "P\n", "ssh_host_ed25519_key.pub": "Q\n"}
    assert "'nonsense'" in console(machine)


def test_output_of_commands_is_on_the_console_and_a_failure_is_told(machine):
    play_final(machine, b"#cloud-config\nruncmd: [echo to the console, 'exit 3']\n")
    assert "to the console" in console(machine)
    assert "ERROR: runcmd: exit code 3" in console(machine)
    assert machine.failures == 1


def test_a_program_left_in_the_background_does_not_hold_up_the_boot(machine):
    play_final(machine, b"#cloud-config\nruncmd: ['sleep 30 &']\n")
    assert machine.failures == 0


def test_scripts_run_in_the_order_of_their_names_and_before_runcmd(machine):
    play_final(machine, _SCRIPTS)
    told = [line for line in console(machine).splitlines() if not line.startswith("[")]
    assert told == [
        "a named script",
        "an unnamed script",
        "first",
        "second",
    ]


def test_commands_that_are_no_list_are_told(machine):
    play_final(machine, b"#cloud-config\nruncmd: echo\n")
    assert "runcmd: expected a list, found str" in console(machine)


@pytest.fixture
def metadata() -> Iterator[tuple[str, dict[str, bytes]]]:
    served: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self._send(b"token")

        def do_GET(self) -> None:
            found = served.get(self.path) if self.headers["X-aws-ec2-metadata-token"] == "token" else None
            self._send(found)

        def _send(self, body: bytes | None) -> None:
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", served
    server.shutdown()
    server.server_close()


def test_user_data_is_fetched_with_a_token(metadata):
    host, served = metadata
    served["/latest/user-data"] = b"#!/bin/sh\n"
    assert cloudinit.fetch("user-data", host) == b"#!/bin/sh\n"


def test_an_instance_without_user_data_is_no_failure(metadata):
    host, _ = metadata
    assert cloudinit.fetch("user-data", host) is None


def test_a_metadata_service_that_does_not_answer_is_given_up():
    with pytest.raises(OSError):
        cloudinit.fetch("user-data", "127.0.0.1:9", patience=0.1)
