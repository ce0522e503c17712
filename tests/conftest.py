"""What holds for every test: an environment of its own, and real cells only for root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_left_out = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Hides the user's clouds and clusters: no test may reach them, nor behave otherwise because of them."""
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    for name in [*os.environ]:
        if name.startswith("AWS_") or name == "KUBECONFIG":
            patch.delenv(name)
    # Without these the SDK reads ~/.aws, and asks an instance's metadata service for credentials.
    patch.setenv("AWS_CONFIG_FILE", os.devnull)
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what boots real cells unless we are root."""
    if os.geteuid() == 0:
        return
    cells = [item for item in items if item.get_closest_marker("e2e")]
    if cells:
        items[:] = [item for item in items if item not in cells]
        config.stash[_left_out] = len(cells)
        config.hook.pytest_deselected(items=cells)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says in one line what was left out."""
    if number := terminalreporter.config.stash.get(_left_out, 0):
        terminalreporter.write_line(
            f"{number} tests that boot real cells were left out: they need root", yellow=True
        )


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's top folder."""
    return Path(__file__).resolve().parent.parent
