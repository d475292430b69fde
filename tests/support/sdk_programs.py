"""The SDKs of docs/tutorial.md, each as a program without settings of its own: who am I, which buckets are there?"""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_INTEROP = Path(__file__).resolve().parents[1] / "interop"
ROLEKEY = Path(sys.executable).parent / "rolekey"
GO_PROGRAM = _INTEROP / "go" / "build" / "buckets"
#: The program of docs/tutorial-windows.md, for this machine and for Windows.
WALKTHROUGH = GO_PROGRAM.with_name("walkthrough")
WALKTHROUGH_FOR_WINDOWS = GO_PROGRAM.with_name("walkthrough.exe")

#: The rig that an SDK's program needs, by the SDK's name.
RIGS: Mapping[str, tuple[str, ...]] = {"boto3": (), "awscli": ("awscli",), "javascript": ("node",), "go": ("go",)}


def can_run_go() -> bool:
    """Whether scripts/go-programs has built the programs."""
    return all(program.is_file() for program in (GO_PROGRAM, WALKTHROUGH, WALKTHROUGH_FOR_WINDOWS))


def command_of(sdk: str) -> list[str]:
    """The words that start a program which asks STS who it is, and S3 for the buckets.

    Args:
        sdk: a key of `RIGS`.
    """
    programs = Path(sys.executable).parent
    return {
        "boto3": [sys.executable, str(_INTEROP / "python" / "buckets.py")],
        "awscli": ["sh", "-ec", '"$0" sts get-caller-identity; "$0" s3api list-buckets', str(programs / "aws")],
        "javascript": [shutil.which("node") or "node", "--no-warnings", str(_INTEROP / "js" / "buckets.mjs")],
        "go": [str(GO_PROGRAM)],
    }[sdk]


def run_sdk(sdk: str, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run the program.

    Args:
        sdk: a key of `RIGS`.
        environment: the process's whole environment.
    """
    return subprocess.run(
        command_of(sdk),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
