"""Configuration: provider.yaml and a few environment variables, as frozen values.

Read once, at the start; everything below gets the values it needs, not the file.
"""

from kip.config.load import load
from kip.config.problems import ConfigError, ConfigWarning, Problem
from kip.config.report import Report, check
from kip.config.schema import (
    Aws,
    BootImageSpec,
    Cells,
    Cloud,
    Cluster,
    Health,
    ImageCacheController,
    InstanceTypes,
    KeptLogs,
    Kubelet,
    Log,
    ServingCertificate,
    Settings,
    StandbyCell,
)

__all__ = [
    "Aws",
    "BootImageSpec",
    "Cells",
    "Cloud",
    "Cluster",
    "ConfigError",
    "ConfigWarning",
    "Health",
    "ImageCacheController",
    "InstanceTypes",
    "KeptLogs",
    "Kubelet",
    "Log",
    "Problem",
    "Report",
    "ServingCertificate",
    "Settings",
    "StandbyCell",
    "check",
    "load",
]
