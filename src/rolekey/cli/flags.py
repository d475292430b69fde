"""The official helper's flags, and the parser that takes every spelling of them that its parser takes.

Its parser is Go's pflag: a boolean takes a value only after ``=`` (``--debug=true``) and never from the next word;
numbers are written as in Go; the last of several wins. click's own options do the rest.

A command line may hold a PIN or passphrase, anywhere if a quote is missing: what was not understood is not quoted.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any, Literal

import click

from rolekey.cli.flag_checks import check_flags, check_names, continued_line
from rolekey.cli.flag_types import TYPES, Choice
from rolekey.errors import ConfigurationError
from rolekey.options import DEFAULT_SESSION_DURATION
from rolekey.pkcs11_uri import redact_pin_value
from rolekey.value import Value

_EXPLICIT = "rolekey.explicit-booleans"
_LEADING = "rolekey.leading-words"


class Flag(Value):
    """One option.

    Args:
        name: with its dashes.
        kind: what it takes; "texts" may be given more than once.
        help: one line.
        default: where it is not given.
        choices: the only values of a text, if it has such.
    """

    name: str
    kind: Literal["text", "texts", "secret", "boolean", "integer", "seconds"]
    help: str
    default: Any = None
    choices: tuple[str, ...] = ()

    @property
    def parameter(self) -> str:
        """The name of the Python argument."""
        return self.name.removeprefix("--").replace("-", "_")


# The flags that credential-process, serve and update of the official helper share, in the order of its help.
HELPER_FLAGS = (
    Flag("--role-arn", "text", "The role to assume."),
    Flag("--profile-arn", "text", "The Roles Anywhere profile that lists the role."),
    Flag("--trust-anchor-arn", "text", "The trust anchor that the certificate leads to."),
    Flag("--session-duration", "integer", f"Seconds, 900 to 43200.  [default: {DEFAULT_SESSION_DURATION}]"),
    Flag("--region", "text", "The region; by default the trust anchor's."),
    Flag("--endpoint", "text", "Base URL of the service, in place of the region's own."),
    Flag("--no-verify-ssl", "boolean", "Accept any server certificate. Whoever is in between gets the credentials."),
    Flag("--with-proxy", "boolean", "Accepted and without effect: HTTPS_PROXY and NO_PROXY always count."),
    Flag("--debug", "boolean", "Say on stderr what is done and why, without secrets."),
    Flag("--certificate", "text", "The certificate: a PEM, DER or PKCS#12 file, or a pkcs11: URI."),
    Flag(
        "--private-key",
        "text",
        "The private key: a PEM, DER, PKCS#12 or TPM key file, a pkcs11: URI, or handle:0x81...",
    ),
    Flag("--intermediates", "text", "PEM file with the issuers between the certificate and the trust anchor."),
    Flag("--cert-selector", "text", "Selects from the certificate stores of macOS and Windows; not on Linux."),
    Flag("--system-store-name", "text", "A certificate store of Windows; not on Linux.", "MY"),
    Flag("--use-latest-expiring-certificate", "boolean", "Chooses in a certificate store; not on Linux."),
    Flag("--pkcs11-lib", "text", "The PKCS#11 module; else the URI's, PKCS11_MODULE_PATH, or the first usual one."),
    Flag("--reuse-pin", "boolean", "Accepted: the PIN always serves keys that ask for it at each signature, too."),
    Flag("--tpm-key-password", "secret", "Password of a TPM key (visible to other processes: prefer --pin-source)."),
    Flag("--no-tpm-key-password", "boolean", "The TPM key has no password."),
    Flag("--role-session-name", "text", "Name of the role session; the profile must accept one."),
    Flag("--pkcs8-password", "secret", "Passphrase of the key or PKCS#12 file (visible to other processes)."),
)
OWN_FLAGS = (
    Flag("--use-fips-endpoint", "boolean", "Use the region's FIPS endpoint (AWS_USE_FIPS_ENDPOINT)."),
    Flag("--use-dualstack-endpoint", "boolean", "Use the region's dual-stack endpoint (AWS_USE_DUALSTACK_ENDPOINT)."),
    Flag("--pkcs11-init-args", "text", "A string that the module wants at C_Initialize (NSS: configdir=...)."),
    Flag(
        "--pin-source", "text", "Where PIN or TPM password is: file:PATH, fd:N, env:NAME, systemd:NAME, prompt, none."
    ),
    Flag("--pin-file-group-readable", "boolean", "A PIN's file may be readable by its group."),
    Flag("--require-non-exportable", "boolean", "Use only a key that its hardware says cannot leave it."),
    Flag("--use-last-try", "boolean", "Send a PIN even if the token locks when it is wrong."),
    Flag("--tpm-tcti", "text", "The TPM: a TCTI such as device:/dev/tpmrm0 (TPM2TOOLS_TCTI, TPM_DEVICE)."),
    Flag("--tpm-parent-password-source", "text", "Where the password of a TPM key's parent is, as --pin-source."),
    Flag("--timeout", "seconds", "Seconds for everything: token, network, retries.  [default: 50, or 4.5 unattended]"),
)
NO_CACHE = Flag("--no-cache", "boolean", "Ask for new credentials, and keep nothing of them.")
# Pairs that the official helper refuses when both are given, whatever their values.
EXCLUSIONS = (
    ("--certificate", "--cert-selector"),
    ("--certificate", "--system-store-name"),
    ("--private-key", "--cert-selector"),
    ("--private-key", "--system-store-name"),
    ("--private-key", "--use-latest-expiring-certificate"),
    ("--use-latest-expiring-certificate", "--intermediates"),
    ("--use-latest-expiring-certificate", "--reuse-pin"),
    ("--cert-selector", "--intermediates"),
    ("--cert-selector", "--reuse-pin"),
    ("--system-store-name", "--reuse-pin"),
    ("--tpm-key-password", "--cert-selector"),
    ("--tpm-key-password", "--reuse-pin"),
    ("--no-tpm-key-password", "--cert-selector"),
    ("--no-tpm-key-password", "--tpm-key-password"),
    ("--pkcs8-password", "--tpm-key-password"),
)
_BY_NAME = {flag.name: flag for flag in (*HELPER_FLAGS, *OWN_FLAGS)}
SECRET_FLAGS = tuple(flag.name for flag in HELPER_FLAGS if flag.kind == "secret")


def flags_named(names: str) -> tuple[Flag, ...]:
    """Some of the flags of HELPER_FLAGS and OWN_FLAGS.

    Args:
        names: with blanks between them.
    """
    return tuple(_BY_NAME[name] for name in names.split())


def option(flag: Flag) -> click.Option:
    """The option of click's for a flag."""
    if flag.kind == "boolean":
        return click.Option([flag.name], is_flag=True, help=flag.help)
    default = {} if flag.default is None else {"default": flag.default, "show_default": True}
    kind = Choice(flag.choices) if flag.choices else TYPES[flag.kind]
    return click.Option([flag.name], type=kind, help=flag.help, multiple=flag.kind == "texts", **default)


