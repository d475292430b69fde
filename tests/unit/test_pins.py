"""Where a PIN comes from: the first configured source decides, and what cannot be a PIN reaches no token."""

import logging
import os
import subprocess
import sys
import traceback

import pytest

from rolekey.cli.ending import exit_code
from rolekey.errors import ConfigurationError, PinError, PinNotUsableError, PinRequiredError
from rolekey.interaction import NoInteraction
from rolekey.pin_files import MAX_PIN_FILE_SIZE
from rolekey.pin_source import PinSource
from rolekey.pins import (
    KeptPin,
    Pin,
    PinReader,
    claim_descriptor,
    record_directories,
    state_directory,
    usable_pin,
)
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.secret import Secret

CANARY = "hunter2-canary"


@pytest.fixture(autouse=True)
def _own_files():
    """The PIN files of these tests are their owner's alone, unless a test says otherwise."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def pin_from_uri(*uris: PKCS11URI | None) -> Secret | None:
    """The PIN that URIs configure."""
    pin = PinReader(None, *uris).read()
    return pin.secret if pin else None


def pin_from(source: str, **options: bool) -> Pin | None:
    """The PIN that a --pin-source gives, beside a URI with another one."""
    return PinReader(PinSource.parse(source), uri("pin-value=other"), **options).read()


def uri(query: str) -> PKCS11URI:
    """A URI with a query."""
    return PKCS11URI.parse(f"pkcs11:token=t?{query}")


def from_file(path, form: str = "file:{}") -> Secret | None:
    """The PIN that a file gives."""
    return pin_from_uri(uri(f"pin-source={form.format(path)}"))


def refused(kind: type[PinError], *uris: PKCS11URI, source: str | None = None, **options: bool) -> PinError:
    """The error of a source, after checking that it has exit code 4, a remedy, and no PIN in its traceback."""
    reader = PinReader(PinSource.parse(source) if source else None, *uris, **options)
    with pytest.raises(kind) as caught:
        reader.read()
    assert exit_code(caught.value) == 4
    assert CANARY not in "".join(traceback.format_exception(caught.value)) + caught.value.hint
    return caught.value


@pytest.mark.parametrize("uris", [(), (None,), (None, None), (PKCS11URI.parse("pkcs11:token=t"), None)])
def test_no_source(uris):
    """Without a source there is no PIN, and no error: somebody may be asked."""
    assert pin_from_uri(*uris) is None


def test_nobody_is_asked():
    """NoInteraction answers nothing to any question."""
    assert NoInteraction().ask("PIN: ", "token") is None


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
    assert error.message == f"the PIN from the file {tmp_path}/pin {problem}"
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


def test_pipe(tmp_path):
    """A named pipe is no file, whoever writes to it or not; fd:N is named for pipes."""
    os.mkfifo(tmp_path / "pin")
    error = refused(PinRequiredError, uri(f"pin-source=file:{tmp_path}/pin"))
    assert error.message == f"cannot read the PIN from {tmp_path}/pin: not a regular file"
    assert "fd:N" in error.hint


@pytest.mark.parametrize("query", ["pin-value=" + CANARY, "pin-source=file:{}/pin"])
def test_log(query, tmp_path, caplog):
    """The trace says which source gave the PIN, not the PIN."""
    caplog.set_level(logging.DEBUG)
    (tmp_path / "pin").write_text(CANARY)
    assert pin_from_uri(uri(query.format(tmp_path))) == Secret(CANARY)
    assert "PIN: from the " in caplog.text
    assert CANARY not in caplog.text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("a\nb", SECOND_LINE),
        ("\x03", SECOND_LINE),
        ("\x9b31m", SECOND_LINE),
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


# --- who may read the file ---


@pytest.mark.parametrize("form", ["--pin-source", "the URI"])
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700, 0o640, 0o440, 0o620, 0o604, 0o606, 0o644, 0o666, 0o601])
@pytest.mark.parametrize("group", [False, True])
def test_mode_of_a_file(form, mode, group, tmp_path):
    """A file that others can get at is refused, also the URI's; the group's reading alone can be allowed."""
    path = tmp_path / "pin"
    path.write_text("1234")
    path.chmod(mode)
    source, uris = (f"file:{path}", ()) if form == "--pin-source" else (None, (uri(f"pin-source=file:{path}"),))
    if mode & 0o077 == 0 or (group and mode & 0o077 == 0o040):
        pin = PinReader(PinSource.parse(source) if source else None, *uris, group_readable=group).read()
        assert pin is not None
        assert pin.secret == Secret("1234")
    else:
        error = refused(PinNotUsableError, *uris, source=source, group_readable=group)
        assert error.message.startswith(f"{path} is not used: it has mode {mode:04o}")
        assert "chmod 600" in error.hint


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root gives files away")
def test_owner_of_a_file(tmp_path):
    """A file of another user is refused, whatever its mode: that user can change the PIN in it."""
    path = tmp_path / "pin"
    path.write_text("1234")
    os.chown(path, 1, 1)
    assert "belongs to user 1" in refused(PinNotUsableError, source=f"file:{path}").message


def test_link_to_a_file(tmp_path):
    """A symbolic link is followed, and the file that it leads to is checked; what is noted is the link's name."""
    path, link = tmp_path / "pin", tmp_path / "link"
    path.write_text("1234")
    link.symlink_to(path)
    pin = pin_from(f"file:{link}")
    assert pin is not None
    assert pin.source.name == str(link)
    assert pin.source.version[1] == path.stat().st_ino
    path.chmod(0o644)
    refused(PinNotUsableError, source=f"file:{link}")


