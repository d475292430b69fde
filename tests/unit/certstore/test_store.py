"""The way from a selector to a key in a certificate store; crypt32 and ncrypt are those of support/fake_windows."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from rolekey.certstore import native
from rolekey.certstore.codes import _CODES, error_of
from rolekey.config import resolve_settings
from rolekey.deadline import Deadline
from rolekey.errors import (
    AmbiguousMatchError,
    CertificateError,
    DeadlineError,
    KeyNotFoundError,
    PinIncorrectError,
    PinLockedError,
    PinRequiredError,
    RolekeyError,
    TokenNotFoundError,
    TokenOperationError,
    UnsupportedKeyError,
)
from rolekey.identity import found_certificate, open_identity
from rolekey.interaction import NoInteraction
from rolekey.options import Options
from rolekey.passphrases import Passphrases
from support.fake_windows import HARDWARE, SOFTWARE, FakeWindows
from support.pki import make_key, make_root

ARNS = {
    "trust_anchor_arn": "arn:aws:rolesanywhere:us-east-1:000000000000:trust-anchor/a",
    "profile_arn": "arn:aws:rolesanywhere:us-east-1:000000000000:profile/p",
    "role_arn": "arn:aws:iam::000000000000:role/r",
}
ROOT = make_root()
BELOW = ROOT.issue_authority()
NTE_SILENT_CONTEXT = 0x80090022


class Somebody:
    """As above, and no NoInteraction."""

    def ask(self, question, opens):
        raise AssertionError(question, opens)

    def remind(self, text):
        """Nothing is said."""


@pytest.fixture
def fake(monkeypatch):
    """Two places with an empty MY; what was held is given back at the end of each test."""
    fake = FakeWindows()
    for place in ("CurrentUser", "LocalMachine"):
        fake._stores[place, "MY"] = []
    fake.install(monkeypatch)
    yield fake
    fake.assert_nothing_held()


@pytest.fixture
def put(fake):
    """Issues a certificate and puts it into a store, with its key unless that is not wanted."""

    def put(name="machine", place="CurrentUser", *, store="MY", issuer=ROOT, key="p256", with_key=True, **overrides):
        issued = issuer.issue(key, common_name=name, **overrides)
        return fake.add(place, store, issued.certificate, issued.key if with_key else None)

    return put


def settings_of(**options):
    """Settings of a key in a store."""
    options = (
        options
        if {"system_store_name", "use_latest_expiring_certificate"} & set(options)
        else {"cert_selector": ""} | options
    )
    return resolve_settings(Options(**ARNS, **options), {})


def opened(interaction=None, **options):
    """The identity of a store."""
    return open_identity(settings_of(**options), interaction or Somebody(), Deadline(30))


def subject(name):
    """The selector of a common name."""
    return f"Key=x509Subject,Value=CN={name}"


# --- which certificate ---


def test_the_only_one(put):
    """Without a filter, the only certificate with a key is taken, in either place; those without a key do not count."""
    put("no key", with_key=False)
    put("other", "LocalMachine", with_key=False)
    entry = put(place="LocalMachine")
    with opened() as identity:
        assert identity.certificate == entry.certificate


@pytest.mark.parametrize("store", ["my", "MY", "Root", "ROOT", "Mine"])
def test_the_named_store(put, store):
    """--system-store-name names the store, in any case, and alone is enough."""
    entry = put(store=store)
    put(store="Another")
    with opened(system_store_name=store) as identity:
        assert identity.certificate == entry.certificate


def test_selectors(put):
    """Subject, issuer and serial number select together, to the letter."""
    wanted = put("a", issuer=BELOW)
    put("a")
    put("b", issuer=BELOW)
    issuer = f"Key=x509Issuer,Value=CN={wanted.certificate.issuer.rfc4514_string().removeprefix('CN=')}"
    serial = f"Key=x509Serial,Value={wanted.certificate.serial_number:x}"
    for selector in (f"{subject('a')} {issuer}", serial, f"{serial} {subject('a')} {issuer}"):
        with opened(cert_selector=selector) as identity:
            assert identity.certificate == wanted.certificate
    for selector in (subject("A"), subject("a,"), f"{serial} {subject('b')}"):
        with pytest.raises(KeyNotFoundError, match="no certificate with a private key"):
            opened(cert_selector=selector)


def test_a_selector_in_a_file(put, tmp_path):
    """file:// names a JSON file, which is read anew each time."""
    put("a")
    put("b")
    path = tmp_path / "selector.json"
    for name in ("a", "b"):
        path.write_text(f'[{{"Key": "x509Subject", "Value": "CN={name}"}}]')
        with opened(cert_selector=f"file://{path}") as identity:
            assert identity.certificate.subject.rfc4514_string() == f"CN={name}"


