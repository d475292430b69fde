"""What is read without click is read as click reads it, and everything else is left to click."""

import shlex
import subprocess
import sys
from typing import Any

import click
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rolekey.cli.flag_table import CREDENTIAL_PROCESS_FLAGS, SECRET_FLAGS
from rolekey.cli.flags import helper_command
from rolekey.cli.plain_line import read_plain
from rolekey.errors import ConfigurationError
from rolekey.secret import Secret

CANARY = "hunter2-canary"
VALUES = {"text": "x", "secret": CANARY, "integer": "0x384", "seconds": "4.5"}
README = (
    "--trust-anchor-arn arn:aws:rolesanywhere:eu-west-1:111122223333:trust-anchor/TA_ID --profile-arn "
    "arn:aws:rolesanywhere:eu-west-1:111122223333:profile/PROFILE_ID --role-arn arn:aws:iam::111122223333:role/ROLE "
    "--pkcs11-lib /usr/lib/x86_64-linux-gnu/opensc-pkcs11.so --private-key "
    '"pkcs11:token=MYTOKEN;object=mykey?pin-source=file:/home/me/.config/token-pin"'
)


def by_click(words: list[str]) -> tuple[tuple[str, ...], dict[str, Any]] | None:
    """Names and values as the command gets them from click; None if it refuses them."""
    seen: list[tuple[tuple[str, ...], dict[str, Any]]] = []

    @helper_command("credential-process", CREDENTIAL_PROCESS_FLAGS)
    def command(names: tuple[str, ...], **values: Any) -> None:
        """Remember what it was called with."""
        seen.append((names, values))

    try:
        command.main(list(words), prog_name="rolekey", standalone_mode=False)
    except (ConfigurationError, click.ClickException):
        return None
    return seen[0] if seen else None


@pytest.mark.parametrize(
    "words",
    [
        shlex.split(README),
        [],
        ["prod"],
        ["prod", "--debug"],
        ["prod", "--no-cache=true", "--region="],
        ["--region", "x", "--region=y", "--debug", "--debug=false"],
        *([flag.name] for flag in CREDENTIAL_PROCESS_FLAGS if flag.kind == "boolean" and "latest" not in flag.name),
        *(
            [f"{f.name}={VALUES[f.kind]}"]
            for f in CREDENTIAL_PROCESS_FLAGS
            if f.kind in VALUES and "store" not in f.name and "selector" not in f.name
        ),
        *([flag, CANARY] for flag in SECRET_FLAGS),
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_plain(words):
    """What is mostly written needs no click, and says the same with it."""
    assert read_plain(words) is not None
    assert read_plain(words) == by_click(words)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["-h"],
        ["prod", "--help"],
        ["--region", "--help"],
        ["--region"],
        ["--region", "-x"],
        ["--region", "--debug"],
        ["--certificate", f"--pkcs8-password={CANARY}"],
        ["--pkcs8-password", f"--{CANARY}"],
        ["--regoin", "x"],
        ["-d"],
        ["--"],
        ["prod", "other"],
        ["--debug", "prod"],
        ["--debug", "true"],
        ["--debug=yes"],
        ["--session-duration=1h"],
        ["--timeout", "soon"],
        ["pkcs11:token=x"],
        ["two words"],
        [""],
        ["\n--debug"],
        ["--role-arn", "\n"],
        ["--role-arn", "\r--debug"],
        ["--debug", "\\"],
        ["--cert-selector", "x"],
        ["--certificate=x", "--cert-selector=x"],
        ["--no-tpm-key-password", f"--tpm-key-password={CANARY}"],
    ],
    ids=repr,
)
def test_not_plain(words):
    """Help, every error, and what is rarely written is left to click."""
    assert read_plain(words) is None


FLAGS = [flag.name for flag in CREDENTIAL_PROCESS_FLAGS]
TEXTS = ["", "x", "prod", "other", "true", "false", "900", "0x384", "08", "4.5", "-x", "-1", "--", "-h", "--help", "\n"]
TEXTS += ["a=b", "\\", "pkcs11:token=x?pin-value=1234", "/path with space", "\udcff", "--debug", "--region", "--prod"]
WORDS = st.one_of(
    st.sampled_from(FLAGS),
    st.sampled_from(TEXTS),
    st.builds("{}={}".format, st.sampled_from(FLAGS), st.sampled_from(TEXTS)),
    st.text(max_size=4),
)


@pytest.mark.parametrize("flag", FLAGS)
def test_each_flag_with_each_text(flag):
    """Every flag before, after and with every kind of text: as click reads it, or left to click."""
    for text in TEXTS:
        for words in ([flag, text], [f"{flag}={text}"], [text, flag], [text, f"{flag}={text}"]):
            assert read_plain(words) in (None, by_click(words)), words


@given(st.lists(WORDS, max_size=6))
@settings(max_examples=1500, deadline=None)
@example(["--pkcs8-password", CANARY, "prod"])
@example(["prod", "--pkcs8-password", CANARY])
@example(["--region", "--region", "--debug"])
def test_both_read_alike(words):
    """Whatever the words are: what is read without click is what click reads, and what click refuses is not read."""
    read = read_plain(words)
    if read is not None:
        assert read == by_click(words)


def test_a_password_is_not_shown():
    """What was read does not show a password."""
    read = read_plain(["--pkcs8-password", CANARY])
    assert read is not None
    assert read[1]["pkcs8_password"] == Secret(CANARY)
    assert CANARY not in repr(read)


def test_an_import_that_fails():
    """What goes wrong while the command is loaded is said as any bug is, and has its exit code."""
    code = "import sys; sys.modules['rolekey.config'] = None; from rolekey.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "credential-process"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (70, "")
    assert done.stderr.startswith("rolekey: error: internal error: ModuleNotFoundError in ")
    assert "Traceback" not in done.stderr
