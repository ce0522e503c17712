"""A world whose Kip is installed as a user does it: by Helm or deploy.sh, as pods on an ordinary node."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Awaitable, Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from support.cluster import KubectlError, Object
from support.eks import ROLE
from support.world import LIVE, E2eWorld

from kip.cloud.sdk import Ec2Sdk, SdkSettings, open_ec2
from kip.local.provider import REGION
from kip.local.world import World

NAMESPACE = "kip"
NODE = "kip-provider-0"
_PATIENCE = 240.0  # seconds for one command


class InstalledWorld(E2eWorld):
    """The world, and the two ways to install Kip into it."""

    def __init__(self, world: World, project: Path, helm: Path, image: str) -> None:
        super().__init__(world)
        self._project, self._helm, self._image = project, helm, image
        self.cluster_name = f"kip-local-{world.name}"

    # Helm.

    def helm(self, *arguments: str, check: bool = True, **values: Any) -> subprocess.CompletedProcess[str]:
        """Runs helm with these values. Raises KubectlError unless it ends with 0 or `check` is false."""
        given = [f"--set-json={key.replace('__', '.')}={json.dumps(value)}" for key, value in values.items()]
        return self._run([str(self._helm), *arguments, f"--namespace={NAMESPACE}", *given], {}, check=check)

    def install(self) -> None:
        """`helm install`, with what a user of EKS has to say, and shorter waits for machines that never come."""
        repository, _, tag = self._image.rpartition(":")
        self.helm(
            *("install", "kip", str(self._project / "charts" / "kip"), "--create-namespace", *_WAIT),
            clusterName=self.cluster_name,
            region=REGION,
            vpcID=self.vpc_id,
            serviceAccount={"roleARN": ROLE},
            image={"repository": repository, "tag": tag},
            config=self.config(extraCIDRs=["192.0.2.0/24"]),
        )

    def upgrade(self, **values: Any) -> None:
        """`helm upgrade` to these values; the others stay."""
        self.helm(
            *("upgrade", "kip", str(self._project / "charts" / "kip"), "--reset-then-reuse-values", *_WAIT),
            **values,
        )

    def config(self, *, labels: Object | None = None, **cells: Any) -> Object:
        """More of provider.yaml: on EKS another signer signs for the node."""
        return {
            "cells": {"deadManSwitch": "10m", "connectTimeout": "40s", "startTimeout": "40s", **cells},
            "kubelet": {
                "servingCertificate": {"signerName": "kubernetes.io/kubelet-serving"},
                "labels": labels or {},
            },
            "log": {"format": "json"},
        }

    # deploy.sh.

    def deploy_sh(self, *arguments: str) -> str:
        """What the script says. Raises KubectlError unless it ends with 0."""
        repository, _, tag = self._image.rpartition(":")
        variables = {
            "CLUSTER_NAME": self.cluster_name,
            "USE_REGION": REGION,
            "KIP_SERVICE_ACCOUNT_ROLE_ARN": ROLE,
            "NAMESPACE": NAMESPACE,
            "IMAGE_REGISTRY": repository.removesuffix("/kip"),
            "IMAGE_TAG": tag,
            "VPC_ID": self.vpc_id,
            "NFS_VOLUME_ENDPOINT": f"fs-0123abcd.efs.{REGION}.amazonaws.com:/",
        }
        return self._run([str(self._project / "kustomize" / "deploy.sh"), *arguments], variables).stdout

    # What is there.

    @cached_property
    def vpc_id(self) -> str:
        """The world's VPC, as `aws ec2 describe-vpcs` shows it."""
        [vpc] = self._ec2(lambda sdk: sdk.describe_vpcs([]))
        return str(vpc["VpcId"])

    def _ec2(self, ask: Callable[[Ec2Sdk], Awaitable[list[Object]]]) -> list[Object]:
        settings = SdkSettings(
            region=REGION, endpoint_url=self.world.url("aws"), access_key_id="x", secret_access_key="x"
        )

        async def answer() -> list[Object]:
            async with open_ec2(settings) as sdk:
                return await ask(sdk)

        return asyncio.run(answer())

    def processes(self) -> list[Object]:
        """Kip's pods that run."""
        found = [p for p in self.list("pods", NAMESPACE) if _labelled(p, "kip")]
        return [p for p in found if not p["metadata"].get("deletionTimestamp")]

    def left(self, *, cells: bool = True) -> list[str]:
        """What an uninstalled Kip should not have left, in AWS and in the cluster; `cells`: their type is there."""
        left = [f"cell {cell['metadata']['name']}" for cell in (self.list("cells") if cells else ())]
        left += [f"node {NODE}" for _ in filter(None, [self.get("nodes", NODE)])]
        leases = [lease["metadata"]["name"] for lease in self.list("leases", "kube-node-lease")]
        left += [f"lease {name}" for name in leases if name.startswith("kip-provider-")]
        left += [
            f"instance {i['id']}" for i in self.aws.instances(*LIVE) if i["tags"].get("Name") != "node-0"
        ]
        left += [f"security group {name}" for name in self.security_groups() if name.startswith("kip-")]
        for kind in ("clusterroles", "clusterrolebindings", "roles", "rolebindings"):
            told = self.kubectl("get", kind, "-A", "-o", "name", "-l", "app.kubernetes.io/name=kip").stdout
            left += told.split()
        return left

    def security_groups(self) -> list[str]:
        """The names of all there are."""
        return [group["GroupName"] for group in self._ec2(lambda sdk: sdk.describe_security_groups([]))]

    def in_namespace(self) -> list[str]:
        """What is left in Kip's namespace but for what Kubernetes itself puts there."""
        kinds = (
            "pods,deployments,jobs,services,configmaps,secrets,serviceaccounts,leases,poddisruptionbudgets"
        )
        told = self.kubectl("get", kinds, "-n", NAMESPACE, "-o", "name", "--ignore-not-found").stdout.split()
        return [name for name in told if name not in ("configmap/kube-root-ca.crt", "serviceaccount/default")]

    def explain(self, namespace: str | None = None) -> str:
        """With the log of Kip's pods."""
        log = self.kubectl(
            *("logs", "-n", NAMESPACE, "-l", "app.kubernetes.io/name in (kip, kip-uninstall)"),
            *("--prefix", "--tail=25"),
            check=False,
        )
        pods = self.kubectl("describe", "pods", "-n", NAMESPACE, check=False).stdout
        return "\n".join(
            [super().explain(namespace), "--- Kip's pods:", pods[-3000:], log.stdout, log.stderr]
        )

    def _run(
        self, command: list[str], variables: dict[str, str], *, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, **variables}
        environment["PATH"] = f"{self.kubectl_program().parent}:{os.environ['PATH']}"
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=_PATIENCE,
            check=False,
        )
        if check and done.returncode != 0:
            told = f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
            raise KubectlError(f"{told}\n{self.explain()}")
        return done


_WAIT = ("--wait", "--timeout=3m")


def _labelled(o: Object, name: str) -> bool:
    return bool(o["metadata"].get("labels", {}).get("app.kubernetes.io/name") == name)