def test_several(put, fake):
    """Several are listed, none is taken, and each selector that is offered selects exactly one."""
    for place in ("CurrentUser", "LocalMachine"):
        put("a", place)
        put("b", place)
    with pytest.raises(AmbiguousMatchError, match=r"^4 certificates in the certificate store MY match: ") as caught:
        opened()
    assert len(caught.value.candidates) == 4
    found = set()
    for selector in caught.value.candidates:
        assert f'"{selector}"' in caught.value.hint
        with opened(cert_selector=selector) as identity:
            found.add(identity.certificate)
    assert len(found) == 4
    assert not fake.calls["NCryptSignHash"]


def test_the_same_serial_number(put):
    """Where two CAs gave the same serial number, the offered selectors name the issuer, too."""
    for issuer in (ROOT, BELOW):
        put("a", issuer=issuer, serial=0xABC)
    with pytest.raises(AmbiguousMatchError) as caught:
        opened()
    assert sorted("x509Issuer" in selector for selector in caught.value.candidates) == [True, True]
    for selector in caught.value.candidates:
        opened(cert_selector=selector).close()


def test_nothing_tells_them_apart(put):
    """Where names and serial number are the same, that is said, and no selector is offered."""
    for _ in range(2):
        put("a", serial=0xABC)
    with pytest.raises(AmbiguousMatchError, match="2 certificates") as caught:
        opened()
    assert caught.value.candidates == ()
    assert "no selector tells these apart" in caught.value.hint


def test_one_in_both_places(put, fake):
    """The same certificate in both places is one; the user's is taken if the store has its key, else the computer's."""
    entry = put()
    other = fake.add("LocalMachine", "MY", entry.certificate, entry.key)
    opened().close()
    entry.acquire_code = 0x80090016
    with pytest.raises(KeyNotFoundError, match=r"CurrentUser\\MY"):
        opened()
    entry.key = None
    with opened() as identity:
        identity.sign("text")
    assert other.key is not None


def test_the_latest(put):
    """--use-latest-expiring-certificate takes the one that expires last, of those that match."""
    now = datetime.now(UTC)
    days = {"a": 10, "b": 30, "c": 20}
    entries = {name: put(name, not_after=now + timedelta(days=n)) for name, n in days.items()}
    put("d", not_after=now + timedelta(days=40), with_key=False)
    with opened(use_latest_expiring_certificate=True) as identity:
        assert identity.certificate == entries["b"].certificate
    with opened(use_latest_expiring_certificate=True, cert_selector=subject("a")) as identity:
        assert identity.certificate == entries["a"].certificate


def test_two_latest(put):
    """Two that expire last at the same time are listed, and no other."""
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=9)
    put("a", not_after=end)
    put("b", not_after=end)
    put("c", not_after=end - timedelta(days=1))
    with pytest.raises(AmbiguousMatchError, match=r"^2 certificates") as caught:
        opened(use_latest_expiring_certificate=True)
    assert "--use-latest" not in caught.value.hint


def test_none(put):
    """A certificate whose key is elsewhere is named; a store that does not exist is no empty one."""
    put("a", with_key=False)
    with pytest.raises(KeyNotFoundError, match=r"no private key of CN=a in CurrentUser\\MY"):
        opened()
    with pytest.raises(KeyNotFoundError, match="no certificate store Mine"):
        opened(system_store_name="Mine")


def test_a_closed_store(put, fake):
    """A store of the computer that this user may not read hides nothing of the user's own; another failure is told."""
    put()
    fake.open_error = 5
    opened().close()
    fake.open_error = 1450
    with pytest.raises(TokenOperationError, match="open the certificate store MY"):
        opened()


@pytest.mark.parametrize("days", [-1, 1])
def test_validity(put, fake, days):
    """An expired certificate that matches is refused before its key is looked for."""
    put(not_before=datetime.now(UTC) - timedelta(days=3), not_after=datetime.now(UTC) + timedelta(days=days))
    if days > 0:
        opened().close()
        return
    with pytest.raises(CertificateError, match="expired"):
        opened()
    assert not fake.calls["CryptAcquireCertificatePrivateKey"]


