"""What is printed."""

from __future__ import annotations

import json

from patient import healthy

from kip.doctor import text
from kip.doctor.facts import Unanswered
from kip.doctor.table import CHECKS, judge

NO_PERMISSION = Unanswered("denied", "not allowed", "ec2:DescribeSubnets")


def test_a_line_for_each_finding_under_its_section_and_what_mends_it_below() -> None:
    found = list(judge(healthy(dns=Unanswered("missing", "no kube-dns"))))
    lines = list(text.lines(found))
    assert lines[0] == "cluster"
    at = lines.index("  failure  cluster DNS: no kube-dns")
    assert lines[at + 1] == "             mend: set cluster.dns in provider.yaml to its addresses"
    assert lines[at + 2] == "             $ kubectl get services --all-namespaces -l k8s-app=kube-dns"
    assert lines[-1].startswith("1 failure, ")
    assert "begin with the first failure" in lines[-1]
    assert [line for line in lines if not line.startswith(" ")][:-1] == list(
        dict.fromkeys(check.section for check in CHECKS)
    )


def test_what_mends_several_things_is_told_once() -> None:
    calls = {**healthy().calls, "ec2:DescribeSubnets": NO_PERMISSION, "ec2:DescribeVpcs": NO_PERMISSION}
    lines = list(text.lines(list(judge(healthy(calls=calls)))))
    assert sum("aws iam put-role-policy" in line for line in lines) == 1
    assert sum('"Sid":"Look"' in line for line in lines) == 1


def test_all_is_well_in_one_line() -> None:
    assert text.summary(list(judge(healthy()))).endswith(" ok")
    assert "failure" not in text.summary(list(judge(healthy())))


def test_programs_get_all_of_it() -> None:
    calls = {**healthy().calls, "ec2:DescribeSubnets": NO_PERMISSION}
    document = json.loads(json.dumps(text.document(list(judge(healthy(calls=calls))))))
    assert document["counts"]["failure"] == 1
    (failed,) = [finding for finding in document["findings"] if finding["status"] == "failure"]
    assert set(failed) == {"check", "status", "what", "why", "remedy"}
    assert failed["check"] == "permissions-to-look"
    (statement,) = failed["remedy"]["statements"]
    assert statement["Condition"] == {"StringEquals": {"aws:RequestedRegion": "us-west-2"}}
    assert all(finding["remedy"] is None for finding in document["findings"] if finding["status"] == "ok")


def test_ids_of_checks_are_different() -> None:
    assert len({check.id for check in CHECKS}) == len(CHECKS)
