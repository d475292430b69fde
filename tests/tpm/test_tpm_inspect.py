"""`rolekey key list`, `key inspect` and --require-non-exportable on a TPM: keys of every origin, kept and in files."""

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from rolekey.deadline import Deadline
from rolekey.errors import SignerError, UnsupportedKeyError
from rolekey.signers.tpm_device import TPMDevice
from rolekey.signers.tpm_objects import persistent_handles
from rolekey.signers.tpm_public import FIXED_PARENT, FIXED_TPM
from rolekey.signers.tpm_tcti import TPMAddress
from rolekey.tss2_key import TSS2Key
from support.pki import key_to_pem, make_key, make_root
from support.process import GENEROUS, rolekey
from support.tpm_identity import identity_of
from support.tpm_keys import SIGNING, TPMKeys
from support.tss2_files import key_pem

CANNOT = "this key cannot leave the TPM"
DOUBT = "export cannot be ruled out: "


@pytest.fixture(scope="module")
def keys(swtpm):
    """What makes keys in the module's TPM."""
    return TPMKeys(swtpm, make_root())


def said(tpm, key, *more):
    """The lines of a success, by name; no password is needed."""
    outcome = rolekey("key", "inspect", key, "--tpm-tcti", tpm.tcti, "--timeout", GENEROUS, *more)
    assert (outcome.code, outcome.stderr) == (0, "")
    return dict(line.split(": ", 1) for line in outcome.stdout.splitlines())


@pytest.fixture
def keep(tpm):
    """Keeps a key in the TPM under a handle for a test."""
    handles = []

    def keep(handle):
        handles.append(handle)
        return handle

    yield keep
    for handle in handles:
        tpm.run("tpm2_evictcontrol", "--object-context", f"{handle:#x}")


@pytest.mark.parametrize(("algorithm", "kind"), [("ecc256", "EC secp256r1"), ("rsa2048", "RSA 2048")])
def test_made_in_the_tpm(tpm, keys, keep, algorithm, kind):
    """A key that was made in the TPM and is bound to it cannot leave it; its password is not asked for."""
    made = keys.by_tools(algorithm, password="secret", handle=keep(0x81010011))
    lines = said(tpm, made.private_key)
    assert lines == {
        "key": "handle:0x81010011",
        "type": kind,
        "in": f"TPM at {tpm.tcti}",
        "fixedTPM": "true",
        "fixedParent": "true",
        "sensitiveDataOrigin": "true",
        "verdict": CANNOT,
    }


def test_may_be_duplicated(tpm, keys, keep):
    """A key that may be duplicated to another parent or TPM: the verdict names both attributes."""
    made = keys.by_tools(attributes=SIGNING.replace("fixedtpm|fixedparent|", ""), handle=keep(0x81010012))
    assert said(tpm, made.private_key)["verdict"] == DOUBT + "fixedTPM is false, fixedParent is false"


def test_imported(tpm, keep):
    """A key that was brought in: the verdict says that the TPM did not make it."""
    (tpm.directory / "outside.pem").write_bytes(key_to_pem(make_key("p256")))
    tpm.run("tpm2_createprimary", "--key-context", "parent.ctx")
    words = ["--parent-context", "parent.ctx", "--public", "in.pub", "--private", "in.priv"]
    tpm.run("tpm2_import", *words, "--key-algorithm", "ecc", "--input", "outside.pem")
    tpm.flush()
    tpm.run("tpm2_load", *words, "--key-context", "in.ctx")
    tpm.run("tpm2_evictcontrol", "--object-context", "in.ctx", f"{keep(0x81010013):#x}")
    tpm.flush()
    verdict = said(tpm, "handle:0x81010013")["verdict"]
    assert verdict.startswith(DOUBT)
    assert "sensitiveDataOrigin is false" in verdict


@pytest.mark.parametrize("password", ["", "secret"])
def test_key_files(tpm, keys, password):
    """A TPM's key file is no file that holds the key; what it says is judged, without the TPM and its passwords."""
    for made in (keys.by_openssl("EC", "group:P-256", password=password), keys.by_tools(password=password)):
        lines = said(tpm, made.private_key, "--tpm-tcti", "device:/nowhere")
        assert lines["verdict"] == CANNOT
        assert lines["in"].startswith("file for a TPM (loadable), ")


def test_importable_file(tpm, keys):
    """A key that was wrapped elsewhere for this TPM can be wrapped for others."""
    lines = said(tpm, keys.importable(keys.storage_key(0x81000011)).private_key)
    assert lines["in"].startswith("file for a TPM (importable), ")
    assert lines["verdict"].startswith(DOUBT + "fixedTPM is false")


def test_no_such_key(tpm):
    """A handle under which there is nothing, and a TPM that is not there, are errors."""
    words = ("key", "inspect", "handle:0x810fffff", "--timeout", GENEROUS)
    rolekey(*words, "--tpm-tcti", tpm.tcti).failed(3, "handle:0x810fffff")
    rolekey(*words, "--tpm-tcti", "device:/nowhere").failed(3, "/nowhere")


