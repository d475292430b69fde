"""The pages that scripts/tutorial goes through, the quickstarts among them: real SDKs, moto and the emulator here."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SESSIONS = (
    "51a7c0de",
    "070c3a",
)  # the serial numbers of the page's two certificates: of the file's and the token's key
NAMES = ("boto3 ", "aws-cli/", "AWS SDK for JavaScript ", "AWS SDK for Go ", "rolekey.boto3_session, boto3 ")
BUCKETS = "".join(f"rolesanywhere-tutorial-{number}\n" for number in (1, 2, 3))


def run(directory, *words):
    """A script, with a place of its own for everything that it writes."""
    return subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(directory)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def still_running(directory):
    """The processes that were started by a script with this directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(directory).encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes())
        except OSError:  # another user's, or gone
            continue
    return found


@pytest.mark.rig("moto", "emulator", "softhsm", "openssl", "awscli", "node", "go")
def test_the_tutorial(tmp_path):
    """Every block runs and prints what the page shows.

    That is, with a key in a file and one in a token, for each of four SDKs and for boto3_session(): its name, the role
    that was assumed under the certificate's serial number, and the three buckets. Then three refusals. Nothing stays
    behind.
    """
    done = run(tmp_path, "scripts/tutorial")
    assert done.returncode == 0, done.stdout + done.stderr
    for session in SESSIONS:
        role = f"arn:aws:sts::123456789012:assumed-role/tutorial/{session}\n"
        for name in NAMES:
            assert re.search(rf"^{name}.*\n{role}{BUCKETS}", done.stdout, re.MULTILINE), (name, session)
    for refusal in (
        "(AccessDenied) when calling the ListObjectsV2 operation",
        "rolekey: error: AccessDeniedException: Untrusted signing certificate",
        "rolekey: error: AccessDeniedException: Unable to assume role for",
    ):
        assert done.stdout.count(refusal) == 1
    assert "BEGIN" not in done.stdout
    assert "SessionToken" not in done.stdout
    assert still_running(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "page",
    [
        pytest.param("quickstart-softhsm", marks=pytest.mark.rig("softhsm")),
        pytest.param("quickstart-tpm", marks=pytest.mark.rig("swtpm")),
    ],
)
@pytest.mark.rig("moto", "emulator", "openssl", "awscli")
def test_a_quickstart(page, tmp_path):
    """From an empty token or TPM to the role's name in the AWS CLI, by the page's own blocks; nothing stays behind."""
    done = run(tmp_path, "scripts/tutorial", page)
    assert done.returncode == 0, done.stdout + done.stderr
    # Once for credentials that are new, once out of the cache, and on the way there in nothing that the page shows.
    assert done.stdout.count("\narn:aws:sts::123456789012:assumed-role/quickstart/51a7c0de\n") == 2
    assert "\nverdict: this key cannot leave the " in done.stdout
    assert "\nok       signature: one signature, and credentials for " in done.stdout
    assert not re.search("^(warning|failed) ", done.stdout, re.MULTILINE)
    assert "PRIVATE KEY" not in done.stdout
    assert "SessionToken" not in done.stdout
    assert still_running(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_no_such_page(tmp_path):
    """A name that is no page's is refused before anything is installed or started."""
    done = run(tmp_path, "scripts/tutorial", "quickstart")
    assert done.returncode == 2
    assert done.stderr == "scripts/tutorial: no page is called quickstart\n"
    assert done.stdout == ""


@pytest.mark.rig("moto", "awscli")
def test_the_stand_in(tmp_path, monkeypatch):
    """A command in scripts/moto sees no AWS settings but the stand-in's, and its exit code is the script's.

    A policy is needed from the start: who has no key of the account's is refused.
    """
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "mine")
    ask = "env | grep ^AWS_ | cut -d= -f1 | sort; aws --profile admin iam list-users --query 'Users[].[UserName]'"
    strange = "AWS_ACCESS_KEY_ID=AKIASTRANGER AWS_SECRET_ACCESS_KEY=x aws s3api list-buckets"
    done = run(tmp_path, "scripts/moto", "sh", "-c", f"{ask} --output text; {strange} || exit 7")
    names = ("CONFIG_FILE", "DEFAULT_REGION", "ENDPOINT_URL", "REGION", "SHARED_CREDENTIALS_FILE")
    assert done.stdout.splitlines() == [*(f"AWS_{name}" for name in names), "admin"]
    assert "(InvalidAccessKeyId) when calling the ListBuckets operation" in done.stderr
    assert done.returncode == 7
    assert still_running(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
