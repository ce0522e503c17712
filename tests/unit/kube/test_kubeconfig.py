"""A kubeconfig that is of no use is told of in one sentence, whatever is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kubernetes_asyncio.config import ConfigException

from kip.kube import kubeconfig


def config(command: str = "true", *arguments: str, current: str = "shop") -> str:
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": command,
        "args": list(arguments),
    }
    return json.dumps(
        {
            "clusters": [{"name": "shop", "cluster": {"server": "https://192.0.2.1"}}],
            "users": [{"name": "me", "user": {"exec": plugin}}],
            "contexts": [{"name": "shop", "context": {"cluster": "shop", "user": "me"}}],
            "current-context": current,
        }
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"clusters: [", "is not YAML: while parsing"),
        (b"hello", "cannot be used: "),
        (b"", "cannot be used: "),
        (b"\xff\xfe\xd1", "cannot be used: "),
        (b"clusters: []\n", "it has no current context: kubectl config use-context NAME"),
        (config(current="other").encode(), "Expected object with name other"),
        (config("no-such-program").encode(), "wants 'no-such-program' run for credentials: not found"),
        (
            config("sh", "-c", "echo Unable to locate credentials >&2; exit 253").encode(),
            "its program for credentials failed: process returned 253. Unable to locate credentials",
        ),
    ],
)
async def test_what_is_wrong_is_one_sentence(
    tmp_path: Path,
    content: bytes,
    told: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = tmp_path / "config"
    file.write_bytes(content)
    with pytest.raises(ConfigException) as raised:
        await kubeconfig.load(file)
    assert str(raised.value).startswith(f"kubeconfig {file}")
    assert told in str(raised.value)
    assert not caplog.records
    assert capfd.readouterr().err == ""


async def test_what_the_system_refuses(tmp_path: Path) -> None:
    with pytest.raises(ConfigException, match=f"kubeconfig {tmp_path}: {tmp_path}: Is a directory"):
        await kubeconfig.load(tmp_path)
    plugin, file = tmp_path / "plugin", tmp_path / "config"
    plugin.write_bytes(b"\x7fELF of another machine")
    plugin.chmod(0o755)
    file.write_text(config(str(plugin)))
    with pytest.raises(ConfigException, match=f"kubeconfig {file}: {plugin}: Exec format error"):
        await kubeconfig.load(file)


async def test_none_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/a:{tmp_path}/b")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(
        ConfigException, match=f"no kubeconfig {tmp_path}/a:{tmp_path}/b, and this is not a pod"
    ):
        await kubeconfig.load()


async def test_the_one_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config"
    status = '{"apiVersion": "client.authentication.k8s.io/v1beta1", "kind": "ExecCredential", "status": {"token": "t"}}'
    file.write_text(config("echo", status))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/missing:{file}")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    found = await kubeconfig.load()
    assert found.host == "https://192.0.2.1"
    assert found.api_key["BearerToken"] == "Bearer t"