# --- rolekey key list


def test_list(tpm, keys, keep):
    """Keys that the TPM keeps are listed with their handles and what they are good for; without one nothing is."""
    keys.by_tools(password="secret", handle=keep(0x81010016))
    keys.by_tools("rsa2048", handle=keep(0x81010017))
    keys.storage_key(keep(0x81000018))
    outcome = rolekey("key", "list", "--tpm-tcti", tpm.tcti, "--timeout", GENEROUS)
    assert outcome.code == 0, outcome.stderr
    lines = outcome.stdout.partition(f"TPM at {tpm.tcti}\n")[2].splitlines()
    rows = dict(zip(lines[::2], lines[1::2], strict=True))
    usable = ": with --certificate FILE: a TPM keeps no certificate for it"
    assert rows["  handle:0x81010016"] == "    EC secp256r1" + usable
    assert rows["  handle:0x81010017"] == "    RSA 2048" + usable
    assert "no: it is restricted" in rows["  handle:0x81000018"]
    assert "TPM" not in rolekey("key", "list", "--timeout", GENEROUS).stdout.replace("libtpm", "")


def test_list_many(tpm, keys, keep, monkeypatch):
    """None is left out, and none comes twice, where there are more than the TPM is asked for at once."""
    handles = [keep(0x81010020 + number) for number in range(3)]
    for handle in handles:
        keys.by_tools(handle=handle)
    monkeypatch.setattr("rolekey.signers.tpm_objects._HANDLES_AT_ONCE", 2)
    device = TPMDevice(TPMAddress.choose(tpm.tcti, None), Deadline(60), ())
    found = device.run("the TPM", persistent_handles)
    assert [handle for handle in found if handle in handles] == handles
    assert sorted(set(found)) == found


def test_list_of_a_tpm_that_is_not_there():
    """A TPM that is named and does not answer has its line."""
    shown = rolekey("key", "list", "--tpm-tcti", "device:/nowhere", "--timeout", GENEROUS).stdout
    assert "TPM at /nowhere\n  (no TPM answers at /nowhere" in shown


# --- --require-non-exportable


class Nobody:
    """Must not be asked."""

    def ask(self, question, opens):
        raise AssertionError(question, opens)

    def remind(self, text):
        """Nothing waits for anybody."""


@pytest.mark.parametrize("kept", [False, True], ids=["file", "handle"])
def test_required_and_used(tpm, keys, keep, kept):
    """A key that cannot leave the TPM is used where that is required."""
    made = keys.by_tools(handle=keep(0x81010014) if kept else None)
    with identity_of(tpm, made, require_non_exportable=True, no_tpm_key_password=True) as identity:
        made.public_key.verify(identity.signer.sign(b"message"), b"message", ec.ECDSA(hashes.SHA256()))
        assert identity.non_exportable


@pytest.mark.parametrize("kept", [False, True], ids=["file", "handle"])
def test_required_and_refused(tpm, keys, keep, kept):
    """One that may be duplicated is not, and its password is not asked for; nothing is loaded."""
    attributes = SIGNING.replace("fixedtpm|fixedparent|", "")
    made = keys.by_tools(attributes=attributes, password="secret", handle=keep(0x81010015) if kept else None)
    with pytest.raises(UnsupportedKeyError, match="export cannot be ruled out: fixedTPM is false"):
        identity_of(tpm, made, require_non_exportable=True, interaction=Nobody())


def test_required_of_an_importable_file(tpm, keys):
    """Nor is one that comes wrapped for this TPM."""
    made = keys.importable(keys.storage_key(0x81000012))
    with pytest.raises(UnsupportedKeyError, match="fixedTPM is false"):
        identity_of(tpm, made, require_non_exportable=True)


def test_a_file_that_does_not_tell_the_truth(tpm, keys):
    """A file that claims more than the key is passes the look at it, and the TPM does not sign with it."""
    made = keys.by_tools(attributes=SIGNING.replace("fixedtpm|fixedparent|", ""))
    path = Path(made.private_key)
    file = TSS2Key.parse(path.read_bytes(), "file")
    # TPMA_OBJECT stands after the size, the type and the nameAlg.
    bits = int.from_bytes(file.public[6:10]) | FIXED_TPM | FIXED_PARENT
    lie = file.public[:6] + bits.to_bytes(4) + file.public[10:]
    der = base64.b64decode("".join(path.read_text().splitlines()[1:-1]))
    assert der.count(file.public) == 1
    path.write_bytes(key_pem(der.replace(file.public, lie)))
    assert said(tpm, made.private_key)["verdict"] == CANNOT
    with identity_of(tpm, made, require_non_exportable=True) as identity, pytest.raises(SignerError, match="load"):
        identity.signer.sign(b"message")
