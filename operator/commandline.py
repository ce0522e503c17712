"""Options that many commands have: the same name, and the same meaning."""

from __future__ import annotations

from pathlib import Path

import click

kubeconfig_option = click.option(
    "--kubeconfig",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Instead of the pod's service account or $KUBECONFIG.",
)