def test_version_of_a_file(tmp_path, monkeypatch):
    """What is noted of a file is device, inode, size and times, and its absolute path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pin").write_text("1234\n")
    pin, status = pin_from("file:pin"), (tmp_path / "pin").stat()
    expected = (status.st_dev, status.st_ino, 5, status.st_mtime_ns, status.st_ctime_ns)
    assert pin == Pin(Secret("1234"), PinSource("file", str(tmp_path / "pin"), expected))


# --- the other sources ---


def test_variable(monkeypatch):
    """env:NAME is read once, and gone from the environment before the PIN is needed: no child inherits it."""
    monkeypatch.setenv("ROLEKEY_TEST_PIN", CANARY)
    reader = PinReader(PinSource.parse("env:ROLEKEY_TEST_PIN"))
    assert "ROLEKEY_TEST_PIN" not in os.environ
    child = [sys.executable, "-c", "import os; print(dict(os.environ))"]
    assert CANARY not in subprocess.run(child, check=True, capture_output=True, text=True).stdout
    assert reader.read() == reader.read() == Pin(Secret(CANARY), PinSource("env", "ROLEKEY_TEST_PIN"))
    error = refused(PinRequiredError, source="env:ROLEKEY_TEST_PIN")
    assert error.message == "the variable ROLEKEY_TEST_PIN, which --pin-source names, is not set"


@pytest.mark.parametrize("value", ["", "a\nb", CANARY + "\n"])
def test_variable_that_holds_no_pin(value, monkeypatch):
    """A variable is taken as it is, without removing a line end."""
    monkeypatch.setenv("ROLEKEY_TEST_PIN", value)
    assert refused(PinNotUsableError, source="env:ROLEKEY_TEST_PIN")


@pytest.mark.parametrize("content", [b"1234", b"1234\n"])
def test_descriptor(content):
    """fd:N reads a pipe to its end; no child inherits the descriptor."""
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    os.write(writing, content)
    os.close(writing)
    try:
        claim_descriptor(f"fd:{reading}")
        assert not os.get_inheritable(reading)
        assert pin_from(f"fd:{reading}") == Pin(Secret("1234"), PinSource("fd", str(reading)))
        assert refused(PinNotUsableError, source=f"fd:{reading}").message.endswith("is empty")
    finally:
        os.close(reading)


def test_descriptor_that_is_not_open():
    """A descriptor that nobody opened is an error before anything of ours can get its number."""
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    with pytest.raises(PinRequiredError) as caught:
        claim_descriptor(f"fd:{reading}")
    assert caught.value.message == f"file descriptor {reading}, which --pin-source names, is not open"
    assert "Bad file descriptor" in refused(PinRequiredError, source=f"fd:{reading}").message


@pytest.mark.parametrize("text", [None, "", "file:3", "fd:", "fd:x", "env:fd"])
def test_no_descriptor_to_claim(text):
    """Whatever is no fd:N is left to the parser of sources."""
    claim_descriptor(text)


def test_credential(tmp_path, monkeypatch):
    """systemd:NAME is a file in $CREDENTIALS_DIRECTORY, whose modes show an access list; it is noted by name alone."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "hsm-pin").write_text("1234\n")
    (tmp_path / "hsm-pin").chmod(0o440)
    assert pin_from("systemd:hsm-pin") == Pin(Secret("1234"), PinSource("systemd", "hsm-pin"))
    assert f"{tmp_path}/other" in refused(PinRequiredError, source="systemd:other").message
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert "CREDENTIALS_DIRECTORY is not set" in refused(PinRequiredError, source="systemd:hsm-pin").message


