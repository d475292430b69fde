"""The framework of `rolekey doctor`: whatever happens in a check is one of its findings."""

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
