"""docs/tutorial-windows.md, typed into cmd under Wine, and what SDKs make of a line of the config file on Windows.

moto is in the place of S3, STS and IAM, the emulator in that of Roles Anywhere.
"""

import json
import shutil
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from support import sdk_programs
from support.moto_server import running_moto
from support.service import ScriptedService, answer
from support.windows_page import Reader, read_blocks, substituted

PAGE = (Path(__file__).parents[3] / "docs" / "tutorial-windows.md").read_text(encoding="utf-8")
BLOCKS = read_blocks(PAGE)
ANCHOR = "arn:aws:rolesanywhere:us-east-1:123456789012:trust-anchor/11111111-2222-4333-8444-555555555555"
PROFILE = "arn:aws:rolesanywhere:us-east-1:123456789012:profile/66666666-7777-4888-8999-000000000000"
BUCKETS = [f"Bucket {number}: walkthrough-{number}" for number in (1, 2, 3)]


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    with running_moto(tmp_path_factory.mktemp("moto")) as url:
        yield url


@pytest.fixture
def folder(windows):
    """The page's folder, which is not there yet."""
    path = windows.home / "rolesanywhere"
    shutil.rmtree(path, ignore_errors=True)
    yield path
    shutil.rmtree(path)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


@pytest.mark.rig("moto", "openssl", "go")
def test_the_page(windows, moto, folder):
    """Every block for cmd runs, in order, and prints what the page shows.

    That is, the three buckets in the AWS CLI, boto3 and Go, with a line that has whole paths, and with one that
    `rolekey configure` wrote; the role's name has the certificate's serial number. The two commands of Roles Anywhere's
    own API send what the service takes.
    """
    account = ScriptedService(
        (answer(201, json.dumps({"trustAnchor": {"trustAnchorArn": ANCHOR}}).encode()),),
        (answer(201, json.dumps({"profile": {"profileArn": PROFILE}}).encode()),),
    )
    home = rf"C:\users\{windows.home.name}"
    here = {"http://127.0.0.1:5000": moto, "9912": free_port(), r"C:\Users\me": home}
    ran = 0
    with ExitStack() as stack:
        stack.enter_context(account)
        reader = Reader(windows, folder, account.url)
        for block in read_blocks(substituted(PAGE, here)):
            if block.how == "skip":
                continue
            ran += 1
            if block.how == "start":
                stack.enter_context(reader.start(block))
                continue
            if "walkthrough.exe" in block.body:
                shutil.copy(sdk_programs.WALKTHROUGH_FOR_WINDOWS, folder / "walkthrough.exe")
            printed = reader.type_in(block)
            assert block.matches(printed) or not block.output, f"{block.heading}: {printed}"
    assert ran == len(BLOCKS) - 2
    anchor, profile = account.requests
    assert anchor.request_line == "POST /trustanchors HTTP/1.1"
    certificate = (folder / "ca.pem").read_text(encoding="ascii")
    assert json.loads(anchor.body) == {
        "name": "tutorial-root-ca",
        "source": {"sourceType": "CERTIFICATE_BUNDLE", "sourceData": {"x509CertificateData": certificate}},
        "enabled": True,
    }
    assert profile.request_line == "POST /profiles HTTP/1.1"
    assert json.loads(profile.body) == {
        "name": "tutorial",
        "roleArns": ["arn:aws:iam::123456789012:role/tutorial"],
        "enabled": True,
    }


def test_powershell_says_the_same():
    """A block for PowerShell has the words of cmd's, and stands wherever PowerShell would read those otherwise."""
    with_powershell = [block for block in BLOCKS if block.powershell]
    assert len(with_powershell) > 10
    for block in with_powershell:
        assert block.commands_by_powershell == block.commands_by_words
    skipped = [block for block in BLOCKS if block.how == "skip"]
    assert [block.body for block in BLOCKS if block.wants_powershell and not block.powershell] == []
    assert len(skipped) == 2
