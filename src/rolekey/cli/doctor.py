"""``rolekey doctor``: what keeps credentials from coming."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rolekey.cli.configure import parsed_line
from rolekey.cli.fetching import configured_from, options_from
from rolekey.cli.flag_table import HELPER_FLAGS, OWN_FLAGS, Flag
from rolekey.cli.flags import helper_command
from rolekey.cli.terminal import Terminal, can_ask, shield_output, signals_raise
from rolekey.cli.update import place_of
from rolekey.errors import ConfigurationError, CredentialsFileError, PinError, RolekeyError
from rolekey.options import Options

if TYPE_CHECKING:
    from rolekey.doctor.finding import Finding

FLAGS = (
    Flag("--trust-anchor", "text", "The trust anchor's certificate, to verify the chain with: a PEM or DER file."),
    Flag("--profile", "text", "An SDKs' profile to look at; without NAME and options, its credential_process."),
    Flag("--sign", "boolean", "Sign once, with PIN and touch if need be, and ask for credentials once."),
    Flag("--json", "boolean", "Print an array of objects with check, status, message and remedy."),
)
_FAILED = 1
# With one of them a command line is no addition to a profile's.
_SAY_IT_ALL = ("certificate", "private_key", "cert_selector", "trust_anchor_arn", "profile_arn", "role_arn")


@helper_command("doctor", (*HELPER_FLAGS, *OWN_FLAGS, *FLAGS))
def doctor(names: Sequence[str], **values: Any) -> None:
    """Look for what keeps credentials from coming, and say what to do.

    One line for each check: ok, warning, failed or skipped. Nothing is changed, and no PIN is sent without --sign. The
    exit code is 1 where something failed.
    """
    environment = dict(os.environ)
    options, trouble = _options(names, values)
    from rolekey.certificates import utc_now  # noqa: PLC0415 - slow to import, and not for a wrong option
    from rolekey.doctor.context import Context  # noqa: PLC0415 - as above
    from rolekey.doctor.run import examine  # noqa: PLC0415 - as above

    aws_profile = values["profile"] or (names[0] if names and _has_profile(names[0]) else None)
    shield_output(debug=values["debug"])
    context = Context(
        options=options,
        trouble=trouble,
        environment=environment,
        clock=utc_now,
        ask_until=Terminal,
        attended=can_ask(),
        place=place_of(aws_profile, environment) if aws_profile else None,
        trust_anchor=Path(values["trust_anchor"]) if values["trust_anchor"] else None,
        sign=bool(values["sign"]),
    )
    with signals_raise():
        failed = _print(examine(context), as_json=bool(values["json"]))
    if failed:
        click.get_current_context().exit(_FAILED)


def _options(names: Sequence[str], values: dict[str, Any]) -> tuple[Options, tuple[RolekeyError, ...]]:
    """What is configured; where that cannot be had, what is on the command line, and why."""
    origins: tuple[tuple[str, str], ...] = ()
    try:
        if values["profile"] and not names and not any(values[name] for name in _SAY_IT_ALL):
            names, values, origins = _of_profile(values["profile"], values)
        (options,) = configured_from(values, names)
    except (ConfigurationError, CredentialsFileError, PinError) as error:
        return options_from(values), (error,)
    return replace(options, origins=(*origins, *options.origins)), ()


def _of_profile(
    aws_profile: str, written: dict[str, Any]
) -> tuple[Sequence[str], dict[str, Any], tuple[tuple[str, str], ...]]:
    """The names and flags of the credential_process of a profile, below those that are written; where they are from."""
    from rolekey.vend.aws_profile import process_of  # noqa: PLC0415 - not for a command line that says it all
    from rolekey.vend.process_line import as_cmd_expands, words_of  # noqa: PLC0415 - as above

    line = process_of(place_of(aws_profile, os.environ))
    where = f"the credential_process of the profile {aws_profile}"
    if line is None:
        raise ConfigurationError(f"{where} is not there", hint="name a profile that has one, or give NAME or options")
    try:
        names, values = parsed_line(words_of(as_cmd_expands(line, os.environ)))
    except ValueError:
        raise ConfigurationError(f"{where} has an open quote", hint="close it") from None
    except click.UsageError as error:
        raise ConfigurationError(f"{where}: {error.format_message()}", hint="correct it") from None
    above = {name for name, value in written.items() if value not in (None, "")}
    given = {name: v for name, v in values.items() if v not in (None, "") or (name, v) == ("cert_selector", "")}
    found = {name: value for name, value in given.items() if name not in above}
    origins = tuple((name, f"--{name.replace('_', '-')} in {where}") for name in found if hasattr(Options, name))
    return names, written | found, origins


def _has_profile(name: str) -> bool:
    from rolekey.vend.aws_profile import process_of  # noqa: PLC0415 - as above

    try:
        return process_of(place_of(name, os.environ)) is not None
    except RolekeyError:
        return False


def _print(findings: "Iterator[Finding]", *, as_json: bool) -> bool:
    """Print the findings, as they come or as one document; returns whether something failed."""
    seen = []
    for finding in findings:
        seen.append(finding)
        if not as_json:
            remedy = f"         {finding.remedy}\n" if finding.remedy else ""
            sys.stdout.write(f"{finding.status:8} {finding.check}: {finding.message}\n{remedy}")
            sys.stdout.flush()
    if as_json:
        sys.stdout.write(json.dumps([vars(finding) for finding in seen], indent=2) + "\n")
        sys.stdout.flush()
    return any(finding.status == "failed" for finding in seen)
