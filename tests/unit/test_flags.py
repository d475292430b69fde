"""The command line of rolekey.cli.flags: the official helper's flags, its parser's spellings, and what is refused."""

import configparser
import re
import shlex
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import click
import pytest

from rolekey.cli.ending import exit_code
from rolekey.cli.flag_checks import STORE_FLAGS
from rolekey.cli.flag_table import EXCLUSIONS, HELPER_FLAGS, NO_CACHE, OWN_FLAGS, SECRET_FLAGS
from rolekey.cli.flags import helper_command
from rolekey.cli.main import run
from rolekey.cli.read_certificate_data import READ_CERTIFICATE_FLAGS
from rolekey.cli.serve import SERVE_FLAGS
from rolekey.cli.sign_string import SIGN_STRING_EXCLUSIONS, SIGN_STRING_FLAGS
from rolekey.errors import ConfigurationError, RolekeyError
from rolekey.secret import Secret

PAGE = (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text(encoding="utf-8")
FLAGS = (*HELPER_FLAGS, *OWN_FLAGS)
CANARY = "hunter2-canary"

# What aws_signing_helper 1.8.0 has, command by command, taken from its help.
OFFICIAL = {
    "credential-process": (
        "--role-arn --profile-arn --trust-anchor-arn --session-duration --region --endpoint --no-verify-ssl "
        "--with-proxy --debug --certificate --private-key --intermediates --cert-selector --system-store-name "
        "--use-latest-expiring-certificate --pkcs11-lib --reuse-pin --tpm-key-password --no-tpm-key-password "
        "--role-session-name --pkcs8-password"
    ),
    "serve": "--port --hop-limit",
    "update": "--profile --once",
    "sign-string": (
        "--certificate --private-key --debug --cert-selector --system-store-name --use-latest-expiring-certificate "
        "--pkcs11-lib --reuse-pin --tpm-key-password --no-tpm-key-password --pkcs8-password --format --digest"
    ),
    "read-certificate-data": "--certificate --cert-selector --system-store-name --pkcs11-lib --debug",
    "version": "",
}
OFFICIAL_FLAGS = sorted({flag for flags in OFFICIAL.values() for flag in flags.split()})

# Copied from the source of aws_signing_helper 1.8.0, not from ours.
OFFICIAL_EXCLUSIONS = """
    certificate/cert-selector certificate/system-store-name private-key/cert-selector private-key/system-store-name
    private-key/use-latest-expiring-certificate use-latest-expiring-certificate/intermediates
    use-latest-expiring-certificate/reuse-pin cert-selector/intermediates cert-selector/reuse-pin
    system-store-name/reuse-pin tpm-key-password/cert-selector tpm-key-password/reuse-pin
    no-tpm-key-password/cert-selector no-tpm-key-password/tpm-key-password pkcs8-password/tpm-key-password
"""


@dataclass
class Parsed:
    """What the command was called with."""

    values: dict[str, Any]

    def __getitem__(self, flag: str) -> Any:
        return self.values[flag.removeprefix("--").replace("-", "_")]


def parse(*words: str) -> Parsed:
    """Run a command that has all flags and does nothing."""
    seen: list[dict[str, Any]] = []

    @helper_command("try", FLAGS)
    def command(**values: Any) -> None:
        """Remember what it was called with."""
        seen.append(values)

    command.main(list(words), prog_name="try", standalone_mode=False)
    return Parsed(seen[0])


def refused(*words: str) -> RolekeyError:
    """The error of a command line that is one of ours, after checking its code and that it has a remedy."""
    with pytest.raises(ConfigurationError) as caught:
        parse(*words)
    assert exit_code(caught.value) == 2
    assert caught.value.hint
    return caught.value


def report(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    """What the whole program says about a command line that ends before anything is opened."""
    assert run(words) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert [line.split(": ")[1] for line in captured.err.splitlines()] == ["error", "hint"]
    return captured.err


def flag_named(name: str) -> Any:
    """The flag of our table."""
    return next(flag for flag in FLAGS if flag.name == name)


# --- the table ---


def test_flags_of_the_official_helper():
    """HELPER_FLAGS are the official helper's, all of them and in its order; none of ours takes one of its names."""
    assert [flag.name for flag in HELPER_FLAGS] == OFFICIAL["credential-process"].split()
    assert not {flag.name for flag in OWN_FLAGS} & set(OFFICIAL_FLAGS)


@pytest.mark.parametrize("flag", [flag.name for flag in (*FLAGS, NO_CACHE)])
def test_flag_in_the_help(flag, capsys):
    """`credential-process --help` lists every flag."""
    assert run(["credential-process", "--help"]) == 0
    assert re.search(rf"^  {flag}(?= |$)", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("flag", [*OFFICIAL_FLAGS, *(flag.name for flag in (*OWN_FLAGS, NO_CACHE, *SERVE_FLAGS))])
def test_flag_in_the_page(flag):
    """docs/compatibility.md has a table row for every flag of the official helper and every flag of ours."""
    assert re.search(rf"^\| `{flag}`", PAGE, re.MULTILINE)


@pytest.mark.parametrize("command", OFFICIAL)
def test_command_in_the_page(command):
    """docs/compatibility.md has a table row for every command of the official helper."""
    assert re.search(rf"^\| `{command}` \|", PAGE, re.MULTILINE)


def test_exclusions_of_the_official_helper():
    """The pairs that exclude each other are exactly the official helper's."""
    expected = {frozenset(f"--{name}" for name in pair.split("/")) for pair in OFFICIAL_EXCLUSIONS.split()}
    assert {frozenset(pair) for pair in EXCLUSIONS} == expected
    assert len(EXCLUSIONS) == len(expected) == 15


@pytest.mark.parametrize(
    ("command", "flags"), [("sign-string", SIGN_STRING_FLAGS), ("read-certificate-data", READ_CERTIFICATE_FLAGS)]
)
def test_flags_of_the_small_commands(command, flags):
    """They have all flags of the official helper's command, and of its others' none that it has not."""
    names = {flag.name for flag in flags}
    assert names >= set(OFFICIAL[command].split())
    assert names & set(OFFICIAL_FLAGS) == set(OFFICIAL[command].split())


def test_exclusions_of_sign_string(capfd):
    """sign-string has the one pair more that the official helper's has, and refuses it."""
    assert set(SIGN_STRING_EXCLUSIONS) - set(EXCLUSIONS) == {("--no-tpm-key-password", "--reuse-pin")}
    text = report(capfd, "sign-string", "--private-key=x", "--no-tpm-key-password=false", "--reuse-pin")
    assert "--no-tpm-key-password and --reuse-pin exclude each other" in text


@pytest.mark.parametrize("flag", ["--format", "--digest"])
@pytest.mark.parametrize("value", ["sha256", "JSON", "", CANARY])
def test_choices(flag, value, capfd):
    """A value that is none of the helper's, in its case, is refused and not quoted."""
    text = report(capfd, "sign-string", "--private-key=x", f"{flag}={value}")
    assert f"Invalid value for '{flag}': none of " in text
    assert CANARY not in text


@pytest.mark.parametrize("words", [["-h"], ["--help"], ["credential-process", "-h"], ["version", "-h"]])
def test_help_has_a_short_flag(words, capsys):
    """`-h` is help on every command, as in the official helper; it is its only short flag."""
    assert run(words) == 0
    assert capsys.readouterr().out.startswith("Usage: rolekey")


# --- spellings ---


@pytest.mark.parametrize(
    ("words", "flag", "value"),
    [
        (["--region", "x"], "--region", "x"),
        (["--region=x"], "--region", "x"),
        (["--region="], "--region", ""),
        (["--region", ""], "--region", ""),
        (["--region=a=b"], "--region", "a=b"),
        (["--region= x "], "--region", " x "),
        ([], "--region", None),
        # the next word is the value, whatever it looks like
        (["--region", "--debug"], "--region", "--debug"),
        (["--region", "--debug"], "--debug", None),
        (["--region", "--debug=true"], "--debug", None),
        (["--region", "--"], "--region", "--"),
        (["--region", "-h"], "--region", "-h"),
        (["--region", "--role-arn", "--role-arn", "x"], "--region", "--role-arn"),
        (["--region", "--role-arn", "--role-arn", "x"], "--role-arn", "x"),
        (["--region", "--region", "--debug"], "--region", "--region"),
        (["--region", "--region", "--debug"], "--debug", True),
        # the last one wins
        (["--region", "x", "--region", "y"], "--region", "y"),
        (["--region=x", "--region", "y"], "--region", "y"),
        (["--region", "x", "--region="], "--region", ""),
        (["--session-duration=900", "--session-duration=901"], "--session-duration", 901),
        (["--debug", "--debug=false"], "--debug", False),
        (["--debug=false", "--debug"], "--debug", True),
        (["--debug=false", "--region=x", "--debug=1"], "--debug", True),
        (["--debug=0", "--debug=f"], "--debug", False),
        # passwords
        (["--pkcs8-password", "a b"], "--pkcs8-password", Secret("a b")),
        (["--pkcs8-password="], "--pkcs8-password", Secret("")),
        (["--tpm-key-password=--debug"], "--tpm-key-password", Secret("--debug")),
        # defaults
        ([], "--session-duration", None),
        ([], "--system-store-name", None),
        ([], "--timeout", None),
        ([], "--debug", None),
        (["--"], "--debug", None),
        (["--debug", "--"], "--debug", True),
        (["--timeout", "0.5"], "--timeout", 0.5),
        (["--timeout=5"], "--timeout", 5.0),
    ],
)
def test_spelling(words, flag, value):
    """Each spelling gives the value that the official helper's parser (pflag) gives."""
    assert parse(*words)[flag] == value


BOOLEANS = [flag.name for flag in FLAGS if flag.kind == "boolean"]
HARMLESS_BOOLEANS = [name for name in BOOLEANS if name not in STORE_FLAGS]
SPELLINGS = {
    **dict.fromkeys(("", "=true", "=1", "=t", "=TRUE", "=True", "=T"), True),
    **dict.fromkeys(("=false", "=0", "=f", "=F", "=FALSE", "=False"), False),
}


@pytest.mark.parametrize("flag", HARMLESS_BOOLEANS)
@pytest.mark.parametrize(("spelling", "value"), SPELLINGS.items())
def test_boolean_spelling(flag, spelling, value):
    """Every boolean takes every value that Go's strconv.ParseBool takes, after an equals sign."""
    assert parse(flag + spelling)[flag] is value


@pytest.mark.parametrize("flag", BOOLEANS)
@pytest.mark.parametrize("value", ["", "yes", "no", "on", "tRUE", "2", "-1", "true ", CANARY])
def test_bad_boolean(flag, value):
    """Any other value of a boolean is refused, and not quoted."""
    error = refused(f"{flag}={value}")
    assert error.message == f"{flag} is neither true nor false"
    assert CANARY not in error.hint


@pytest.mark.parametrize("value", ["true", "false", "1"])
def test_boolean_takes_no_word(value):
    """The word after a boolean is not its value; it is an argument of its own, which the hint explains."""
    error = refused("--debug", value)
    assert error.message == f"unexpected argument '{value}'"
    assert "--debug=true" in error.hint


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("900", 900),
        ("+900", 900),
        ("-1", -1),
        ("0", 0),
        ("-0", 0),
        ("0x384", 900),
        ("0X384", 900),
        ("-0x384", -900),
        ("0o1604", 900),
        ("0O1604", 900),
        ("01604", 900),
        ("+01604", 900),
        ("0b1110000100", 900),
        ("0B1110000100", 900),
        ("1_000", 1000),
        ("0x_3_84", 900),
        ("0_1604", 900),
        ("99999999999", 99999999999),  # the official helper makes 1215752191 of it
    ],
)
@pytest.mark.parametrize("form", ["={}", " {}"])
def test_integer_of_go(text, value, form):
    """A number is read as Go's strconv.ParseInt reads it with base 0, and is never cut to 32 bits."""
    assert parse(*f"--session-duration{form.format(text)}".split(" "))["--session-duration"] == value


@pytest.mark.parametrize(
    ("flag", "texts"),
    [
        ("--session-duration", "abc 900s 1h 9e2 900.0 0x 0o8 08 0b2 1__0 _1 1_ --900 " + "9" * 5000),
        ("--timeout", "abc 50s 1h 0x10 1,5 --5"),
    ],
)
def test_not_a_number(flag, texts):
    """What is no number is refused, and not quoted; so is an empty one."""
    for text in ["", *texts.split()]:
        with pytest.raises(click.BadParameter) as caught:
            parse(f"{flag}={text}")
        assert re.fullmatch(rf"Invalid value for '{flag}': not a number \(\w+\)", caught.value.format_message())


def test_flag_without_a_value(capfd):
    """A flag at the end of the line without its value is an error of the command that it belongs to."""
    text = report(capfd, "credential-process", "--region")
    assert "error: Option '--region' requires an argument\n" in text
    assert "`rolekey credential-process --help`" in text


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--regoin", "x"], "--regoin"),
        (["--reg", "x"], "--reg"),  # no abbreviations
        (["-region", "x"], "-r"),
        (["-d"], "-d"),
        (["--Debug"], "--Debug"),
        (["--region_x=1"], "--region_x"),
        (["--port", "1"], "--port"),
    ],
)
def test_unknown_flag(words, shown, capfd):
    """A flag that does not exist is named; abbreviations and single dashes are none."""
    assert f"error: No such option '{shown}'" in report(capfd, "credential-process", *words)


