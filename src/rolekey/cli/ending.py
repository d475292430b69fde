"""How a command ends: the only place where errors become text and exit codes."""

import sys
from collections.abc import Callable

from rolekey import errors

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
EXIT_UNWRITABLE = 74
EXIT_INTERRUPTED = 130


def exit_code(error: errors.RolekeyError) -> int:
    """The exit code of an error: its own class's, or the nearest base's."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


def ending(command: Callable[[], object]) -> int:
    """Run a command.

    Args:
        command: takes nothing.

    Returns:
        The exit code: 0, or the number that the command returned or ends with as SystemExit; what EXIT_CODES says, 70
        for a bug of ours, 130 for Ctrl-C, 143 for SIGTERM.
    """
    try:
        result = command()
    except errors.RolekeyError as error:
        report(error.message, error.hint)
        return exit_code(error)
    except (KeyboardInterrupt, SystemExit) as error:
        # A signal is a SystemExit, too, by cli.terminal.signals_raise().
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
