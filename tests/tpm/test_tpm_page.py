"""docs/tpm.md: what it shows works as it stands there, from an empty TPM to credentials."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.emulator import running_emulator
from support.pki import make_root
from support.tpm2_pkcs11_rig import find_tpm2_pkcs11

PAGE = (Path(__file__).parents[2] / "docs" / "tpm.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
pytestmark = pytest.mark.rig("swtpm", "emulator", "tpm2-pkcs11")


def test_four_commands():
    """The first block takes four commands from an empty TPM to credentials; every fenced block of the page is one."""
    assert len(BLOCKS[0].splitlines()) == 4
    assert len(BLOCKS) * 2 == PAGE.count("```")


def test_the_blocks_of_the_page(tpm, tmp_path):
    """Each block runs, in the page's order; rolekey prints credentials and nothing else, and leaves nothing loaded."""
    root = make_root()
    certificate, _ = root.write(tmp_path, "ca")
    given = 0
    with running_emulator(certificate) as emulator:
        environment = {
            **os.environ,
            **tpm.environment,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "OPTIONS": " ".join(emulator.arguments),
            "MODULE": str(find_tpm2_pkcs11()),
            "TPM2_PKCS11_TCTI": tpm.tcti,
        }
        for block in BLOCKS:
            before, rolekey, arguments = block.partition("rolekey credential-process")
            run(before, tmp_path, environment)
            if not rolekey:
                tpm.flush()  # tools leave keys loaded where there is no resource manager
                continue
            tpm.assert_clean()
            done = run(rolekey + arguments, tmp_path, environment)
            assert set(json.loads(done.stdout)) >= {"Version", "AccessKeyId", "SessionToken"}
            assert done.stderr == ""
            tpm.assert_clean()
            given += 1
    assert given == 3


def run(script, directory, environment):
    """Runs lines of a block as a shell does."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{script}: {done.stderr}"
    return done
