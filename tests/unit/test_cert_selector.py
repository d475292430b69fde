"""The official helper's selector: its own tests' texts, and what is refused."""

import json
from contextlib import suppress

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from rolekey.cert_selector import CertificateSelector, only_selectors
from rolekey.errors import ConfigurationError
from rolekey.go_name import go_name
from support.pki import make_root

# The first are those of aws_signing_helper 1.8.0's own tests (TestValidSelectorParsing), with a shorter serial number.
VALID = [
    (
        "Key=x509Subject,Value=CN=Subject Key=x509Issuer,Value=CN=Issuer Key=x509Serial,Value=15D1702D",
        CertificateSelector(subject="CN=Subject", issuer="CN=Issuer", serial=0x15D1702D),
    ),
    ("Key=x509Issuer,Value=CN=Issuer", CertificateSelector(issuer="CN=Issuer")),
    (
        "Key=x509Subject,Value=CN=CN With Trailing Spaces  ,O=O With Spaces Key=x509Issuer,Value=CN=Issuer",
        CertificateSelector(subject="CN=CN With Trailing Spaces  ,O=O With Spaces", issuer="CN=Issuer"),
    ),
    (
        "  \n  Key=x509Subject,Value=CN=a   \t   Key=x509Issuer,Value=CN=b \r\n",
        CertificateSelector(subject="CN=a", issuer="CN=b"),
    ),
    ("Key=x509Serial,Value=0aF", CertificateSelector(serial=0xAF)),
    ("Key=x509Serial,Value=-1", CertificateSelector(serial=-1)),
    ("Key=x509Subject,Value=CN=aKey=x509Serial,Value=1", CertificateSelector(subject="CN=a", serial=1)),
    ("", CertificateSelector()),
]
INVALID = [
    ("laksdjadf", "cannot be read"),
    ("Key=laksdjf,Valalsd", "cannot be read"),
    ("Key=aljsdf,Value=aljsdfadsf", "an unknown key"),
    ("Key=x509Subject,Value=Test Key=x509Subject,Value=Test", "has x509Subject twice"),
    ("Key=x509Subject,Value=Test Key=x509Issuer,Value=Test Key=x509Subject,Value=Test", "has x509Subject twice"),
    ("asdf Key=x509Subject,Value=Test", "cannot be read"),
    (" ", "cannot be read"),
    ("\n", "cannot be read"),
    ("Key=x509Subject,Value=", "cannot be read"),
    ("Key=x509Subject,Value=CN=a\nb", "cannot be read"),
    ("Key=x509Subject,Value=CN=Key=a", "cannot be read"),
    ("key=x509Subject,Value=CN=a", "cannot be read"),
    ("Key=x509subject,Value=CN=a", "an unknown key"),
    ("Key=x509Serial,Value=0x15D1", "not hexadecimal"),
    ("Key=x509Serial,Value=15:D1", "not hexadecimal"),
    ("Key=x509Serial,Value=15 D1", "not hexadecimal"),
    ("Key=x509Serial,Value=1_0", "not hexadecimal"),
    ("Key=x509Serial,Value=\u0661", "not hexadecimal"),
    ("Key=x509Serial,Value=1 Key=x509Serial,Value=1", "has x509Serial twice"),
    ("Key=x509Subject,Value=CN=a\u00a0Key=x509Serial,Value=g", "not hexadecimal"),
]


@pytest.mark.parametrize(("text", "selector"), VALID)
def test_valid(text, selector):
    """What the official helper takes is taken, and means the same."""
    assert CertificateSelector.parse(text) == selector


