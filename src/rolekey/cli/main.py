"""The ``rolekey`` command."""

from collections.abc import Sequence
from importlib import import_module

import click

from rolekey.cli.ending import ending
from rolekey.errors import ConfigurationError

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


def run(args: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        args: the words after the program's name; the process's own if None.

    Returns:
        The exit code, as ending() says.
    """
    return ending(lambda: _run_click(args))


def _run_click(args: Sequence[str] | None) -> object:
    try:
        words = list(args) if args is not None else None
        # A value is what was written: click would put variables, ~ and matching files into it on Windows.
        return cli.main(args=words, prog_name="rolekey", standalone_mode=False, windows_expand_args=False)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "rolekey"
        hint = f"`{command} --help` lists the options and commands"
        raise ConfigurationError(error.format_message().rstrip("."), hint=hint) from error
    except click.ClickException as error:
        raise ConfigurationError(error.format_message().rstrip("."), hint="check the option's value") from error
    except click.Abort:
        raise KeyboardInterrupt from None
