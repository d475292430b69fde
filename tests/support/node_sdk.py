"""The JavaScript SDK of tests/interop/js, under Node 20 or newer. scripts/node-packages installs it."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parents[1] / "interop" / "js"
_OLDEST = 20


def can_run() -> bool:
    """Whether Node is new enough and the packages are those of package-lock.json."""
    node = shutil.which("node")
    if node is None:
        return False
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"v(\d+)\.", version)
    return found is not None and int(found[1]) >= _OLDEST and _installed() == _locked()


def _locked() -> dict[str, str]:
    return _packages(DIRECTORY / "package-lock.json")


def _installed() -> dict[str, str]:
    return _packages(DIRECTORY / "node_modules" / ".package-lock.json")


def _packages(lock: Path) -> dict[str, str]:
    if not lock.is_file():
        return {}
    packages = json.loads(lock.read_text())["packages"]
    return {name: package["version"] for name, package in packages.items() if name}


def find_credentials(provider: str, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """What the SDK finds.

    Args:
        provider: a name of @aws-sdk/credential-providers, such as fromInstanceMetadata.
        environment: the process's whole environment.

    Returns:
        The process; its stdout is one JSON document where it found something.
    """
    return subprocess.run(
        ["node", str(DIRECTORY / "credentials.mjs"), provider],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