# --- passwords stay out of messages ---


@pytest.mark.parametrize(
    "words",
    [
        ["--pkcs8-password", "my", CANARY],
        ["--pkcs8-password", "my", f"--{CANARY}"],
        ["--pkcs8-password", "my", f"-{CANARY}"],
        ["--tpm-key-password", "my", CANARY],
        ["--tpm-key-password=my", CANARY, "\\x"],
        ["--", f"--pkcs8-password={CANARY}"],
        ["--private-key", "pkcs11:token=x?pin-value=12", CANARY],
        ["--private-key=pkcs11:token=x?PIN-VALUE=12", CANARY],
        ["--certificate", "pkcs11:token=x?pin-value=12", CANARY, CANARY],
        # an empty variable without quotes: the password would become the value of another flag
        ["--certificate", f"--pkcs8-password={CANARY}"],
        ["--certificate", "--pkcs8-password", CANARY],
        ["--session-duration", f"--tpm-key-password={CANARY}"],
        [f"--pkcs8-pasword={CANARY}"],
        ["--pkcs8-pasword", CANARY],
        [f"-pkcs8-password={CANARY}"],
        [f"--debug={CANARY}"],
        [f"--session-duration={CANARY}"],
        [f"--timeout={CANARY}"],
        [f"pkcs11:token=x?pin-value={CANARY}"],
        [f"object=x?pin-value={CANARY} more {CANARY}", CANARY],
        ["--pkcs8-password", CANARY, "--tpm-key-password", CANARY],
        ["--pkcs8-password", CANARY, "--cert-selector", "x"],
    ],
)
def test_password_is_not_shown(words, capfd):
    """Wherever a missing quote or a typing error puts a password or a PIN, the report does not show it."""
    assert CANARY not in report(capfd, "credential-process", *words)


