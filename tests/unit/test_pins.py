"""Where a PIN comes from: the first configured source decides, and what cannot be a PIN reaches no token."""

import logging
import os
import traceback

import pytest

from rolekey.cli.main import exit_code
from rolekey.errors import PinError, PinNotUsableError, PinRequiredError
from rolekey.pins import MAX_PIN_FILE_SIZE, NoInteraction, pin_from_uri, usable_pin
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.secret import Secret

CANARY = "hunter2-canary"


def uri(query: str) -> PKCS11URI:
    """A URI with a query."""
    return PKCS11URI.parse(f"pkcs11:token=t?{query}")


def from_file(path, form: str = "file:{}") -> Secret | None:
    """The PIN that a file gives."""
    return pin_from_uri(uri(f"pin-source={form.format(path)}"))


def refused(kind: type[PinError], *uris: PKCS11URI) -> PinError:
    """The error of a source, after checking that it has exit code 4, a remedy, and no PIN in its traceback."""
    with pytest.raises(kind) as caught:
        pin_from_uri(*uris)
    assert exit_code(caught.value) == 4
    assert CANARY not in "".join(traceback.format_exception(caught.value)) + caught.value.hint
    return caught.value


@pytest.mark.parametrize("uris", [(), (None,), (None, None), (PKCS11URI.parse("pkcs11:token=t"), None)])
def test_no_source(uris):
    """Without a source there is no PIN, and no error: somebody may be asked."""
    assert pin_from_uri(*uris) is None


def test_nobody_is_asked():
    """NoInteraction answers nothing to any question."""
    assert NoInteraction().ask("PIN: ") is None


@pytest.mark.parametrize(
    ("value", "pin"),
    [("1234", "1234"), ("%20a%26b%3B", " a&b;"), ("p%C3%A4ss", "p\u00e4ss"), ("a+b", "a+b")],
)
def test_pin_value(value, pin):
    """pin-value is decoded and otherwise taken as it is."""
    assert pin_from_uri(uri(f"pin-value={value}")) == Secret(pin)


def test_first_source_decides(tmp_path):
    """The first URI that names a source decides; the others are not even looked at."""
    (tmp_path / "pin").write_text("file")
    source, value = uri(f"pin-source=file:{tmp_path}/pin"), uri("pin-value=value")
    assert pin_from_uri(source, value) == Secret("file")
    assert pin_from_uri(value, source) == Secret("value")
    assert pin_from_uri(None, source) == Secret("file")
    assert pin_from_uri(PKCS11URI.parse("pkcs11:token=t"), value) == Secret("value")


def test_no_fallback(tmp_path):
    """A source that gives no PIN is an error, although the next URI has one."""
    assert refused(PinRequiredError, uri(f"pin-source=file:{tmp_path}/no"), uri("pin-value=1234"))
    assert refused(PinNotUsableError, uri("pin-value="), uri("pin-value=1234"))


@pytest.mark.parametrize(
    ("content", "pin"),
    [
        (b"1234", "1234"),
        (b"1234\n", "1234"),
        (b"1234\r\n", "1234"),
        (b" 12 34 \n", " 12 34 "),
        ("p\u00e4ss\n".encode(), "p\u00e4ss"),
        (b"1" * (MAX_PIN_FILE_SIZE - 1) + b"\n", "1" * (MAX_PIN_FILE_SIZE - 1)),
    ],
)
def test_file(content, pin, tmp_path):
    """The content of the file without one line end, and otherwise as it is."""
    (tmp_path / "pin").write_bytes(content)
    assert from_file(tmp_path / "pin") == Secret(pin)


