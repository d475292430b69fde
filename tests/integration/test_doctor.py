"""`rolekey doctor`: what it says of set-ups that work, how it says it, and that it changes and spends nothing."""

import json

import pytest

from support.process import rolekey

pytestmark = pytest.mark.rig("emulator")


def test_healthy_key_in_a_file(running, key_options):
    """A set-up that works has nothing that failed, and exit code 0."""
    done = rolekey("doctor", *running.arguments, *key_options)
    assert done.code == 0, done.stdout
    assert done.stderr == ""
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"ok"}, done.stdout
    assert running.granted == []


def test_json(running, key_options):
    """--json is one array of objects with the same four texts, whatever happens."""
    for more, code in ((key_options, 0), (["--certificate", "/nowhere"], 1)):
        done = rolekey("doctor", "--json", *running.arguments, *more)
        findings = json.loads(done.stdout)
        assert done.code == code
        assert done.stderr == ""
        assert {tuple(finding) for finding in findings} == {("check", "status", "message", "remedy")}
        assert {finding["status"] for finding in findings} <= {"ok", "warning", "failed", "skipped"}
        assert any(finding["status"] == "failed" for finding in findings) == bool(code)


def test_a_wrong_option():
    """A command line that cannot be understood is a usage error, as everywhere."""
    rolekey("doctor", "--nonsense").failed(2, "--nonsense")


def test_sign(running, key_options):
    """--sign signs once and asks once; without it nothing is signed."""
    before = len(running.granted)
    done = rolekey("doctor", "--sign", *running.arguments, *key_options)
    assert done.code == 0, done.stdout
    assert "ok       signature: one signature, and credentials for " in done.stdout
    assert len(running.granted) == before + 1
