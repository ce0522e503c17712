"""Answers for programs: what `kip choose -o json` prints."""

from __future__ import annotations

from typing import Any

from kip.choose.answers import Answer, Row
from kip.model.requirements import Part, Requirements
from kip.selection.choose import Choice, NoFit, Rejection


def of_answer(answer: Answer, *, explain: bool) -> dict[str, Any]:
    """Amounts are whole numbers in the unit that the key names; what is not known is null."""
    workload, outcome = answer.workload, answer.outcome
    found: dict[str, Any] = {
        "kind": workload.kind,
        "name": workload.name,
        "namespace": workload.namespace or None,
        "pods": workload.count,
        "refused": answer.refused or None,
        "warnings": list(answer.warnings),
        "needs": None if answer.needs is None else _needs(answer.needs),
        "volumeGiB": answer.volume_gib or None,
        "reason": outcome.reason if isinstance(outcome, NoFit) else None,
        "message": None if outcome is None else str(outcome),
        "fitting": outcome.fitting if isinstance(outcome, Choice) else 0,
        "ranking": [_row(row) for row in answer.rows],
    }
    if explain and outcome is not None:
        found["rejected"] = [_rejection(rejection) for rejection in outcome.rejected]
    return found


def _needs(needs: Requirements) -> dict[str, Any]:
    return {
        "cpuMillis": needs.cpu_millis,
        "memoryBytes": needs.memory_bytes,
        "hugePagesBytes": needs.huge_pages_bytes,
        "gpus": needs.gpus,
        "gpuTypes": list(needs.gpu_kinds),
        "architectures": None if needs.architectures is None else sorted(needs.architectures),
        "launchType": "dedicated" if needs.dedicated else needs.market,
        "instanceType": needs.instance_type,
        "rules": [" and ".join(map(str, term)) for term in needs.terms],
        "parts": [_part(part) for part in needs.parts],
    }


def _part(part: Part) -> dict[str, Any]:
    amounts = {
        "cpuMillis": part.cpu_millis,
        "memoryBytes": part.memory_bytes,
        "hugePagesBytes": part.huge_pages_bytes,
        "gpus": part.gpus,
        "volumeBytes": part.volume_bytes,
    }
    return {"source": part.source, **{key: amount for key, amount in amounts.items() if amount}}


def _row(row: Row) -> dict[str, Any]:
    offer, kind, kept = row.offer, row.candidate.type, row.candidate.reserve
    return {
        "instanceType": kind.name,
        "launchType": offer.launch_type,
        "zones": list(row.zones),
        "usdPerHour": offer.usd_per_hour,
        "onDemandUSDPerHour": kind.usd_per_hour,
        "creditsUSDPerHour": round(offer.surplus_usd_per_hour, 6),
        "vcpus": kind.vcpus,
        "memoryMiB": kind.memory_mib,
        "architecture": kind.architecture,
        "gpus": kind.gpus,
        "gpuName": kind.gpu_name or None,
        "left": {"cpuMillis": row.candidate.cpu_millis, "memoryBytes": max(row.candidate.memory_bytes, 0)},
        "reserve": {
            "cpuMillis": kept.cpu_millis,
            "hypervisorAndKernelBytes": kept.vm_memory_bytes,
            "kubeletAndSystemBytes": kept.kube_memory_bytes,
            "evictionBytes": kept.eviction_memory_bytes,
        },
    }


def _rejection(rejection: Rejection) -> dict[str, Any]:
    types = [{"instanceType": name, "has": rejection.instead.get(name)} for name in rejection.types]
    return {"reason": rejection.reason, "types": types}
