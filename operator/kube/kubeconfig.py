"""How to reach the API server: by the pod's service account or a kubeconfig, and in clear words when by neither."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from kubernetes_asyncio import client as k8s
from kubernetes_asyncio import config as k8s_config
from kubernetes_asyncio.config import ConfigException

_USUAL = "~/.kube/config"
_LIBRARY = "kubernetes_asyncio.config.kube_config"


async def load(kubeconfig: Path | None = None) -> k8s.Configuration:
    """From this kubeconfig; for None, from the pod's service account, else from $KUBECONFIG.

    Raises kubernetes_asyncio's ConfigException, whatever is wrong: a file, what is in it, or its exec plugin.
    """
    configuration = k8s.Configuration()
    if kubeconfig is None:
        try:
            k8s_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            return configuration
        except ConfigException:
            pass
    await _load_files(str(kubeconfig or os.environ.get("KUBECONFIG") or _USUAL), configuration)
    return configuration


async def _load_files(paths: str, configuration: k8s.Configuration) -> None:
    if not _some_exist(paths):
        raise ConfigException(f"there is no kubeconfig {paths}, and this is not a pod")
    try:
        with _quiet():
            await k8s_config.load_kube_config(paths, client_configuration=configuration)
    except FileNotFoundError as error:
        # Of a program, as the files of the certificates have a message of their own.
        raise ConfigException(
            f"kubeconfig {paths} wants {error.filename!r} run for credentials: not found"
        ) from error
    except OSError as error:
        raise ConfigException(f"kubeconfig {paths}: {error.filename}: {error.strerror}") from error
    except ConfigException as error:
        raise ConfigException(f"kubeconfig {paths}: {_plain(str(error))}") from error
    except yaml.YAMLError as error:
        raise ConfigException(f"kubeconfig {paths} is not YAML: {' '.join(str(error).split())}") from error
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ConfigException(f"kubeconfig {paths} cannot be used: {error}") from error


def _some_exist(paths: str) -> bool:
    """As with kubectl, one of several is enough."""
    return any(Path(path).expanduser().exists() for path in paths.split(os.pathsep) if path)


def _plain(message: str) -> str:
    """Of the library's sentences those that people meet often."""
    if "Expected key current-context" in message:
        return "it has no current context: kubectl config use-context NAME, or aws eks update-kubeconfig --name CLUSTER"
    if message.startswith("exec: "):
        return f"its program for credentials failed: {message.removeprefix('exec: ')}"
    return message.removeprefix("Invalid kube-config file. ")


@contextmanager
def _quiet() -> Iterator[None]:
    """The library logs what it raises, too: without a log it would be told twice."""
    logger = logging.getLogger(_LIBRARY)
    was, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was
