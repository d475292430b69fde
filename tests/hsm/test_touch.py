"""A token that waits for a finger: who is told, and where."""

import fcntl
import os
import pty
import subprocess
import sys
import termios

import pytest

from support.emulator import running_emulator

pytestmark = pytest.mark.rig("softhsm", "shim", "emulator")


@pytest.fixture(scope="module")
def emulator(provisioned_token):
    with running_emulator(provisioned_token.root) as running:
        yield running


@pytest.fixture
def run_at_terminal(provisioned_token, emulator, pkcs11_shim, tmp_path):
    """Run with a slow C_Sign; gives what the terminal showed, what the desktop was told, and the process's output."""
    shimmed = pkcs11_shim.over(provisioned_token.module, tmp_path / "shim")
    programs = tmp_path / "programs"
    programs.mkdir()
    notify = programs / "notify-send"
    notify.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >"{tmp_path}/told"\n')
    notify.chmod(0o755)

    def run(sleep_ms):
        shimmed.rule("C_Sign", sleep_ms=sleep_ms, only=1)
        master, slave = pty.openpty()

        def take_terminal():
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        words = [sys.executable, "-m", "rolekey", "credential-process", *emulator.arguments]
        words += ["--pkcs11-lib", str(shimmed.module), "--intermediates", str(provisioned_token.intermediate)]
        words += ["--private-key", provisioned_token.uri("p-256")]
        environment = os.environ | shimmed.environment | {"XDG_STATE_HOME": str(tmp_path / "state")}
        environment |= {"PATH": f"{programs}:{os.environ['PATH']}", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere"}
        done = subprocess.run(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=60,
            preexec_fn=take_terminal,
            pass_fds=(slave,),
        )
        os.set_blocking(master, False)
        try:
            shown = os.read(master, 10000).decode()
        except BlockingIOError:
            shown = ""
        os.close(slave)
        os.close(master)
        told = tmp_path / "told"
        return shown, told.read_text() if told.exists() else "", done

    return run


def test_a_slow_signature(run_at_terminal, provisioned_token):
    """After 0.7 s the terminal and the desktop say which token waits; stdout has the JSON alone, stderr nothing."""
    shown, told, done = run_at_terminal(1500)
    assert "Touch your token" in shown
    assert provisioned_token.label in shown
    assert told.splitlines()[:3] == ["--app-name=rolekey", "--", "rolekey"]
    assert "Touch your token" in told
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b'{"Version":1,')


def test_a_signature_without_a_wait(run_at_terminal):
    """A token that signs at once bothers nobody."""
    shown, told, done = run_at_terminal(0)
    assert (shown, told, done.returncode) == ("", "", 0)
