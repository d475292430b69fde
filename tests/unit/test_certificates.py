"""Reading certificates, judging them, and the path above them."""

import base64
import itertools
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from rolekey.certificates import (
    MAX_FILE_SIZE,
    check_end_entity,
    describe,
    issuer_chain,
    load_certificate,
    read_certificates,
)
from rolekey.errors import CertificateError
from rolekey.sigv4_x509 import certificate_headers
from support.null_parameters import with_null_parameters
from support.pki import make_root

VECTORS = Path(__file__).parents[1] / "vectors"
NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def authorities(depth):
    """A root and `depth` intermediates under it, outermost first."""
    return list(itertools.accumulate(range(depth), lambda above, _: above.issue_authority(), initial=make_root()))


def as_pem(der):
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


def test_pem_file_with_everything_in_it(tmp_path):
    """A PEM file may hold text, keys and several certificates: they come in the file's order."""
    intermediate = make_root().issue_authority()
    leaf = intermediate.issue(common_name="leaf")
    path = tmp_path / "full.pem"
    path.write_bytes(b"Bag Attributes\n" + leaf.key_pem + b"subject=leaf\n" + leaf.pem + intermediate.pem)
    assert read_certificates(path) == (leaf.certificate, intermediate.certificate)


def test_der_file(tmp_path):
    """A DER certificate is read as well."""
    leaf = make_root().issue()
    (tmp_path / "leaf.der").write_bytes(leaf.certificate.public_bytes(Encoding.DER))
    assert read_certificates(tmp_path / "leaf.der") == (leaf.certificate,)


def test_pkcs12_files_of_the_helper():
    """PKCS#12 files that the official helper reads are read: the certificate of the key comes first."""
    assert describe(read_certificates(VECTORS / "helper-chain-leaf-root-inter.p12")[0]) == "CN=leaf"
    assert len(read_certificates(VECTORS / "helper-rsa-emptypw-3des.p12")) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "holds no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n", "holds no certificate"),
        (b"\x30\x82\x01\x00garbage", "holds no certificate"),
        (b"A" * (MAX_FILE_SIZE + 1), "larger than 1 MiB"),
    ],
)
def test_files_without_a_certificate(tmp_path, content, words):
    """Whatever is wrong with the file is a CertificateError that names it."""
    path = tmp_path / "bad.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CertificateError, match=words) as caught:
        read_certificates(path)
    assert str(path) in caught.value.message


def test_a_directory_is_no_certificate(tmp_path):
    """A directory in place of a file is named as such."""
    with pytest.raises(CertificateError, match="Is a directory"):
        read_certificates(tmp_path)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"not_after": NOW - DAY, "not_before": NOW - 2 * DAY}, "expired on"),
        ({"not_before": NOW + DAY, "not_after": NOW + 2 * DAY}, "not valid before"),
        ({"ca": True}, "is a CA certificate"),
    ],
)
def test_unfit_end_entities(overrides, words):
    """Expired, not yet valid and CA certificates are refused by name."""
    leaf = make_root().issue(common_name="unfit", **overrides)
    with pytest.raises(CertificateError, match=f"CN=unfit.*{words}"):
        check_end_entity(leaf.certificate, NOW)


def test_fit_end_entities():
    """A valid certificate passes, with basicConstraints CA:FALSE or without any."""
    check_end_entity(make_root().issue().certificate, NOW)
    check_end_entity(make_root().issue(ca=None).certificate, NOW)


def test_a_subject_that_is_empty_is_described_by_the_serial_number():
    """An error about a certificate without a subject still says which one."""
    assert describe(make_root().issue(subject=x509.Name([]), serial=77).certificate) == "serial number 77"


def test_chain_from_any_order():
    """The path is leaf's issuer first, whatever the order; leaf, root and strangers are left out."""
    root, outer, inner = authorities(2)
    leaf = inner.issue().certificate
    stranger = make_root().issue_authority()
    everything = [leaf, root.certificate, outer.certificate, stranger.certificate, inner.certificate]
    for order in itertools.permutations(everything):
        assert issuer_chain(leaf, order) == (inner.certificate, outer.certificate)


def test_chain_without_the_first_issuer():
    """Without the leaf's own issuer there is no path, and nothing is sent in its place."""
    _, outer, inner = authorities(2)
    assert issuer_chain(inner.issue().certificate, [outer.certificate]) == ()


def test_chain_ignores_a_namesake():
    """A certificate with the issuer's name and another key is a stranger: signatures decide, not names."""
    real = make_root().issue_authority(common_name="Issuer")
    namesake = make_root().issue_authority(common_name="Issuer")
    leaf = real.issue().certificate
    assert issuer_chain(leaf, [namesake.certificate]) == ()
    assert issuer_chain(leaf, [namesake.certificate, real.certificate]) == (real.certificate,)


def test_chain_with_a_duplicate():
    """An issuer that is given twice is sent once."""
    _, issuer = authorities(1)
    assert issuer_chain(issuer.issue().certificate, [issuer.certificate] * 3) == (issuer.certificate,)