class HelperCommand(click.Command):
    """A command with the official helper's flags and spelling.

    Attributes:
        operands: what follows the options, for the help.
    """

    operands = ""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Bring pflag's spellings into click's; remember which booleans were given at all."""
        if any(word[:1] in ("\n", "\r") for word in args):
            # The AWS CLI and boto3 join the lines that are indented, and leave the line end in the next word.
            raise continued_line()
        booleans = {o for p in self.params if isinstance(p, click.Option) and p.is_flag for o in p.opts}
        valued = {o for p in self.params if isinstance(p, click.Option) and not p.is_flag for o in p.opts}
        rest, given = split_booleans(args, booleans, valued)
        ctx.meta[_EXPLICIT] = given
        ctx.meta[_LEADING] = len(list(takewhile(lambda word: not word.startswith("-"), args)))
        try:
            return super().parse_args(ctx, [*(name for name, value in given.items() if value), *rest])
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            if isinstance(error, click.NoSuchOption) and _has_secret_flag(args):
                raise ConfigurationError(
                    "there is an option that does not exist (not shown: it may be a part of a password)",
                    hint=f"put values with spaces in double quotes; `{ctx.command_path} --help` lists the options",
                ) from None
            raise


def split_booleans(args: Sequence[str], booleans: set[str], valued: set[str]) -> tuple[list[str], dict[str, bool]]:
    """Take the boolean flags out of a command line.

    Args:
        args: the words of the command line.
        booleans: names of the boolean flags.
        valued: names of the flags whose value may be the next word.

    Returns:
        The other words, and the last value of each boolean that was given.

    Raises:
        ConfigurationError: a boolean with a value that is none, or a password that would become another flag's value.
    """
    rest: list[str] = []
    given: dict[str, bool] = {}
    words = iter(args)
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--":
            rest += [word, *words]
        elif name in booleans:
            given[name] = parse_boolean(name, value) if equals else True
        else:
            rest.append(word)
            if word in valued:
                rest += _value_of(word, words)
    return rest, given


def _value_of(flag: str, words: Iterator[str]) -> list[str]:
    value = next(words, None)
    if value is not None and _has_secret_flag([value]):
        # pflag takes it, and whatever is said of this flag's value then shows the password.
        raise ConfigurationError(
            f"{flag} has no value: {value.partition('=')[0]} follows it",
            hint="give it a value; where a variable has it, put the variable in double quotes",
        )
    return [] if value is None else [value]


def _has_secret_flag(words: Iterable[str]) -> bool:
    return any(word.partition("=")[0] in SECRET_FLAGS for word in words)


def parse_boolean(name: str, text: str) -> bool:
    """A boolean as Go's strconv.ParseBool reads it.

    Raises:
        ConfigurationError: it is none.
    """
    if text in ("1", "t", "T", "true", "True", "TRUE"):
        return True
    if text in ("0", "f", "F", "false", "False", "FALSE"):
        return False
    raise ConfigurationError(f"{name} is neither true nor false", hint=f"write {name} or {name}=false")


def helper_command(
    name: str,
    flags: Iterable[Flag],
    *,
    most_names: int = 1,
    kind: type[HelperCommand] = HelperCommand,
    exclusions: Iterable[tuple[str, str]] = EXCLUSIONS,
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function a command with these flags and the names of identities.

    Args:
        name: the command's.
        flags: its options.
        most_names: how many identities it takes.
        kind: of command.
        exclusions: pairs of flags that exclude each other.

    Returns:
        A decorator; the function gets `names`, and every flag's value as an argument of its name; None is what was not
        given.
    """
    table = tuple(flags)

    def decorate(function: Callable[..., None]) -> click.Command:
        def callback(names: tuple[str, ...], **values: Any) -> None:
            ctx = click.get_current_context()
            given = given_flags(ctx)
            has_pin = any(isinstance(value, str) and redact_pin_value(value) != value for value in values.values())
            has_secret = has_pin or _has_secret_flag([*given, *names])
            check_names(names, most_names, known_as_names=ctx.meta[_LEADING] if has_secret else len(names))
            function(names=names, **checked_values(ctx, table, values, exclusions))

        metavar = ("[NAME]" if most_names == 1 else "[NAME]...") + kind.operands
        params = [*(option(flag) for flag in table), click.Argument(["names"], nargs=-1, metavar=metavar)]
        return kind(name, params=params, callback=callback, help=function.__doc__)

    return decorate


def checked_values(
    ctx: click.Context,
    flags: Iterable[Flag],
    values: dict[str, Any],
    exclusions: Iterable[tuple[str, str]] = EXCLUSIONS,
) -> dict[str, Any]:
    """The flags' values; None is what was not given.

    Args:
        ctx: of a HelperCommand.
        flags: its options.
        values: what click made of them.
        exclusions: as helper_command() takes them.

    Raises:
        ConfigurationError: as check_flags().
    """
    booleans = ctx.meta[_EXPLICIT]
    checked = values | {flag.parameter: booleans.get(flag.name) for flag in flags if flag.kind == "boolean"}
    check_flags(given_flags(ctx), checked, exclusions)
    return checked


def given_flags(ctx: click.Context) -> set[str]:
    """The names of the flags that were on the command line, whatever their values."""
    given = {
        option
        for param in ctx.command.params
        if isinstance(param, click.Option)
        and param.name
        and ctx.get_parameter_source(param.name) is click.core.ParameterSource.COMMANDLINE
        for option in param.opts
    }
    return given | set(ctx.meta[_EXPLICIT])