@pytest.mark.parametrize(
    "words",
    [
        [f"pkcs11:token=x?pin-value={CANARY}"],
        ["version", f"pkcs11:token=x?pin-value={CANARY}"],
        [f"--private-key=pkcs11:x?pin-value={CANARY}", "credential-process"],
    ],
)
def test_pin_is_not_shown_by_any_command(words, capfd):
    """A URI where no argument is expected is quoted without its PIN, by every command."""
    assert CANARY not in report(capfd, *words)


@pytest.mark.parametrize("flag", SECRET_FLAGS)
def test_password_as_another_flags_value(flag):
    """A password flag never becomes another flag's value, unlike in pflag; the message names both flags."""
    error = refused("--certificate", f"{flag}={CANARY}")
    assert error.message == f"--certificate has no value: {flag} follows it"


# --- exclusions and stores ---


def given(flag: str, value: str | None = None) -> str:
    """One word that gives a flag."""
    if flag_named(flag).kind == "boolean":
        return flag if value is None else f"{flag}={value}"
    return f"{flag}={'x' if value is None else value}"


@pytest.mark.parametrize(("first", "second"), [pair for pairs in EXCLUSIONS for pair in permutations(pairs)])
@pytest.mark.parametrize("form", ["with values", "first empty or false", "both empty or false"])
def test_exclusion(first, second, form):
    """Two flags that exclude each other are refused in each order, given with whatever value: empty and false too."""
    nothing = {flag: "false" if flag_named(flag).kind == "boolean" else "" for flag in (first, second)}
    error = refused(
        given(first, None if form == "with values" else nothing[first]),
        given(second, nothing[second] if form == "both empty or false" else None),
    )
    assert set(re.findall(r"--[a-z0-9-]+", error.message)) == {first, second}
    assert error.message.endswith("exclude each other")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--cert-selector", "Key=x509Subject,Value=CN=x"], "--cert-selector"),
        (["--cert-selector="], "--cert-selector"),
        (["--system-store-name", "MY"], "--system-store-name"),
        (["--system-store-name="], "--system-store-name"),
        (["--use-latest-expiring-certificate"], "--use-latest-expiring-certificate"),
        (["--use-latest-expiring-certificate=true", "--certificate=x"], "--use-latest-expiring-certificate"),
        (["--cert-selector=x", "--system-store-name=MY"], "--cert-selector"),
    ],
)
def test_certificate_stores_are_refused(words, named):
    """A flag for the certificate stores of macOS and Windows is refused where rolekey reads none, with what to use."""
    error = refused(*words)
    assert error.message == f"{named} selects from a certificate store, and rolekey reads those of Windows only"
    assert "--certificate and --private-key" in error.hint