SECOND_LINE = "holds a control character or a second line"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\r\n", "is empty"),
        (CANARY.encode() + b"\n\n", SECOND_LINE),
        (CANARY.encode() + b"\r\n\r\n", SECOND_LINE),
        (CANARY.encode() + b"\nsecond", SECOND_LINE),
        (b"\n" + CANARY.encode(), SECOND_LINE),
        (CANARY.encode() + b"\r", SECOND_LINE),
        (CANARY.encode() + b"\t", SECOND_LINE),
        (CANARY.encode() + b"\x00", SECOND_LINE),
        (CANARY.encode() + b"\x7f", SECOND_LINE),
        (b"\xef\xbb\xbf" + CANARY.encode() + b"\r\n", "starts with a byte order mark"),
    ],
)
def test_file_that_holds_no_pin(content, problem, tmp_path):
    """What cannot be a PIN is refused before a token counts it as a wrong try."""
    (tmp_path / "pin").write_bytes(content)
    error = refused(PinNotUsableError, uri(f"pin-source=file:{tmp_path}/pin"))
    assert error.message == f"the PIN from the URI's pin-source {problem}"
    assert "not sent to the token" in error.hint


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (CANARY.encode() + b"\xff", "is not UTF-8"),
        (CANARY.encode("utf-16"), "is not UTF-8"),
        ("p\u00e4ss".encode("latin-1"), "is not UTF-8"),
        (CANARY.encode() * MAX_PIN_FILE_SIZE, "is too large to hold a PIN"),
        (b"1" * (MAX_PIN_FILE_SIZE + 1), "is too large to hold a PIN"),
    ],
)
def test_file_of_another_kind(content, problem, tmp_path):
    """A file that is no PIN file is named, and nothing of it is shown."""
    (tmp_path / "pin").write_bytes(content)
    error = refused(PinNotUsableError, uri(f"pin-source=file:{tmp_path}/pin"))
    assert error.message == f"{tmp_path}/pin {problem}"


@pytest.mark.parametrize("form", ["file:{}", "file://{}", "file://localhost{}"])
def test_forms_of_a_file(form, tmp_path):
    """file:/x, file:///x and file://localhost/x name the same file (RFC 8089); blanks in it are escaped."""
    (tmp_path / "a pin").write_text("1234\n")
    assert from_file(str(tmp_path / "a pin").replace(" ", "%20"), form) == Secret("1234")


@pytest.mark.parametrize(
    "source",
    [
        "1234",
        "/etc/pin",
        "pin.txt",
        "file:",
        "file:/",
        "file:pin",
        "file:./pin",
        "file://",
        "file:///",
        "file://localhost",
        "file://localhost/",
        "file://elsewhere/etc/pin",
        "file://localhostile/etc/pin",
        "file:////etc/pin",
        "FILE:/etc/pin",
        "files:/etc/pin",
        "http://127.0.0.1/pin",
        "env:PIN",
        "%7C/bin/echo 1234",
        "prompt:",
    ],
)
def test_other_sources(source):
    """Only an absolute path on this machine is a source; a program, a URL, a bare PIN is none, and is not quoted."""
    error = refused(PinRequiredError, uri(f"pin-source={source}"))
    assert error.message == "the URI's pin-source is not of the form file:/absolute/path"
    assert "pin-source=file:/absolute/path" in error.hint


def test_missing_file(tmp_path):
    """A file that is not there is an error with its path and the system's reason."""
    error = refused(PinRequiredError, uri(f"pin-source=file:{tmp_path}/no"))
    assert error.message == f"cannot read the PIN from {tmp_path}/no: No such file or directory"


def test_directory(tmp_path):
    """So is a directory."""
    error = refused(PinRequiredError, uri(f"pin-source=file:{tmp_path}"))
    assert error.message == f"cannot read the PIN from {tmp_path}: Is a directory"


def test_pipe():
    """A PIN may come out of a pipe, such as a shell's <(...)."""
    reading, writing = os.pipe()
    os.write(writing, b"1234\n")
    os.close(writing)
    try:
        assert from_file(f"/dev/fd/{reading}") == Secret("1234")
    finally:
        os.close(reading)


@pytest.mark.parametrize("query", ["pin-value=" + CANARY, "pin-source=file:{}/pin"])
def test_log(query, tmp_path, caplog):
    """The trace says which source gave the PIN, not the PIN."""
    caplog.set_level(logging.DEBUG)
    (tmp_path / "pin").write_text(CANARY)
    assert pin_from_uri(uri(query.format(tmp_path))) == Secret(CANARY)
    assert f"PIN: {query[:9]}" in caplog.text
    assert "pkcs11:token=t" in caplog.text
    assert CANARY not in caplog.text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("a\nb", SECOND_LINE),
        ("\x03", SECOND_LINE),
        ("a\udcff", "is not UTF-8"),
        ("\ufeff1234", "starts with a byte order mark"),
    ],
)
def test_unusable_pin(text, problem):
    """What was typed or configured is refused by its looks, with its source and without the text."""
    with pytest.raises(PinNotUsableError) as caught:
        usable_pin(Secret(text), "the terminal")
    assert caught.value.message == f"the PIN from the terminal {problem}"


@pytest.mark.parametrize("text", ["1", "1234", " ", "p\u00e4ss", "a\u0301", "\U0001f511", "a\ufeff"])
def test_usable_pin(text):
    """Any other text is a PIN, and is handed back as it is."""
    assert usable_pin(Secret(text), "x").reveal() == text