@pytest.mark.parametrize(("place", "store"), [("CurrentUser", "CA"), ("LocalMachine", "CA"), ("CurrentUser", "MY")])
def test_the_chain(put, fake, place, store):
    """Issuers come from the stores for them and from the certificate's own; root and strangers are not sent."""
    second = BELOW.issue_authority()
    put(issuer=second)
    fake.add(place, store, second.certificate)
    fake.add("LocalMachine", "CA", BELOW.certificate)
    fake.add("LocalMachine", "CA", make_root().certificate)
    fake.add("CurrentUser", "Root", ROOT.certificate)
    with opened() as identity:
        assert identity.chain == (second.certificate, BELOW.certificate)


def test_without_the_key(put, fake):
    """What shows the certificate alone opens no key."""
    entry = put(issuer=BELOW)
    fake.add("CurrentUser", "CA", BELOW.certificate)
    settings = settings_of()
    found = found_certificate(settings, settings.certificate, Passphrases(settings, NoInteraction()), Deadline(30))
    assert found == (entry.certificate, [BELOW.certificate])
    assert not fake.calls["CryptAcquireCertificatePrivateKey"]


# --- the key ---


@pytest.mark.parametrize("caller_frees", [True, False])
def test_one_signature(put, fake, caller_frees):
    """One request is one NCryptSignHash, without one for the length; a handle that is Windows' is not freed."""
    entry = put()
    entry.caller_frees = caller_frees
    with opened() as identity:
        identity.sign("text")
    identity.close()
    assert fake.calls == {"CryptAcquireCertificatePrivateKey": 1, "NCryptSignHash": 1}


@pytest.mark.parametrize(
    ("interaction", "shows", "options", "quiet"),
    [
        (Somebody(), True, {}, False),
        (Somebody(), True, {"pin_source": "prompt"}, False),
        (NoInteraction(), True, {}, True),
        (Somebody(), False, {}, True),
        (Somebody(), True, {"pin_source": "none"}, True),
    ],
)
def test_who_is_asked(put, fake, interaction, shows, options, quiet):
    """A provider may ask in a window of its own only where somebody may be asked, and sees it."""
    put()
    fake.shows_windows = shows
    with opened(interaction, **options) as identity:
        identity.sign("text")
    ((acquire,), (sign,)) = fake.flags.values()
    assert bool(acquire & native.CRYPT_ACQUIRE_SILENT_FLAG) is quiet
    assert bool(sign & native.NCRYPT_SILENT_FLAG) is quiet
    assert acquire & native.CRYPT_ACQUIRE_COMPARE_KEY_FLAG
    assert acquire & native.CRYPT_ACQUIRE_ONLY_NCRYPT_KEY_FLAG


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (0x8010006B, PinIncorrectError),
        (0x8010006C, PinLockedError),
        (NTE_SILENT_CONTEXT, PinRequiredError),
        (0x8010006E, PinRequiredError),
        (0x80100069, TokenNotFoundError),
        (0x80090016, KeyNotFoundError),
        (0x80090010, TokenOperationError),
        (0x80090015, CertificateError),
        (0x80090029, UnsupportedKeyError),
        (0x8009FFFF, TokenOperationError),
    ],
)
@pytest.mark.parametrize("when", ["acquire_code", "sign_code"])
def test_failures(put, fake, when, code, kind):
    """What Windows answers is an error of its own kind, by name or number, after one attempt; nothing stays held."""
    setattr(put(), when, code)
    with pytest.raises(kind) as caught, opened() as identity:
        identity.sign("text")
    assert type(caught.value) is kind
    assert "CN=machine in CurrentUser\\MY" in caught.value.message
    assert caught.value.hint
    assert fake.calls["CryptAcquireCertificatePrivateKey"] == 1
    assert fake.calls["NCryptSignHash"] == (when == "sign_code")


@pytest.mark.parametrize("code", _CODES, ids=hex)
def test_every_code(code):
    """Each code that is known has its name and a remedy, on one line."""
    error = error_of(code, "sign")
    assert isinstance(error, RolekeyError)
    assert error.message.startswith("sign: ")
    assert f"({_CODES[code][0]})" in error.message
    assert _CODES[code][0].startswith(("NTE_", "SCARD_", "CRYPT_E_", "ERROR_", "E_"))
    assert error.hint
    assert "\n" not in error.message + error.hint