def test_chain_of_five_and_of_six():
    """Five intermediates are sent, six are an error: a path is never cut."""
    *_, five = path = authorities(6)
    leaf = path[5].issue().certificate
    assert len(issuer_chain(leaf, [a.certificate for a in path])) == 5
    with pytest.raises(CertificateError, match="6 intermediates"):
        issuer_chain(five.issue().certificate, [a.certificate for a in path])


def test_chain_with_a_cross_signed_authority():
    """Of a root and its cross-signed twin the twin is sent: only it leads on to the other root."""
    old_root = make_root(common_name="Old")
    new_root = make_root(common_name="New")
    cross = old_root.issue_authority(key=new_root.key, common_name="New")
    assert cross.certificate.subject == new_root.certificate.subject
    leaf = new_root.issue().certificate
    candidates = [new_root.certificate, cross.certificate, old_root.certificate]
    for order in itertools.permutations(candidates):
        assert issuer_chain(leaf, order) == (cross.certificate,)


def test_self_signed_leaf():
    """A self-signed certificate has no path above it."""
    root = make_root().certificate
    assert issuer_chain(root, [root]) == ()


@pytest.mark.rig("openssl")
def test_certificates_of_tpm2_openssl(tmp_path):
    """A CA and a leaf that tpm2-openssl signed, a NULL in each, load from PEM and DER as openssl reads them."""
    files = [VECTORS / "null-parameters" / name for name in ("ca.pem", "leaf.pem")]
    (ca,), (leaf,) = map(read_certificates, files)
    assert (describe(ca), describe(leaf), leaf.serial_number) == ("CN=CA in a TPM", "CN=machine", 4242)
    der = subprocess.run(
        ["openssl", "x509", "-in", files[1], "-outform", "DER"], capture_output=True, check=True
    ).stdout
    assert der.count(bytes.fromhex("300c06082a8648ce3d0403020500")) == 2
    assert leaf.public_bytes(Encoding.DER) == der
    (tmp_path / "leaf.der").write_bytes(der)
    assert read_certificates(tmp_path / "leaf.der") == (leaf,)
    check_end_entity(leaf, NOW)
    with pytest.raises(CertificateError, match="CN=CA in a TPM is a CA certificate"):
        check_end_entity(ca, NOW)


def test_null_parameters_are_sent_as_they_are(tmp_path):
    """One file with both kinds of certificates and a key: the order is the file's, and the originals are sent."""
    root, outer, inner = authorities(2)
    leaf = inner.issue()
    leaf_der = with_null_parameters(leaf.certificate, inner.key)
    outer_der = with_null_parameters(outer.certificate, root.key)
    path = tmp_path / "all.pem"
    path.write_bytes(b"text" + as_pem(outer_der) + leaf.key_pem + as_pem(leaf_der) + inner.pem)
    outer_found, leaf_found, inner_found = read_certificates(path)
    assert inner_found == inner.certificate
    headers = certificate_headers(leaf_found, issuer_chain(leaf_found, [outer_found, inner_found]))
    assert headers["X-Amz-X509"] == base64.b64encode(leaf_der).decode()
    chain = [base64.b64decode(text) for text in headers["X-Amz-X509-Chain"].split(",")]
    assert chain == [inner.der, outer_der]


def test_chains_with_null_parameters():
    """Wherever in the path a NULL is, the path is found, without a namesake of the issuer and without the root."""
    root, outer, inner = authorities(2)
    namesake = make_root(common_name="Test intermediate")
    issued = ((root, root), (outer, root), (inner, outer), (inner.issue(), inner), (namesake, namesake))
    pairs = [
        (each.certificate, load_certificate(with_null_parameters(each.certificate, by.key))) for each, by in issued
    ]
    for root_, outer_, inner_, leaf, stranger in itertools.product(*pairs):
        assert issuer_chain(leaf, [stranger, root_, outer_, leaf, inner_, inner_]) == (inner_, outer_)


@pytest.mark.parametrize("damage", ["signature", "content"])
def test_a_forged_signature_under_null_parameters(damage):
    """A NULL excuses nothing else: of a changed certificate, or one that another key signed, no issuer is found."""
    issuer = make_root().issue_authority()
    leaf = issuer.issue(common_name="leaf")
    der = with_null_parameters(leaf.certificate, make_root().key if damage == "signature" else issuer.key)
    certificate = load_certificate(der if damage == "signature" else der.replace(b"leaf", b"loaf"))
    assert issuer_chain(certificate, [issuer.certificate]) == ()


@pytest.mark.parametrize("parameters", ["0501", "0400", "0000"])
def test_other_parameters_than_null(tmp_path, parameters):
    """What is neither that NULL nor readable is refused as before; so is a certificate whose end is missing."""
    root = make_root()
    der = with_null_parameters(root.issue().certificate, root.key)
    null = bytes.fromhex("2a8648ce3d0403020500")
    assert der.count(null) == 2
    for number, damaged in enumerate((der.replace(null, null[:-2] + bytes.fromhex(parameters)), der[:-1])):
        path = tmp_path / f"{number}.der"
        path.write_bytes(damaged)
        with pytest.raises(CertificateError, match="holds no certificate that can be read"):
            read_certificates(path)
