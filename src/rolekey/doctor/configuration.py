"""Where the options come from, whether they fit together, and which other credentials SDKs would take first."""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rolekey.base.advice import shell_word, unset
from rolekey.base.owner import ANY_USE, CHANGE, access_of
from rolekey.config import resolve_arns, resolve_endpoint, resolve_settings
from rolekey.doctor.context import Context
from rolekey.doctor.finding import Verdict, failed, known, of_error, ok, warning
from rolekey.key_settings import KeySettings, certificate_of, resolve_key_settings
from rolekey.pins import PinReader
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.vend.aws_profile import PROCESS_KEY, process_of, winners_over_process
from rolekey.vend.credentials_file import Place
from rolekey.vend.process_line import as_cmd_expands, variables_in, words_of

# What every SDK takes before the credential_process of a profile.
_KEY_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def check_configuration(context: Context) -> Iterator[Verdict]:
    """The configuration file, and which level each option comes from."""
    yield from map(of_error, context.trouble)
    if context.trouble:
        return
    places = Counter(origin.partition(" in ")[2] or origin for _, origin in context.options.origins)
    from_elsewhere = ", ".join(f"{place} ({count})" if count > 1 else place for place, count in places.items())
    yield ok(f"options: the command line, then {from_elsewhere}" if from_elsewhere else "options: the command line")


def check_arns(context: Context) -> Iterator[Verdict]:
    """The ARNs, their regions and partitions."""
    arns = context.facts.arns = resolve_arns(context.options, context.environment)
    yield ok(f"trust anchor and profile in {arns.trust_anchor.region}, partition {arns.role.partition}")


def check_key_settings(context: Context) -> Iterator[Verdict]:
    """Which certificate and which key are named."""
    key = context.facts.key = resolve_key_settings(context.options, context.environment)
    # Before a module is loaded: a PIN in a variable is taken out of it now.
    context.facts.pins = PinReader(key.pin_source, *uris_of(key), group_readable=key.pin_file_group_readable)
    yield ok(f"key {key.private_key}, certificate {certificate_of(key)}")


def uris_of(key: KeySettings) -> list[PKCS11URI]:
    """The URIs of key and certificate, as far as they are in a token; the key's first.

    Args:
        key: where both are.
    """
    return [named for named in (key.private_key, key.certificate) if isinstance(named, PKCS11URI)]


def check_settings(context: Context) -> Iterator[Verdict]:
    """Everything else: session duration and name, endpoint, CA bundle."""
    arns = known(context.facts.arns, "the region")
    context.facts.endpoint = resolve_endpoint(context.options, context.environment, arns.trust_anchor)
    known(context.facts.key, "the key")
    settings = context.facts.settings = resolve_settings(context.options, context.environment)
    yield ok(f"endpoint {settings.endpoint}, session of {settings.session_duration} s")


def check_environment(context: Context) -> Iterator[Verdict]:
    """Variables that give SDKs other credentials."""
    found = [name for name in _KEY_VARIABLES if context.environment.get(name)]
    if found:
        yield warning(
            f"{' and '.join(found)} {'is' if len(found) == 1 else 'are'} set: SDKs take that before any "
            "credential_process",
            f"{unset(' '.join(found))} where rolekey is to give the credentials",
        )
    named, place = context.environment.get("AWS_PROFILE"), context.place
    if place and named and named != place.aws_profile:
        yield warning(
            f"AWS_PROFILE is {named}, not {place.aws_profile}: programs that name no profile use {named}",
            f"set AWS_PROFILE={place.aws_profile}, or {unset('it')}",
        )
    elif not found:
        yield ok("no variable gives SDKs other credentials")


def check_aws_profile(context: Context) -> Iterator[Verdict]:
    """The SDKs' profile: its credential_process, and credentials of another kind beside it."""
    place = context.place
    if place is None:
        return
    line = process_of(place)
    for path, key in winners_over_process(place):
        yield failed(
            f"the profile {place.aws_profile} has {key} in {path}, which SDKs take before its {PROCESS_KEY}",
            "remove it there, or use another profile for rolekey: rolekey configure NAME --profile OTHER",
        )
    if line is None:
        yield failed(
            f"the profile {place.aws_profile} has no {PROCESS_KEY} in {place.config_path}",
            "write one: rolekey configure NAME --profile " + shell_word(place.aws_profile),
        )
    else:
        yield from _of_line(context, place, line)


def _of_line(context: Context, place: Place, line: str) -> Iterator[Verdict]:
    where = f"the {PROCESS_KEY} of the profile {place.aws_profile}"
    if "\\" in line and sys.platform != "win32":
        yield failed(
            f"{where} has a backslash: SDKs take it away, and lines do not continue",
            "write it on one line, paths with / and values with spaces in double quotes",
        )
        return
    if "\n" in line:
        yield failed(f"{where} goes on in a second line, which some SDKs lose", "write it on one line")
        return
    if variables := variables_in(line, context.environment):
        yield warning(
            f"{where} has {variables[0]}, which cmd puts in, and boto3 and the AWS CLI do not",
            "write the whole path in its place",
        )
    if '"' in line and sys.platform == "win32":
        yield warning(
            f"{where} has a double quote, which the SDK for Go does not get past cmd",
            "write paths without blanks, or let `rolekey configure` write the line",
        )
    try:
        program = (words_of(as_cmd_expands(line, context.environment)) or [""])[0]
    except ValueError:
        yield failed(f"{where} has an open quote", "close it")
        return
    found = shutil.which(program, path=context.environment.get("PATH"))
    if not program or found is None:
        yield failed(
            f"{where} starts {program or 'nothing'}, which is "
            + ("not there, or no program" if Path(program).is_absolute() else "no program on the PATH"),
            "correct the path"
            if Path(program).is_absolute()
            else "name the program by its absolute path: SDKs expand neither ~ nor variables",
        )
    elif os.sep in program and not Path(program).is_absolute():
        yield warning(
            f"{where} starts {program}, which depends on the working directory", "name it by its absolute path"
        )
    else:
        yield ok(f"{where} starts {found}")


def check_aws_files(context: Context) -> Iterator[Verdict]:
    """Who can read and write the SDKs' files."""
    if context.place is None:
        return
    sound = True
    for path, forbidden, what in (
        (context.place.config_path, CHANGE, "write: it names programs that SDKs start"),
        (context.place.path, ANY_USE, "use: it holds credentials"),
    ):
        try:
            access = access_of(path, path, path.stat(), forbidden, root=True)
        except OSError:
            continue
        if access.opening is not None:
            sound = False
            yield warning(f"{path} has {access.opening}, so that others than its owner can {what}", access.remedy)
    if sound:
        yield ok("nobody else can change the SDKs' config file or read their credentials file")