def test_store_flag_that_asks_for_nothing():
    """A store flag that is switched off explicitly asks for nothing and is let through."""
    assert parse("--use-latest-expiring-certificate=false")["--use-latest-expiring-certificate"] is False


# --- positional arguments ---

CONTINUED = "a backslash stands at the end of a line"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.b"], "unexpected argument 'a.b'"),
        (["-"], "unexpected argument '-'"),
        (["--", "--debug"], "unexpected argument '--debug'"),
        (["two", "words"], "unexpected argument 'words'"),
        (["--region=x", "two", "words"], "unexpected argument 'words'"),
        (["", "word"], "unexpected argument ''"),
        (["word", ""], "unexpected argument ''"),
        (["word" * 17], f"unexpected argument '{'word' * 17}'"),
        (["a b"], "unexpected argument 'a b'"),
        (["a/b"], "unexpected argument 'a/b'"),
        (["\u2013debug"], "unexpected argument '\u2013debug'"),
        ([""], "unexpected argument ''"),
        (["", ""], "unexpected argument ''"),
        (["pkcs11:token=x?pin-value=1234"], "unexpected argument pkcs11:token=x?pin-value=***"),
        (["Label;object=x?pin-value=1234&pin-source=file:/x"], "unexpected argument Label;object=x?pin-value=***"),
        (["\\"], CONTINUED),
        (["web\\"], CONTINUED),
        (["\\\n"], CONTINUED),
        (["--region", "x", "\\", "--debug"], CONTINUED),
        (["\n--region", "x"], CONTINUED),
        (["--region", "x", "\n--debug"], CONTINUED),
        (["--region", "\nx"], CONTINUED),
        (["\r\n--region=x"], CONTINUED),
    ],
)
def test_positional(words, message):
    """A word that is no NAME, or one too many, is quoted without its PIN; a continued line is named."""
    assert refused(*words).message.startswith(message)


