"""``rolekey configure``: a named identity in the configuration file, and a profile of the SDKs that uses it."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from rolekey.base.advice import shell_word
from rolekey.cli.fetching import options_from
from rolekey.cli.flag_table import CREDENTIAL_PROCESS_FLAGS, HELPER_FLAGS, OWN_FLAGS, Flag
from rolekey.cli.flags import helper_command
from rolekey.cli.process import standard_path
from rolekey.cli.update import place_of
from rolekey.config import resolve_settings
from rolekey.configuration_file import configuration_path, read_configuration
from rolekey.configured_options import KEYS, NOT_KEPT, options_of_section, with_absolute_paths
from rolekey.errors import ConfigurationError
from rolekey.options import revealed
from rolekey.vend.aws_profile import check_process, process_of, write_process
from rolekey.vend.process_line import COMMAND, arguments_of, as_cmd_expands, program_of, variables_in, words_of
from rolekey.vend.text_file import TextFile

PROFILE = Flag("--profile", "text", "The SDKs' profile that is to use it; by default one of the same name.")
FROM_AWS_CONFIG = Flag("--from-aws-config", "text", "A profile whose credential_process is the official helper's.")


@helper_command("configure", (*HELPER_FLAGS, *OWN_FLAGS, PROFILE, FROM_AWS_CONFIG))
def configure(names: Sequence[str], **values: Any) -> None:
    """Write a named identity into rolekey's configuration file, and a profile that uses it into ~/.aws/config.

    Options become keys of the section NAME; those that it has already stay, unless they are given. With
    --from-aws-config they are taken from a line of the official helper. Nothing else in the two files changes.
    """
    if not names:
        raise ConfigurationError("no NAME is given", hint="give the identity a name: rolekey configure NAME ...")
    name, source = names[0], values["from_aws_config"]
    written = options_of_command(values)
    replaces = None
    if source:
        replaces = process_of(place_of(source, os.environ))
        written = options_of_line(replaces, source) | written
    place = place_of(values["profile"] or source or name, os.environ)
    path = configuration_path(os.environ)
    section = {**_section(path, name), **with_absolute_paths(written)}
    # It has to be whole by itself: the SDK's environment is another one.
    resolve_settings(options_of_section(section, path, name), {})

    def change(text: str) -> str:
        from rolekey.vend.configuration_text import with_section  # noqa: PLC0415 - slow, and not for a mistake

        return with_section(text, name, section)

    command = f"{_program()} {COMMAND} {name}"
    file = TextFile(path, "ROLEKEY_CONFIG", is_private=False)
    file.check(change)
    check_process(place, command, replaces)
    file.rewrite(change)
    write_process(place, command, replaces)
    sys.stdout.write(
        f"identity {name}: {path}\n"
        f"profile {place.aws_profile}: {place.config_path}\n"
        f"try it: aws --profile {shell_word(place.aws_profile)} sts get-caller-identity\n"
    )


def options_of_command(values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a section that a command line's values are.

    Args:
        values: of the flags.

    Raises:
        ConfigurationError: one has no place in a file.
    """
    for key in NOT_KEPT:
        if values[key.replace("-", "_")]:
            raise ConfigurationError(
                f"--{key} has no place in a file", hint=f"leave it out here; `rolekey credential-process` takes --{key}"
            )
    options = options_from(dict(values))
    found = {key: getattr(options, key.replace("-", "_")) for key in KEYS}
    # A selector that is empty selects everything.
    return {key: revealed(v) for key, v in found.items() if v not in (None, "") or (key, v) == ("cert-selector", "")}


def options_of_line(line: str | None, aws_profile: str) -> dict[str, Any]:
    """The keys of a section that a credential_process of the official helper, or of ours, is.

    Args:
        line: the line, or None where there is none.
        aws_profile: whose it is.

    Raises:
        ConfigurationError: there is none, or it cannot be understood, or has an option that has no place in a file.
    """
    where = f"the credential_process of the profile {aws_profile}"
    if line is None:
        raise ConfigurationError(f"{where} is not there", hint="name a profile that has one, or give options")
    if "\\" in line and sys.platform != "win32":
        raise ConfigurationError(
            f"{where} has a backslash: SDKs take it away, and lines do not continue",
            hint="write it on one line, paths with / and values with spaces in double quotes",
        )
    line = as_cmd_expands(line, os.environ)
    if unknown := variables_in(line, {}):
        raise ConfigurationError(
            f"{where} has {unknown[0]}, which is not set", hint="write the whole path in its place"
        )
    try:
        names, values = parsed_line(words_of(line))
    except ValueError as error:
        raise ConfigurationError(f"{where}: a quote is open", hint="close it") from error
    except click.UsageError as error:
        raise ConfigurationError(f"{where}: {error.format_message()}", hint="correct it, or give options") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error.message}", hint=error.hint) from error
    if names:
        raise ConfigurationError(f"{where} names an identity already", hint="leave out --from-aws-config")
    return options_of_command(values)


def parsed_line(words: Sequence[str]) -> tuple[Sequence[str], dict[str, Any]]:
    """The names and the flags' values of a command line of credential-process.

    Args:
        words: the program's name and what follows it.

    Raises:
        ConfigurationError, click.UsageError: it cannot be understood.
    """
    seen: list[tuple[Sequence[str], dict[str, Any]]] = []

    @helper_command("credential-process", CREDENTIAL_PROCESS_FLAGS)
    def take(names: Sequence[str], **values: Any) -> None:
        seen.append((names, values))

    arguments = arguments_of(words)
    if arguments is None:
        raise ConfigurationError(
            "it is no credential-process of rolekey (also by python -m rolekey) or of the official helper",
            hint="put a program's path with a blank in double quotes; leave out a shell; or name another profile",
        )
    take.main(arguments, prog_name="credential-process", standalone_mode=False)
    # --help calls nothing.
    return seen[0] if seen else ((), {flag.parameter: None for flag in (*HELPER_FLAGS, *OWN_FLAGS)})


def _section(path: Path, name: str) -> dict[str, Any]:
    section = read_configuration(path).get(name, {})
    if not isinstance(section, dict):
        raise ConfigurationError(f"{name} in {path} is no section", hint=f"rename it: [{name}] is to be a section")
    return section


def _program() -> str:
    """What SDKs are to start, whatever their PATH is."""
    program = program_of(sys.argv[0], sys.executable, standard_path())
    if program is None:
        raise ConfigurationError(
            f"the path of this rolekey, {sys.executable}, cannot be written into a line that every SDK reads",
            hint="install rolekey in a directory whose path has no quotes, $, % and backslashes in its names",
        )
    return program
