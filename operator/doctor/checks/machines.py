"""Of machines: images and their kubelets, instance profile, quotas."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kip.cloud.base import Image
from kip.doctor.checks.cluster import parsed
from kip.doctor.checks.remedies import not_known, region_of
from kip.doctor.facts import CONFIGURED, ClusterVersion, Fact, Facts, Unanswered
from kip.doctor.finding import Finding, Remedy, failure, ok, unknown, warning
from kip.doctor.quotas import ON_DEMAND, Quota, watched
from kip.model.quantity import parse

#: A kubelet may be so many minor versions older than the API server, and never newer
#: (https://kubernetes.io/releases/version-skew-policy/#kubelet).
KUBELET_BEHIND = 3
#: vCPUs of the smallest machines that cells are usually made of.
SMALLEST = 2

_USUAL = (CONFIGURED, "amd64 standard")
# amazon-eks-node-al2023-x86_64-standard-1.36-v20261105
_MINOR_IN_NAME = re.compile(r"-(\d+\.\d+)-v?\d{8}")


def images(facts: Facts) -> Iterator[Finding]:
    """That there is one, and its kubelet fits the API server."""
    for variant, image in facts.images.items():
        what = "image" if variant == CONFIGURED else f"image for {variant}"
        if isinstance(image, Image):
            yield _skew(facts, what, image)
        elif image.reason == "missing":
            # Without the usual one nothing runs; without the others what needs them does not.
            bad = failure if variant in _USUAL else warning
            yield bad(what, image.why, _other_image(facts, variant))
        else:
            yield not_known(facts, what, image)


def _skew(facts: Facts, what: str, image: Image) -> Finding:
    called = f"{image.name} ({image.id})"
    match = _MINOR_IN_NAME.search(image.name)
    if match is None or not isinstance(facts.version, ClusterVersion):
        return unknown(what, f"{called}: its name does not say which kubelet it has")
    kubelet, server = parsed(match[1]), parsed(facts.version.minor)
    if kubelet > server:
        why = f"{called}: its kubelet {match[1]} is newer than the API server {facts.version.minor}"
    elif server[1] - kubelet[1] > KUBELET_BEHIND:
        why = f"{called}: its kubelet {match[1]} is over {KUBELET_BEHIND} minor versions older than {facts.version.minor}"
    else:
        return ok(what, called)
    return failure(
        what, why, Remedy(text=f"name an image for {facts.version.minor} in cells.bootImageSpec, or none")
    )


def _other_image(facts: Facts, variant: str) -> Remedy:
    region = region_of(facts) or "REGION"
    if variant == CONFIGURED:
        return Remedy(
            text="mend cells.bootImageSpec: the image has to be in this region, and launchable by this account",
            command=f"aws ec2 describe-images --region {region} --image-ids ami-…",
        )
    architecture, _, kind = variant.partition(" ")
    name = f"amazon-eks-node-al2023-{'x86_64' if architecture == 'amd64' else architecture}-{kind}-*"
    return Remedy(
        text="AWS has none for this version here; name an older one in cells.bootImageSpec, as {owners: [amazon], "
        "filters: {name: …}}",
        command=f"aws ec2 describe-images --region {region} --owners amazon --filters 'Name=name,Values={name}' "
        "--query 'sort_by(Images,&CreationDate)[-3:].Name'",
    )


def instance_profile(facts: Facts) -> Iterator[Finding]:
    """That of `cells.defaultIAMPermissions`, where there is one."""
    what = "instance profile"
    given, found = facts.settings.cells.default_iam_permissions, facts.profile
    if given is None or found is None:
        return
    make = Remedy(
        text="make it, or mend cells.defaultIAMPermissions",
        command=f"aws iam create-instance-profile --instance-profile-name {given.rpartition('/')[2]}",
    )
    if isinstance(found, Unanswered):
        bad = found.reason == "missing" or found.code == "NoSuchEntity"
        yield failure(what, found.why, make) if bad else not_known(facts, what, found)
    elif given.startswith("arn:") and given != found.arn:
        yield failure(
            what, f"{given} of cells.defaultIAMPermissions is not there; there is {found.arn}", make
        )
    elif not found.roles:
        add = f"aws iam add-role-to-instance-profile --instance-profile-name {given.rpartition('/')[2]} --role-name ROLE"
        yield failure(what, f"{found.arn} has no role", Remedy(text="put one in", command=add))
    else:
        yield ok(what, f"{found.arn} with {', '.join(found.roles)}")


def quotas(facts: Facts) -> Iterator[Finding]:
    """Against what the virtual nodes offer."""
    kubelet = facts.settings.kubelet
    offered = float(parse(kubelet.capacity["cpu"])) * len(kubelet.node_names)
    for quota in watched(facts.settings):
        if quota.code in facts.quotas:
            yield _quota(facts, quota, facts.quotas[quota.code], offered)


def _quota(facts: Facts, quota: Quota, value: Fact[float], offered: float) -> Finding:
    what = f"quota {quota.code}"
    if isinstance(value, Unanswered):
        return not_known(
            facts, what, Unanswered(value.reason, f"{quota.name}: {value.why}", value.permission)
        )
    used = None if isinstance(facts.running_vcpus, Unanswered) else facts.running_vcpus.get(quota.code, 0)
    now = "" if used is None else f", {used} of them in use"
    why = f"{quota.name}: {value:g} vCPUs{now}; the virtual nodes offer {offered:g} CPUs"
    ask = Remedy(
        text="ask AWS for more, or offer less in kubelet.capacity",
        command=f"aws service-quotas request-service-quota-increase --region {region_of(facts) or 'REGION'} "
        f"--service-code ec2 --quota-code {quota.code} --desired-value {int(offered + (used or 0)) or SMALLEST}",
    )
    if value - (used or 0) < SMALLEST:
        return (failure if quota == ON_DEMAND else warning)(what, why, ask)
    return ok(what, why) if value >= offered else warning(what, why, ask)