@pytest.mark.parametrize("words", [["a_b-9"], ["a_b-9", "--region=x"], ["--region", "x", "a_b-9"], ["--", "a_b-9"]])
def test_name(words):
    """One word can be the NAME of an identity, wherever it stands."""
    assert parse(*words).values["names"] == ("a_b-9",)


@pytest.mark.parametrize(
    "password", ["--pkcs8-password=a", "--tpm-key-password=a", "--private-key=pkcs11:?pin-value=1"]
)
def test_name_beside_a_password(password):
    """With a password or PIN on the command line a NAME stands before all options."""
    assert parse("web", password).values["names"] == ("web",)
    assert "before all options" in refused(password, "web").hint


def test_continued_line_of_the_aws_cli():
    """A credential_process over several lines, read and split as botocore does it, is refused and its cause named."""
    config = configparser.RawConfigParser()
    config.read_string("[profile x]\ncredential_process = rolekey --region x \\\n  --debug\n")
    _, *words = shlex.split(config["profile x"]["credential_process"])
    assert refused(*words).message.startswith(CONTINUED)


@pytest.mark.parametrize("password", ["--pkcs8-password=a", "--tpm-key-password=a"])
@pytest.mark.parametrize("stray", [["b"], ["b", "c"], ["b c"]])
def test_stray_word_beside_a_password(password, stray):
    """With a password on the command line a stray word may be a part of it, and is not shown."""
    error = refused(password, *stray)
    assert error.message.startswith("there is an argument that belongs to no option (not shown")
    assert "double quotes" in error.hint
