"""docs/boto3.md: its blocks run as they stand there, with the names and addresses of the test."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.aiobotocore import PYTHON
from support.emulator import running_emulator
from support.sdk import caller_identity_service, signed_with

PAGE = (Path(__file__).parents[2] / "docs" / "boto3.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
NAMES = {
    "{prefix}trust-anchor/TA_ID": "trust_anchor_arn",
    "{prefix}profile/PROFILE_ID": "profile_arn",
    "arn:aws:iam::111122223333:role/ROLE": "role_arn",
}
PREFIX = "arn:aws:rolesanywhere:eu-west-1:111122223333:"
ARN = "arn:aws:sts::000000000000:assumed-role/r/s\n"
SETTINGS_OF_THE_TEST = """
my_dialog, my_status_line = input, print
from pathlib import Path
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

class Signer:
    def sign(self, message, *, hash="sha256"):
        return key.sign(message, ec.ECDSA(hashes.SHA256()))

    def close(self):
        pass

signer = Signer()
key = load_pem_private_key(Path(FILE + ".key").read_bytes(), None)
certificate = x509.load_pem_x509_certificate(Path(FILE + ".pem").read_bytes())
chain = (x509.load_pem_x509_certificate(Path(INTERMEDIATE).read_bytes()),)
"""


@pytest.fixture
def run(provisioned_token):
    """Runs blocks of the page in one program; gives what it printed, and the keys of the calls."""

    def run(*blocks, python=sys.executable, after="", before=""):
        with running_emulator(provisioned_token.root) as emulator, caller_identity_service() as sts:
            program = before + "\n".join(blocks) + after
            for text, name in NAMES.items():
                program = program.replace(text.format(prefix=PREFIX), getattr(emulator, name))
            uri = re.search(r"pkcs11:[^\"]*", BLOCKS[0])[0]
            program = program.replace(uri, provisioned_token.uri("p-256"))
            environment = {
                **provisioned_token.environment,
                "PATH": "/usr/bin:/bin",
                "XDG_RUNTIME_DIR": str(provisioned_token.directory.parent),
                "AWS_ENDPOINT_URL_ROLESANYWHERE": emulator.url,
                "AWS_ENDPOINT_URL_STS": sts.url,
                "AWS_ENDPOINT_URL_S3": sts.url,
                "PKCS11_MODULE_PATH": str(provisioned_token.module),
            }
            # What the page leaves to the reader's token: the issuer between its certificate and the trust anchor.
            program = program.replace(
                "    private_key=", f"    intermediates={str(provisioned_token.intermediate)!r},\n    private_key="
            )
            done = subprocess.run(
                [python, "-W", "error", "-c", program], env=environment, capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stderr) == (0, ""), done.stderr
            return done.stdout, {signed_with(request)[0] for request in sts.requests} - {""}, emulator.granted

    return run


pytestmark = pytest.mark.rig("emulator", "softhsm")
CALL = '\nprint(session.client("sts", region_name="eu-west-1").get_caller_identity()["Arn"])\n'


def test_every_block_is_run():
    """The tests below know every block of the page."""
    assert len(BLOCKS) == 6


def test_the_session(run):
    """The program of the page calls AWS with credentials from the token, and its `except` is the one for a failure."""
    printed, used, granted = run(BLOCKS[0])
    assert (printed, used) == (ARN, set(granted))
    broken = BLOCKS[0].replace("object=mykey", "object=nokey").replace("print(", "# print(")
    printed, used, granted = run(broken, BLOCKS[1], before='import os; os.environ["PKCS11_MODULE_PATH"] = "/no.so"\n')
    assert "/no.so" in printed
    assert (used, granted) == (set(), [])


def test_the_other_ways(run, provisioned_token):
    """An interaction, a session that is there, and a key of one's own: each makes a call with the key's credentials."""
    file = provisioned_token.directory / "file" / "p-256"
    names = f"FILE = {str(file)!r}\nINTERMEDIATE = {str(provisioned_token.intermediate)!r}\n" + SETTINGS_OF_THE_TEST
    for block in (BLOCKS[2], BLOCKS[3], BLOCKS[4]):
        printed, used, granted = run(BLOCKS[0].replace("print(", "# print("), names, block, after=CALL)
        assert printed == ARN
        assert used == set(granted)
        assert len(granted) == 1


@pytest.mark.rig("aiobotocore")
def test_aiobotocore(run):
    """The asynchronous program does, too, in its environment."""
    options = BLOCKS[0].partition("session =")[0]
    printed, used, granted = run(options, BLOCKS[5], python=str(PYTHON))
    assert (printed, used) == (ARN, set(granted))
    assert len(granted) == 1
