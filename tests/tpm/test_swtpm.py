"""swtpm as a rig: seen with tpm2-tools and OpenSSL, without rolekey."""

import subprocess

import pytest

from support.swtpm import SWTPM


def test_it_answers(tpm):
    """A TPM 2.0 is there, with nothing loaded."""
    assert "2.0" in tpm.run("tpm2_getcap", "properties-fixed")
    assert tpm.loaded() == ""


def test_what_is_left_behind_is_seen(tpm):
    """An object that stays loaded is found, and then gone."""
    tpm.run("tpm2_createprimary", "--key-context", "primary")
    with pytest.raises(AssertionError, match="0x80000000"):
        tpm.assert_clean()
    tpm.assert_clean()


def test_persistent_keys_outlast_the_power(tmp_path):
    """What was made persistent is there when the same TPM is switched on again, under the same port."""
    tpm = SWTPM(tmp_path)
    tpm.start()
    try:
        port = tpm.port
        tpm.run("tpm2_createprimary", "--key-context", "primary")
        tpm.run("tpm2_evictcontrol", "--object-context", "primary", "0x81000001")
        tpm.stop()
        tpm.start()
        assert tpm.port == port
        assert "0x81000001" in tpm.run("tpm2_getcap", "handles-persistent")
        assert tpm.loaded() == ""
    finally:
        tpm.stop()


def test_ports_of_others_are_left_alone(tpm, tmp_path):
    """A TPM whose port is taken ends, and does not count as there because another answers."""
    other = SWTPM(tmp_path)
    (tmp_path / "state").mkdir()
    assert not other._try_to_start(tpm.port)
    assert "Address already in use" in (tmp_path / "log").read_text()


def test_openssl_makes_and_uses_keys(tpm):
    """OpenSSL's provider makes a key in it and signs with it."""
    tpm.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "group:P-256", "-out", "key.pem")
    assert (tpm.directory / "key.pem").read_text().startswith("-----BEGIN TSS2 PRIVATE KEY-----")
    tpm.openssl("pkey", "-in", "key.pem", "-pubout", "-out", "public.pem")
    (tpm.directory / "message").write_bytes(b"message")
    tpm.openssl("dgst", "-sha256", "-sign", "key.pem", "-out", "signature", "message")
    verify = ["openssl", "dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "message"]
    done = subprocess.run(verify, cwd=tpm.directory, capture_output=True, text=True, check=False)
    assert done.stdout == "Verified OK\n"
