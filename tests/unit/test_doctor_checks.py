"""The framework of `rolekey doctor`: whatever happens in a check is one of its findings."""

import struct

import pytest

from rolekey.tokens.architecture import architecture_of
from rolekey.doctor.finding import Finding, known, ok, run_check
from rolekey.errors import TokenNotFoundError


def findings(check):
    """What one check finds."""
    return list(run_check("token", check, None))


def test_a_bug_hides_nothing():
    """An error that is none of ours is a finding without its text, which may hold anything, and hides no verdict."""

    def check(_context):
        yield ok("first")
        raise ValueError("hunter2-canary")

    first, second = findings(check)
    assert (first.status, first.message) == ("ok", "first")
    assert (second.status, second.message) == ("failed", "the check itself failed: ValueError")
    assert "canary" not in str(second)


def test_an_error_of_ours():
    """An error of ours is a failure, and its hint the remedy."""

    def check(_context):
        raise TokenNotFoundError("no token", hint="plug it in")
        yield

    assert findings(check) == [Finding("token", "failed", "no token", "plug it in")]


def test_what_was_not_found():
    """A check whose facts were not found says so, and has not failed."""
    assert known(0, "the number") == 0

    def check(_context):
        yield ok(known(None, "the module"))

    assert findings(check) == [Finding("token", "skipped", "the module is not known, see above", "")]


def test_what_is_shown():
    """No PIN of a URI and nothing that a terminal would obey is in a finding."""
    (finding,) = findings(lambda _context: [ok("pkcs11:token=a?pin-value=hunter2-canary \x1b[2J")])
    assert "canary" not in finding.message
    assert "\x1b" not in finding.message


@pytest.mark.parametrize(
    ("word_size", "order", "machine", "architecture"),
    [
        (2, "<", 62, "x86-64 (64 bit)"),
        (1, "<", 3, "i386 (32 bit)"),
        (2, "<", 183, "AArch64 (64 bit)"),
        (2, ">", 22, "s390x (64 bit)"),
        (2, "<", 4242, "processor 4242 (64 bit)"),
    ],
)
def test_architecture(tmp_path, word_size, order, machine, architecture):
    """Processor and word size are read in either byte order."""
    header = (
        b"\x7fELF" + bytes([word_size, 1 if order == "<" else 2]) + bytes(10) + struct.pack(f"{order}HH", 3, machine)
    )
    (tmp_path / "module.so").write_bytes(header)
    assert architecture_of(tmp_path / "module.so") == architecture


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"a text that is long enough to be a header"])
def test_no_architecture(tmp_path, content):
    """What is no ELF file, or not there, has none."""
    (tmp_path / "module.so").write_bytes(content)
    assert architecture_of(tmp_path / "module.so") is None
    assert architecture_of(tmp_path / "nothing.so") is None
