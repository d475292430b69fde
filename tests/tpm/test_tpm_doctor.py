"""`rolekey doctor` and keys in a TPM that are in order."""

import pytest

from support.emulator import running_emulator
from support.pki import make_root
from support.process import rolekey
from support.tpm_identity import password_file
from support.tpm_keys import TPMKeys

pytestmark = pytest.mark.rig("swtpm", "emulator")
PASSWORD = "correct horse"


@pytest.mark.parametrize("kind", ["file", "handle", "persistent parent"])
def test_healthy_tpm(tpm, tmp_path, kind):
    """With everything in order every line is ok, a password is sent once for --sign alone, and nothing stays loaded."""
    root = make_root()
    certificate, _ = root.write(tmp_path, "root")
    keys = TPMKeys(tpm, root)
    made = {
        "file": lambda: keys.by_openssl("EC", "group:P-256", password=PASSWORD),
        "handle": lambda: keys.by_tools(handle=0x81010011, password=PASSWORD),
        "persistent parent": lambda: keys.by_tools(parent=keys.storage_key(0x81000011), password=PASSWORD),
    }[kind]()
    with running_emulator(certificate) as emulator:
        words = [
            *("doctor", *emulator.arguments, "--tpm-tcti", tpm.tcti, "--trust-anchor", str(certificate)),
            *("--certificate", str(made.certificate), "--private-key", made.private_key),
            *("--pin-source", password_file(tmp_path, PASSWORD)),
        ]
        for more in ((), ("--sign",)):
            done = rolekey(*words, *more)
            assert done.code == 0, done.stdout
            assert {line.split()[0] for line in done.stdout.splitlines()} == {"ok"}, done.stdout
            assert "belongs to the certificate; this key cannot leave the TPM" in done.stdout
            assert len(emulator.granted) == len(more)
            tpm.assert_clean()


def test_a_password_of_no_use(tpm, tmp_path):
    """Without --sign a wrong password is not sent: the TPM counts nothing."""
    root = make_root()
    made = TPMKeys(tpm, root).by_tools(password=PASSWORD)
    tpm.reset_lockout()
    done = rolekey(
        *("doctor", "--tpm-tcti", tpm.tcti, "--certificate", str(made.certificate)),
        *("--private-key", made.private_key, "--pin-source", password_file(tmp_path, "wrong")),
    )
    assert "ok       PIN source: the PIN comes from the file " in done.stdout
    assert tpm.lockout_counter() == 0
