"""The rig rule (tests/support/rigs.py), on runs of pytest whose rigs are made up."""

import pytest

from support import rigs
from support.rigs import MINIMUM_TESTS, RIGS, Rig, RigRule

pytest_plugins = ["pytester"]

TWO_TESTS = """
import pytest
@pytest.mark.rig("engine")
def test_with_the_rig(): pass
def test_without(): pass
"""


@pytest.fixture
def run(pytester):
    """Runs pytest with the rule in force, and gives its result."""
    pytester.makeini("[pytest]\nmarkers =\n    rig: a rig\n")

    def run_pytest(text, *options, there=True, minimum=1, require=False, complete=False):
        pytester.makepyfile(text)
        table = {"engine": Rig("engine", lambda: there, "install an engine")}
        rule = RigRule(table, {"engine": minimum}, require=require, complete=complete)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", *options, plugins=[rule])

    return run_pytest


def test_summary_counts_the_tests_of_each_rig(run):
    """Every run says how many tests each rig ran."""
    result = run(TWO_TESTS)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["rig engine: 1 tests"])


def test_missing_rig_skips_with_what_to_install(run):
    """On a developer's machine a test without its rig is skipped, and says what to install."""
    result = run(TWO_TESTS, "-rs", there=False)
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*rig engine is missing: install an engine"])


def test_missing_rig_fails_where_rigs_are_required(run):
    """Where rigs are required, a missing one is no reason to skip."""
    result = run(TWO_TESTS, there=False, require=True, complete=True)
    result.assert_outcomes(passed=1, errors=1)
    assert result.ret == 1


def test_rig_that_ran_too_few_tests_fails_the_run(run):
    """A green run in which a rig was hardly used is not green where rigs are required."""
    result = run(TWO_TESTS, require=True, complete=True, minimum=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*rig engine ran 1 tests, fewer than 2"])
    assert run(TWO_TESTS, minimum=2).ret == 0


@pytest.mark.parametrize(
    ("test", "options", "line"),
    [
        ("def test_a(): pytest.skip('x')", [], "skipped: *::test_a"),
        ("@pytest.mark.skip\ndef test_a(): pass", [], "skipped: *::test_a"),
        ("@pytest.mark.xfail\ndef test_a(): assert False", [], "xfail: *::test_a"),
        ("@pytest.mark.xfail(strict=False)\ndef test_a(): pass", [], "xfail: *::test_a"),
        ("def test_a(): pass\ndef test_b(): pass", ["-k", "test_b"], "deselected: *::test_a"),
        ("pytest.importorskip('no_such_module')\ndef test_a(): pass", [], "skipped: *"),
    ],
)
def test_what_did_not_run_fails_a_complete_run(run, test, options, line):
    """A skip, an xfail or a deselected test is named, and makes a complete run fail."""
    text = f"import pytest\n{test}\n"
    result = run(text, *options, complete=True)
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"*rig rule broken: {line}"])
    lenient = run(text, *options)
    assert "rule broken" not in lenient.stdout.str()


def test_failed_test_does_not_count(run):
    """Only tests that passed show that a rig works."""
    result = run("import pytest\n@pytest.mark.rig('engine')\ndef test_a(): assert False\n")
    result.stdout.fnmatch_lines(["rig engine: 0 tests"])


def test_unknown_rig_is_refused(run):
    """A rig that the table does not have is a mistake in the marker, not a test without a rig."""
    result = run("import pytest\n@pytest.mark.rig('motor')\ndef test_a(): pass\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "no rig motor" in result.stdout.str() + result.stderr.str()


def test_every_rig_has_a_number_and_a_probe():
    """The table of numbers and the table of probes speak of the same rigs, and no number is vacuous."""
    assert MINIMUM_TESTS.keys() == RIGS.keys()
    assert set(rigs.FIXTURES.values()) <= RIGS.keys()
    assert min(MINIMUM_TESTS.values()) > 0
