"""What `rolekey key` makes, without hardware: names in a request, the files that are written, a TPM's key file."""

import stat

import pytest
from cryptography import x509

from rolekey.errors import ConfigurationError
from rolekey.keys.csr import RequestedName
from rolekey.keys.output import Output, is_file_name
from rolekey.tss2_key import OWNER, TSS2Key, loadable_pem


@pytest.mark.parametrize("subject", [None, "", "nonsense", "CN", "=a", "CN=a,,"])
def test_no_subject(subject):
    """A subject that is empty or no RFC 4514 string is refused."""
    with pytest.raises(ConfigurationError, match="--subject"):
        RequestedName.parse(subject, ())


@pytest.mark.parametrize(
    "text", ["", "web", ":web", "DNS:", "dns:web", "RID:1.2.3", "IP:web", "IP:10.0.0.0/8", "DNS:ü"]
)
def test_no_alternative_name(text):
    """A further name of an unknown kind, or that is none of its kind, is refused and not shown."""
    with pytest.raises(ConfigurationError, match="--san"):
        RequestedName.parse("CN=a", [text])


def test_names():
    """The names are those that were given, in their order."""
    parsed = RequestedName.parse("CN=web-1,O=Example", ["DNS:a.b", "IP:::1", "URI:spiffe://a/b", "email:a@b.c"])
    assert parsed.subject.rfc4514_string() == "CN=web-1,O=Example"
    assert [type(name) for name in parsed.alternatives] == [
        x509.DNSName,
        x509.IPAddress,
        x509.UniformResourceIdentifier,
        x509.RFC822Name,
    ]


@pytest.mark.parametrize("text", ["pkcs11:object=a", "PKCS11:object=a", " 'pkcs11:a", "handle:0x81000001", "file:///a"])
def test_no_file_name(text):
    """What looks like a URI or a handle is no file's name, so that a mistake never makes a file."""
    assert not is_file_name(text)
    with pytest.raises(ConfigurationError, match="is a URI or a handle"):
        Output.parse(text, "--out", force=True)


def test_new_file(tmp_path):
    """A new file has the mode that is wanted; one that comes in between is not overwritten."""
    output = Output.parse(str(tmp_path / "new"), "--out", force=False)
    (tmp_path / "new").write_text("somebody else's")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        output.write(b"mine", mode=0o600)
    assert (tmp_path / "new").read_text() == "somebody else's"
    (tmp_path / "new").unlink()
    output.write(b"mine", mode=0o600)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_forced_file(tmp_path):
    """With --force a file is replaced whole; a directory or a link is not."""
    path = tmp_path / "old"
    path.write_text("old")
    path.chmod(0o644)
    Output.parse(str(path), "--out", force=True).write(b"new", mode=0o600)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o600)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ConfigurationError, match="is no file"):
        Output.parse(str(tmp_path), "--out", force=True)


@pytest.mark.parametrize("empty_auth", [False, True])
@pytest.mark.parametrize("size", [10, 200, 900])
def test_tpm_key_file(empty_auth, size):
    """A key file that is written is read as what it was."""
    public, private = (size.to_bytes(2) + bytes([letter]) * size for letter in b"ab")
    key = TSS2Key.parse(loadable_pem(public, private, empty_auth=empty_auth), "file")
    assert (key.kind, key.parent, key.rsa_parent, key.policy) == ("loadable", OWNER, False, ())
    assert (key.public, key.private, key.empty_auth) == (public, private, empty_auth)