@pytest.mark.parametrize("source", ["prompt", "none"])
def test_no_reading(source):
    """`prompt` and `none` give no PIN by themselves, and keep the URI's from being used."""
    assert pin_from(source) is None


def test_named_source_decides(tmp_path):
    """--pin-source decides before the URI, also when it gives no PIN."""
    (tmp_path / "pin").write_text("1234")
    pin = pin_from(f"file:{tmp_path}/pin")
    assert pin is not None
    assert pin.secret == Secret("1234")
    refused(PinRequiredError, uri("pin-value=other"), source=f"file:{tmp_path}/no")


@pytest.mark.parametrize(
    "text",
    [
        "",
        CANARY,
        "1234",
        "file:",
        "file",
        "fd:",
        "fd:1",
        "fd:2",
        "fd:-1",
        "fd:03",
        "fd:3x",
        "env:",
        "env:1A",
        "env:A B",
        "systemd:",
        "systemd:..",
        "systemd:a/b",
        "prompt:",
        "none:x",
        "keyring:x",
        "File:/etc/pin",
        f"|echo {CANARY}",
        f"pin-value:{CANARY}",
    ],
)
def test_bad_source(text):
    """What is no source is refused and not quoted: it may be a PIN."""
    with pytest.raises(ConfigurationError) as caught:
        PinSource.parse(text)
    assert caught.value.message == "--pin-source names no source of a PIN (what it says is not shown: it may be one)"
    assert caught.value.hint == "give one of file:PATH, fd:N, env:NAME, systemd:NAME, prompt, none"


# --- where the record is ---


@pytest.mark.parametrize(
    ("environment", "directory"),
    [
        ({"XDG_STATE_HOME": "/s", "HOME": "/h"}, "/s/rolekey"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/rolekey"),
        ({"XDG_STATE_HOME": "", "HOME": "/h"}, "/h/.local/state/rolekey"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="POSIX paths")
def test_state_directory(environment, directory):
    """XDG_STATE_HOME if it is absolute, else the home directory's."""
    assert str(state_directory(environment)) == directory


@pytest.mark.skipif(os.name == "nt", reason="POSIX paths")
def test_record_directories():
    """The record has a second place: the cache's directory."""
    environment = {"XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/run/user/7"}
    assert [str(path) for path in record_directories(environment)] == ["/s/rolekey", "/run/user/7/rolekey"]
    assert record_directories(environment | {"XDG_RUNTIME_DIR": "run"})[1] is None
    assert str(record_directories({"HOME": "/h"})[0]) == "/h/.local/state/rolekey"


# --- sources that can be read once ---


class CountingReader(PinReader):
    """A reader that counts how often it is asked."""

    def __init__(self):
        super().__init__(PinSource("fd", "7"))
        self.readings = 0

    def read(self) -> Pin | None:
        self.readings += 1
        if self.readings == 1:
            raise PinRequiredError("nothing yet", hint="none")
        return Pin(Secret(CANARY), PinSource("fd", "7"))


def test_kept_pin():
    """A source is read until it gives a PIN, and that one is kept while nothing is known against it."""
    reader = CountingReader()
    kept = KeptPin(reader, PinSource("fd", "7"))
    with pytest.raises(PinRequiredError, match="nothing yet"):
        kept.read()
    for _ in range(2):
        assert kept.read() == Pin(Secret(CANARY), PinSource("fd", "7"))
        kept.note(usable=False)
        with pytest.raises(PinRequiredError, match="the PIN from file descriptor 7 may have been refused") as caught:
            kept.read()
        assert CANARY not in "".join(traceback.format_exception(caught.value)) + caught.value.hint
        kept.note(usable=True)
    assert reader.readings == 2
