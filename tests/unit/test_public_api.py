"""What a program imports, and what handing out credentials looks like."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest

import rolekey
from rolekey import errors
from rolekey.cli.ending import EXIT_CODES, exit_code
from rolekey.credentials import Credentials, format_timestamp
from rolekey.errors import RolekeyError, printable
from rolekey.vend.process import credential_process_json

CREDENTIALS = Credentials("ASIAEXAMPLE", "secret/+<>&é", "token==", datetime(2026, 1, 2, 3, 4, 5, 999999, tzinfo=UTC))
ALL_ERRORS = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, RolekeyError)]


def test_the_surface_is_small_and_real():
    """At most 15 names, each of which can be had, also a second time."""
    assert len(rolekey.__all__) <= 15
    for name in rolekey.__all__ * 2:
        assert getattr(rolekey, name).__class__.__name__ != "module"


def test_an_unknown_name():
    """A name that is not there is an AttributeError, as of any module."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = rolekey.nothing


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import rolekey", "cryptography pkcs11 requests click urllib3 boto3 dataclasses"),
        ("import rolekey; rolekey.boto3_session", "cryptography pkcs11 requests click urllib3 boto3 botocore uvicorn"),
        ("import rolekey.cli.main", "cryptography pkcs11 requests urllib3 boto3 uvicorn"),
        ("import rolekey.identity", "pkcs11 asn1crypto click requests uvicorn"),
        ("import rolekey.token_identity", "click requests uvicorn rolekey.tokens.writing"),
        ("import rolekey.create_session", "pkcs11 click uvicorn"),
    ],
)
def test_imports_are_lazy(statement, absent):
    """Importing a part of rolekey does not load what only other parts need."""
    code = f"{statement}; import sys; print(sorted(set({absent.split()!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_credential_process_document():
    """One JSON object in ASCII: the number 1 first, the five members in their order, nothing around them."""
    text = credential_process_json(CREDENTIALS)
    assert text.isascii()
    assert not any(c.isspace() for c in text)
    assert list(json.loads(text).items()) == [
        ("Version", 1),
        ("AccessKeyId", "ASIAEXAMPLE"),
        ("SecretAccessKey", "secret/+<>&é"),
        ("SessionToken", "token=="),
        ("Expiration", "2026-01-02T03:04:05Z"),
    ]


def test_timestamps_are_utc_without_fraction():
    """A moment in another zone is written in UTC, its fraction cut off, never rounded up."""
    there = timezone(timedelta(hours=5, minutes=30))
    assert format_timestamp(datetime(2026, 1, 1, 0, 0, 0, 999999, tzinfo=there)) == "2025-12-31T18:30:00Z"


def test_credentials_show_no_secret():
    """The repr of credentials has the public identifier and no secret."""
    assert "ASIAEXAMPLE" in repr(CREDENTIALS)
    assert "secret" not in repr(CREDENTIALS).replace("secret_access_key", "")
    assert "token==" not in repr(CREDENTIALS)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.ConfigurationError, 2),
        (errors.MissingExtraError, 2),
        (errors.ModuleError, 3),
        (errors.TokenNotFoundError, 3),
        (errors.KeyNotFoundError, 3),
        (errors.AmbiguousMatchError, 3),
        (errors.UnsupportedKeyError, 3),
        (errors.TokenOperationError, 3),
        (errors.TokenStateError, 3),
        (errors.PinRequiredError, 4),
        (errors.PinIncorrectError, 4),
        (errors.PinLockedError, 4),
        (errors.PinNotUsableError, 4),
        (errors.CertificateError, 5),
        (errors.TransportError, 6),
        (errors.DeadlineError, 6),
        (errors.CreateSessionError, 7),
        (errors.MalformedResponseError, 7),
        (errors.ListenError, 8),
        (errors.CredentialsFileError, 8),
    ],
)
def test_exit_codes(kind, code):
    """Every class that is raised has the exit code of the design."""
    assert exit_code(kind.__new__(kind)) == code


def test_every_error_has_an_exit_code():
    """No class of the tree is forgotten; the root itself is never raised."""
    assert len(ALL_ERRORS) > 20
    for kind in ALL_ERRORS:
        if kind is not RolekeyError:
            assert any(base in EXIT_CODES for base in kind.__mro__)


def test_every_error_stands_in_the_tree():
    """The tree in the module's docstring names every class."""
    assert errors.__doc__
    assert all(kind.__name__ in errors.__doc__ for kind in ALL_ERRORS)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢", "plain é 漢"),
        ("a\x1b[31mred\nb\x00\x7f\x9b", "a\\x1b[31mred\\nb\\x00\\x7f\\x9b"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("lone \udcff", "lone \\udcff"),
    ],
)
def test_texts_from_outside_are_printable(text, shown):
    """Escapes, line ends, NULs and bidirectional overrides reach no terminal; letters of any script do."""
    assert printable(text) == shown
    error = errors.TokenNotFoundError(text, hint=text)
    assert (str(error), error.hint) == (shown, shown)
