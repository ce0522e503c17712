"""Configuration: provider.yaml and a few environment variables, as frozen values.

Read once, at the start; everything below gets the values it needs, not the file.
"""

from kip.config.load import load
from kip.config.problems import ConfigError, ConfigWarning, Problem
from kip.config.report import Report, check
from kip.config.schema.boot_image import BootImageSpec
from kip.config.schema.cells import Cells, KeptLogs, StandbyCell
from kip.config.schema.cloud import Aws, Cloud
from kip.config.schema.cluster import Cluster
from kip.config.schema.health import Health
from kip.config.schema.image_cache import ImageCacheController
from kip.config.schema.instance_types import InstanceTypes
from kip.config.schema.kubelet import Kubelet, ServingCertificate
from kip.config.schema.log import Log
from kip.config.schema.registries import EcrLogins
from kip.config.schema.settings import Settings

__all__ = [
    "Aws",
    "BootImageSpec",
    "Cells",
    "Cloud",
    "Cluster",
    "ConfigError",
    "ConfigWarning",
    "EcrLogins",
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
