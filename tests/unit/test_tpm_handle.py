"""The handle of a TPM key, and what of a TPM is in the settings."""

import pytest

from rolekey.config import resolve_settings
from rolekey.errors import ConfigurationError
from rolekey.options import Options
from rolekey.pin_source import PinSource
from rolekey.secret import Secret
from rolekey.tpm_handle import TPMHandle
from rolekey.tpm_settings import TPMSettings, resolve_tpm_settings

ARNS = {
    "trust_anchor_arn": "arn:aws:rolesanywhere:us-east-1:000000000000:trust-anchor/a",
    "profile_arn": "arn:aws:rolesanywhere:us-east-1:000000000000:profile/p",
    "role_arn": "arn:aws:iam::000000000000:role/r",
}


@pytest.mark.parametrize("text", ["handle:0x81010001", "handle:81010001", "handle:0X81010001", "handle:0x8101_0001"])
def test_handles(text):
    """A handle is eight hexadecimal digits, with 0x and without; it is written with it."""
    if "_" in text:
        with pytest.raises(ConfigurationError):
            TPMHandle.parse(text)
    else:
        assert str(TPMHandle.parse(text)) == "handle:0x81010001"


@pytest.mark.parametrize(
    "text",
    ["handle:", "handle:0x", "handle:0x8101000", "handle:0x810100010", "handle:0x40000001", "handle:0x80000000",
     "handle:0x82000000", "handle:0x01c00002", "handle:x", "handle:0x81010001:1", "handle: 0x81010001"],
)  # fmt: skip
def test_what_is_no_handle(text):
    """Anything but a persistent handle is refused, hierarchies and volatile handles among it."""
    with pytest.raises(ConfigurationError, match="not one of a persistent key") as caught:
        TPMHandle.parse(text)
    assert "handles-persistent" in caught.value.hint


def test_a_handle_is_a_key():
    """--private-key takes a handle beside a certificate; a certificate cannot be one."""
    settings = resolve_settings(Options(**ARNS, private_key="handle:81010001", certificate="a.pem"), {})
    assert settings.private_key == TPMHandle(0x81010001)
    for options in ({"certificate": "handle:81010001", "private_key": "a.key"}, {"private_key": "handle:81010001"}):
        with pytest.raises(ConfigurationError, match="keeps no certificate"):
            resolve_settings(Options(**ARNS, **options), {})


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ({}, {}, TPMSettings()),
        ({"tpm_tcti": "tabrmd"}, {"TPM2TOOLS_TCTI": "device"}, TPMSettings(tcti="tabrmd")),
        ({}, {"TPM2TOOLS_TCTI": "device"}, TPMSettings(tcti="device")),
        ({"tpm_tcti": ""}, {"TPM2TOOLS_TCTI": "", "TPM_DEVICE": "/dev/tpm0"}, TPMSettings(device="/dev/tpm0")),
        ({"tpm_key_password": Secret("a")}, {}, TPMSettings(key_password=Secret("a"))),
        ({"tpm_key_password": Secret("")}, {}, TPMSettings()),
        ({"no_tpm_key_password": True}, {}, TPMSettings(no_key_password=True)),
        (
            {"tpm_parent_password_source": "env:A"},
            {},
            TPMSettings(parent_password_source=PinSource("env", "A")),
        ),
    ],
)
def test_settings(options, environment, expected):
    """The option decides before the variable; what is empty is not there."""
    assert resolve_tpm_settings(Options(**options), environment) == expected


def test_a_source_that_is_none():
    """The source of a parent's password is checked as --pin-source is, under its own name, and not quoted."""
    with pytest.raises(ConfigurationError, match=r"^--tpm-parent-password-source names no source") as caught:
        resolve_tpm_settings(Options(tpm_parent_password_source="kAnAr1e"), {})
    assert "kAnAr1e" not in f"{caught.value.message} {caught.value.hint}"


def test_pin_source_for_a_plain_file(tmp_path):
    """The key's file decides whether --pin-source makes sense: for a TPM key it does."""
    settings = resolve_settings(Options(**ARNS, private_key=str(tmp_path / "a.key"), pin_source="env:A"), {})
    assert settings.pin_source == PinSource("env", "A")