@pytest.mark.parametrize(("text", "says"), INVALID)
def test_invalid(text, says):
    """What it refuses is refused, and so is a serial number that is none; one line says what, one how to write it."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        CertificateSelector.parse(text)
    assert caught.value.message.startswith("--cert-selector")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("content", "selector"),
    [
        ([{"Key": "x509Subject", "Value": "CN=a"}], CertificateSelector(subject="CN=a")),
        ([{"KEY": "x509Serial", "value": "ff", "more": 1}], CertificateSelector(serial=255)),
        (
            [{"Key": "x509Subject", "Value": " Key=,\n"}, {"Key": "x509Issuer", "Value": "i"}],
            CertificateSelector(subject=" Key=,\n", issuer="i"),
        ),
        ([], CertificateSelector()),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_files(tmp_path, content, selector, mark):
    """A JSON array says the same, in Go's reading of names; a value may be anything there."""
    path = tmp_path / "selector.json"
    path.write_text(mark + json.dumps(content), encoding="utf-8")
    assert CertificateSelector.read(path) == selector


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is no selector"),
        (b"not JSON", "is no selector"),
        (b"null", "is no selector"),
        (b'{"Key": "x509Subject", "Value": "a"}', "is no selector"),
        (b'["x509Subject"]', "is no selector"),
        (b'[{"Key": "x509Subject", "Value": 1}]', "is no selector"),
        (b'[{"Key": "x509Subject", "Value": null}]', "is no selector"),
        ("null".encode("utf-16"), "is no selector"),
        (b"[" * 100_000, "is no selector"),
        (b'[{"Key": "x509Subject", "Value": ""}]', "has an empty value"),
        (b'[{"Value": "a"}]', "has an unknown key"),
        (b'[{"Key": "x509Subject", "Value": "a"}, {"Key": "x509Subject", "Value": "a"}]', "twice"),
        (b'[{"Key": "x509Serial", "Value": "0x1"}]', "not hexadecimal"),
        (None, "cannot read the selector file"),
    ],
)
def test_invalid_files(tmp_path, content, says):
    """A file that is none is an error that names it, whatever is in it."""
    path = tmp_path / "selector.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=says) as caught:
        CertificateSelector.read(path)
    assert "selector.json" in caught.value.message
    assert caught.value.hint


VALUES = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(VALUES, VALUES, st.integers(0, 2**160))
def test_round_trip(subject, issuer, serial):
    """A selector that is written is read as the same again, or its text is refused: it is never read as another."""
    selector = CertificateSelector(subject=subject, issuer=issuer, serial=serial)
    try:
        read = CertificateSelector.parse(str(selector))
    except ConfigurationError:
        assert "Key=" in subject + issuer or any(value.strip(" \t\f\r") == "" for value in (subject, issuer))
        return
    is_plain = all("Key=" not in value and value == value.strip(" \t\f\r") for value in (subject, issuer))
    assert read == selector or not is_plain


@given(st.text(max_size=60))
def test_any_text(text):
    """Every text is a selector or a ConfigurationError."""
    with suppress(ConfigurationError):
        assert isinstance(CertificateSelector.parse(text), CertificateSelector)


def test_selects():
    """Subject and issuer are compared to the letter, and the serial number as a number."""
    root = make_root()
    certificate = root.issue(common_name="machine").certificate
    issuer = go_name(root.certificate.subject)
    assert CertificateSelector().selects(certificate)
    assert CertificateSelector(subject="CN=machine", issuer=issuer, serial=certificate.serial_number).selects(
        certificate
    )
    for wrong in ({"subject": "CN=Machine"}, {"issuer": "CN=machine"}, {"serial": certificate.serial_number + 1}):
        assert not CertificateSelector(**wrong).selects(certificate)


@pytest.mark.parametrize("name", [" a", "a Key=x509Serial,Value=1", "a,b+c", "ünd", "a\nb", "#"])
def test_only_selectors(name):
    """What is offered can be pasted: it is read as a selector of that certificate alone, or not offered."""
    root, other = make_root(), make_root()
    common = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificates = [issuer.issue(serial=7, subject=common).certificate for issuer in (root, other)]
    certificates.append(root.issue(serial=7, common_name="plain").certificate)
    for text in only_selectors(certificates, certificates):
        selector = CertificateSelector.parse(text)
        assert sum(map(selector.selects, certificates)) == 1
    (plain,) = only_selectors(certificates[2:], certificates)
    assert "CN=plain" in plain
    assert only_selectors(certificates[:1], certificates[:1]) == ("Key=x509Serial,Value=7",)
