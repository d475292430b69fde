"""The ``rolekey`` command: the only place where errors become text and exit codes."""

import sys
from collections.abc import Sequence
from importlib import import_module

import click

from rolekey import errors

# Module of rolekey.cli and the name in it; a command is imported when it is used.
COMMANDS = {
    "cache": ("cache", "cache", "List or forget the credentials that credential-process keeps."),
    "configure": ("configure", "configure", "Name an identity, and a profile of the SDKs that uses it."),
    "credential-process": ("credential_process", "credential_process", "Print temporary credentials for an SDK."),
    "doctor": ("doctor", "doctor", "Look for what keeps credentials from coming."),
    "emulator": ("emulator", "emulator", "Run a local IAM Roles Anywhere for trying and testing."),
    "exec": ("exec", "exec_command", "Run a command with credentials in its environment."),
    "key": ("key", "key", "Make private keys, get them certified, and see whether they can leave their hardware."),
    "login": ("login", "login", "Ask for PIN and touch now, and keep the credentials."),
    "pin": ("pin", "pin", "List or forget PIN sources that a token refused."),
    "read-certificate-data": (
        "read_certificate_data",
        "read_certificate_data",
        "Show certificates in a file or token.",
    ),
    "serve": ("serve", "serve", "Hand credentials out on this machine, and keep them fresh."),
    "sign-string": ("sign_string", "sign_string", "Sign a fixed text, to try a key."),
    "trust-policy": ("trust_policy", "trust_policy", "Print a role's trust policy for a certificate."),
    "update": ("update", "update", "Keep temporary credentials in the shared credentials file."),
    "version": ("version", "version", "Print the version."),
}
# The most special class that an error is an instance of decides.
EXIT_CODES: dict[type[errors.RolekeyError], int] = {
    errors.ConfigurationError: 2,
    errors.SignerError: 3,
    errors.PinError: 4,
    errors.CertificateError: 5,
    errors.TransportError: 6,
    errors.DeadlineError: 6,
    errors.ServiceError: 7,
    errors.ListenError: 8,
    errors.CredentialsFileError: 8,
    # As a shell has them.
    errors.CommandError: 126,
    errors.CommandNotFoundError: 127,
}
EXIT_INTERNAL = 70
EXIT_INTERRUPTED = 130


class LazyGroup(click.Group):
    """Subcommands that are imported when they run, not when the others do."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"rolekey.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][2]) for name in sorted(COMMANDS)])


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """AWS credentials from a private key that never leaves its hardware."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def exit_code(error: errors.RolekeyError) -> int:
    """The exit code of an error: its own class's, or the nearest base's."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


def run(args: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        args: the words after the program's name; the process's own if None.

    Returns:
        The exit code: 0, or what EXIT_CODES says, 70 for a bug of ours, 130 for Ctrl-C, 143 for SIGTERM.
    """
    try:
        result = cli.main(args=list(args) if args is not None else None, prog_name="rolekey", standalone_mode=False)
    except errors.RolekeyError as error:
        report(error.message, error.hint)
        return exit_code(error)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "rolekey"
        report(error.format_message().rstrip("."), f"`{command} --help` lists the options and commands")
        return EXIT_CODES[errors.ConfigurationError]
    except click.ClickException as error:
        report(error.format_message().rstrip("."), "check the option's value")
        return EXIT_CODES[errors.ConfigurationError]
    except (KeyboardInterrupt, click.Abort, SystemExit) as error:
        # SystemExit is a signal, by cli.terminal.signals_raise().
        return error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last line of defence: a traceback in front of a user is a bug
        import traceback  # noqa: PLC0415 - for this alone

        where = traceback.extract_tb(error.__traceback__)[-1]
        # The error's own text is left out: it may hold anything.
        report(
            f"internal error: {type(error).__name__} in {where.filename}, line {where.lineno}",
            "this is a bug in rolekey: please report it with this line and the output of `rolekey version`",
        )
        return EXIT_INTERNAL
    return result if isinstance(result, int) else 0


def report(message: str, hint: str, *, kind: str = "error") -> None:
    """Say on stderr what failed, in one line, and what can be done, in another.

    Args:
        message: the cause.
        hint: the remedy.
        kind: what the first line begins with.
    """
    from rolekey.pkcs11_uri import redact_pin_value  # noqa: PLC0415 - slow to import; not for a command that succeeds

    # A URI in the wrong place is quoted by whoever stumbles over it, click among them.
    lines = (
        f"rolekey: {kind}: {errors.printable(redact_pin_value(text))}\n"
        for kind, text in ((kind, message), ("hint", hint))
    )
    sys.stderr.write("".join(lines))
    sys.stderr.flush()
