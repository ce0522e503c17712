from __future__ import annotations

import base64
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kip.kubelet.keptformat import (
    TOTAL_LIMIT_BYTES,
    KeptLog,
    KeptPod,
    from_secret,
    pod_label,
    to_secret,
)

POD = KeptPod("ns", "web-0", "0f-9")
logs = st.builds(
    KeptLog,
    st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True),
    st.booleans(),
    st.binary(max_size=200),
    st.integers(0, 10**9),
)


@given(st.lists(logs, max_size=8, unique_by=lambda log: (log.container, log.previous)))
def test_there_and_back(kept: list[KeptLog]) -> None:
    secret, stored = to_secret(POD, "kip-0", kept)
    assert stored == kept
    assert from_secret(json.loads(json.dumps(secret))) == (POD, kept)


def test_refusals_are_kept_as_well() -> None:
    kept = [KeptLog("app", False, b"", refusal='container "app" in pod "web-0" is waiting to start')]
    assert from_secret(to_secret(POD, "kip-0", kept)[0]) == (POD, kept)


def test_labels_and_type() -> None:
    secret, _ = to_secret(POD, "kip-0", [])
    assert secret["type"] == "kip.elotl.co/logs"
    assert secret["metadata"]["name"] == "kip-logs-0f-9"
    assert secret["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "kip",
        "kip.elotl.co/pod": pod_label("ns", "web-0"),
        "kip.elotl.co/pod-uid": "0f-9",
        "kip.elotl.co/node": "kip-0",
    }
    assert len(pod_label("n" * 63, "p" * 253)) <= 63
    assert pod_label("a", "b-c") != pod_label("a-b", "c")


def test_what_does_not_fit_is_cut_where_most_is() -> None:
    rng = random.Random(1)
    line = b"2026-01-01T00:00:00.000000000Z "

    def noise(size: int) -> bytes:
        return b"".join(line + base64.b64encode(rng.randbytes(60)) + b"\n" for _ in range(size // 112))

    kept = [KeptLog(f"c{i}", False, noise(1 << 20), dropped=i) for i in range(5)] + [
        KeptLog("small", False, noise(2000))
    ]
    secret, stored = to_secret(POD, "kip-0", kept)
    assert sum(len(base64.b64decode(value)) for value in secret["data"].values()) < TOTAL_LIMIT_BYTES + 4096
    assert stored[-1] == kept[-1]
    for before, after in zip(kept[:-1], stored[:-1], strict=True):
        assert before.text.endswith(after.text)
        assert after.text.startswith(line)
        assert after.dropped == before.dropped + len(before.text) - len(after.text) > before.dropped
    assert from_secret(secret)[1] == stored


@pytest.mark.parametrize(
    "data", [None, {}, {"index.json": "!"}, {"index.json": base64.b64encode(b'{"logs": [{}]}').decode()}]
)
def test_foreign_secrets_are_refused(data: object) -> None:
    with pytest.raises(ValueError, match="kept logs"):
        from_secret({"metadata": {"labels": {}}, "data": data})


def test_a_damaged_log_is_refused() -> None:
    secret, _ = to_secret(POD, "kip-0", [KeptLog("app", False, b"text")])
    secret["data"]["app.log.gz"] = base64.b64encode(b"not gzip").decode()
    with pytest.raises(ValueError, match="kept logs"):
        from_secret(secret)