@pytest.mark.parametrize("code", [0x80090014, 0x80090029, 0])
@pytest.mark.parametrize("caller_frees", [True, False])
def test_a_key_of_cryptoapi(put, code, caller_frees):
    """A key that only CryptoAPI opens is refused by its provider's name, whether Windows refuses it or hands it out."""
    entry = put(key="rsa2048")
    entry.csp, entry.acquire_code, entry.caller_frees = "Old CSP", code, caller_frees
    with pytest.raises(UnsupportedKeyError, match="belongs to Old CSP, a provider of the older CryptoAPI"):
        opened()


def test_a_card_of_cryptoapi(put):
    """What concerns the card is told as it is, also of a provider of CryptoAPI."""
    entry = put(key="rsa2048")
    entry.csp, entry.acquire_code = "Old CSP", 0x8010000C
    with pytest.raises(TokenNotFoundError):
        opened()


def test_another_kind_of_key(put, fake):
    """A key that CNG has no signature of is refused before it is opened."""
    put(key="mldsa65")
    with pytest.raises(UnsupportedKeyError, match="neither an RSA key nor one on P-256"):
        opened()
    assert not fake.calls


def test_a_key_of_another_certificate(put):
    """A signature that does not verify with the certificate goes nowhere."""
    put().key = make_key("p256")
    with pytest.raises(CertificateError, match="does not belong"), opened() as identity:
        identity.sign("text")


def test_a_provider_that_hangs(put, fake, monkeypatch):
    """The deadline ends a signature that hangs; its handle is left to the process's end, not freed under it."""
    entry = put()
    entry.caller_frees = True
    waiting, goes_on = threading.Event(), threading.Event()
    real = fake.NCryptSignHash

    def hang(*arguments):
        waiting.set()
        goes_on.wait(30)
        return real(*arguments)

    monkeypatch.setattr(fake, "NCryptSignHash", hang)
    deadline = Deadline(30)
    identity = open_identity(settings_of(), Somebody(), deadline)
    deadline._end -= 29.8
    with pytest.raises(DeadlineError, match="the signature of the key of CN=machine"):
        identity.sign("text")
    assert waiting.is_set()
    identity.close()
    assert len(fake._keys) == 1
    goes_on.set()
    fake._keys.clear()
    fake._held.clear()


# --- --require-non-exportable ---


@pytest.mark.parametrize(
    ("kind", "policy", "doubts"),
    [
        (HARDWARE, 0, None),
        (HARDWARE | 0x10, 0, None),  # with its own random numbers
        (SOFTWARE, 0, "NCRYPT_IMPL_HARDWARE_FLAG is false, NCRYPT_IMPL_SOFTWARE_FLAG is true"),
        (HARDWARE | SOFTWARE, 0, "NCRYPT_IMPL_SOFTWARE_FLAG is true"),
        (HARDWARE, 1, "NCRYPT_ALLOW_EXPORT_FLAG is true"),
        (HARDWARE, 2, "NCRYPT_ALLOW_PLAINTEXT_EXPORT_FLAG is true"),
        (HARDWARE, 4, "NCRYPT_ALLOW_ARCHIVING_FLAG is true"),
        (HARDWARE, 8, "NCRYPT_ALLOW_PLAINTEXT_ARCHIVING_FLAG is true"),
        (None, 0, "NCRYPT_IMPL_HARDWARE_FLAG is not given, NCRYPT_IMPL_SOFTWARE_FLAG is not given"),
        (HARDWARE, None, "NCRYPT_ALLOW_EXPORT_FLAG is not given"),
    ],
)
def test_required(put, fake, kind, policy, doubts):
    """Only a key in hardware whose policy allows no export is used where that is required; software's word is none."""
    entry = put()
    entry.kind, entry.policy = kind, policy
    if doubts is None:
        with opened(require_non_exportable=True) as identity:
            assert identity.non_exportable
            identity.sign("text")
        return
    with pytest.raises(UnsupportedKeyError, match=doubts):
        opened(require_non_exportable=True)
    assert not fake.calls["NCryptSignHash"]
    opened().close()
