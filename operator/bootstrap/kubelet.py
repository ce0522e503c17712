"""The kubelet's configuration, its way to the operator, and the registry credentials it may use."""

from __future__ import annotations

import json
from typing import Any

from kip.bootstrap.layout import API_PORT, HELD_API_PORT, KUBELET_PORT, OPERATOR_CA, STATIC_PODS
from kip.bootstrap.options import BootstrapOptions

# As nodeadm writes them (nodeadm/internal/kubelet/image-credential-provider.go, 2026-07).
_ECR_IMAGES = (
    "*.dkr.ecr.*.amazonaws.com",
    "*.dkr-ecr.*.on.aws",
    "*.dkr.ecr.*.amazonaws.com.cn",
    "*.dkr-ecr.*.on.amazonwebservices.com.cn",
    "*.dkr.ecr-fips.*.amazonaws.com",
    "*.dkr-ecr-fips.*.on.aws",
    "*.dkr.ecr.*.c2s.ic.gov",
    "*.dkr.ecr.*.sc2s.sgov.gov",
    "*.dkr.ecr.*.cloud.adc-e.uk",
    "*.dkr.ecr.*.csp.hci.ic.gov",
    "*.dkr.ecr.*.amazonaws.eu",
    "public.ecr.aws",
    "ecr-public.aws.com",
)


def configuration(options: BootstrapOptions) -> str:
    """KubeletConfiguration, as JSON, for Kubernetes 1.33 to 1.37.

    Why each setting is not the default:

    - `contentType`: JSON is what the cell API can filter.
    - `address`, `authentication`, `authorization`: reached through the tunnel only, by the operator's client
      certificate; TokenReviews would go to the cell API, which has none.
    - `registerNode` and the two certificate settings: the Node is the operator's, and certificate requests would
      be made in its name.
    - `configMapAndSecretChangeDetectionStrategy`: single reads instead of a watch for each object, and cached
      values survive the operator's absence.
    - `WatchListClient`: a plain list and watch are what the cell API answers. (PodCertificateRequest and
      ClusterTrustBundleProjection, on by default from 1.37 on, cannot be turned off here: 1.33 knows only the latter,
      and a kubelet does not start with a gate that it does not know.)
    - `nodeLeaseDurationSeconds`: nobody looks at the cell's own lease; it is renewed at a quarter of this.
    - `makeIPTablesUtilChains`: for kube-proxy, which a cell has not.
    - `maxPods`: the pod, and static pods of the machine.
    - `nodeStatusUpdateFrequency`, on machines with GPUs only: a pod waits until the kubelet has reported its GPUs, and
      by default it looks at them each 10 s. Set, it would also be the `nodeStatusReportFrequency`: how often a status
      is sent in which nothing is new.
    """
    config: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "port": KUBELET_PORT,
        "readOnlyPort": 0,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": OPERATOR_CA},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "systemd",
        "clusterDNS": list(options.cluster_dns),
        "clusterDomain": options.cluster_domain,
        "configMapAndSecretChangeDetectionStrategy": "Cache",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "contentType": "application/json",
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "5%",
            "nodefs.inodesFree": "5%",
            "imagefs.available": "5%",
        },
        "featureGates": {"WatchListClient": False},
        "makeIPTablesUtilChains": False,
        "maxPods": 20,
        "nodeLeaseDurationSeconds": 3600,
        "registerNode": False,
        "rotateCertificates": False,
        "serializeImagePulls": False,
        "serverTLSBootstrap": False,
        "shutdownGracePeriod": f"{options.shutdown_grace_period_s}s",
    }
    if options.device_plugin_image is not None:
        config |= {
            "nodeStatusReportFrequency": "5m",
            "nodeStatusUpdateFrequency": "2s",
            "staticPodPath": STATIC_PODS,
        }
    return _json(config)


def kubeconfig() -> str:
    """The kubelet's way to its API; the boot script puts the cell's token in the place of `@TOKEN@`.

    The token goes into a proxy's address and not into `users`, because client-go reads no credentials for a server
    without TLS (clientcmd, `IsConfigTransportTLS`): it sends them as Proxy-Authorization, and keeps them out of every
    message. The proxy is the held port on the loopback, behind which the tunnel and the operator are.
    """
    cluster = {
        "server": f"http://127.0.0.1:{API_PORT}",
        "proxy-url": f"http://cell:@TOKEN@@127.0.0.1:{HELD_API_PORT}",
    }
    return _json(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "kip", "cluster": cluster}],
            "contexts": [{"name": "kip", "context": {"cluster": "kip"}}],
            "current-context": "kip",
        }
    )


def credential_providers() -> str:
    """CredentialProviderConfig for ECR; needs nothing but the machine's instance profile."""
    return _json(
        {
            "apiVersion": "kubelet.config.k8s.io/v1",
            "kind": "CredentialProviderConfig",
            "providers": [
                {
                    "name": "ecr-credential-provider",
                    "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
                    "matchImages": list(_ECR_IMAGES),
                    "defaultCacheDuration": "12h0m0s",
                }
            ],
        }
    )


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"
