"""What a cached answer is the answer to: the resolved settings, and the command line that led to them."""

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rolekey.cached_answer import TOKEN_ENVIRONMENT, alias_key, stamps
from rolekey.config import Settings
from rolekey.errors import PinRequiredError
from rolekey.key_settings import KeyReference
from rolekey.pins import pin_source_path
from rolekey.pkcs11_uri import PKCS11URI
from rolekey.tpm_handle import TPMHandle
from rolekey.value import Value

_MAX_FILE = 1 << 22


class Question(Value):
    """Which credentials are asked for, and by which command line.

    Args:
        name: of the entry with the answer, in hexadecimal: a digest of everything that decides whose credentials they
            are. No PIN, no passphrase and nothing that depends on one is in it.
        alias: the command line, from cached_answer.alias_key(), or None where it has no entry of its own.
        stamps: of every file that is read for it, from before it was read.
        description: what `rolekey cache list` shows; no secrets.
    """

    name: str
    alias: bytes | None
    stamps: bytes
    description: Mapping[str, str]


def question_of(settings: Settings, words: Sequence[str], environment: Mapping[str, str]) -> Question | None:
    """What is asked with these settings.

    Args:
        settings: resolved.
        words: the command line without the program's name.
        environment: the process's.

    Returns:
        The question; None where certificate or key is no regular file that can be read (a pipe is read once), so that
        its answer cannot be kept.
    """
    before = stamps(map(str, _files(settings)))
    identity = [_identity(settings.certificate), _identity(settings.private_key)]
    if None in identity:
        return None
    description = {
        "role_arn": str(settings.role_arn),
        "profile_arn": str(settings.profile_arn),
        "trust_anchor_arn": str(settings.trust_anchor_arn),
        "endpoint": str(settings.endpoint),
        "certificate": _shown(settings.certificate),
        "private_key": _shown(settings.private_key),
    }
    decisive = [
        description,
        identity,
        [settings.region, settings.session_duration, settings.role_session_name],
        # What was obtained from a server that nobody checked is for those who ask like that.
        [settings.verify_tls, str(settings.ca_bundle and settings.ca_bundle.absolute())],
        [settings.pkcs11_module, settings.pkcs11_init_args, settings.derived_private_key],
        # What was obtained without asking what kind of key it is, is for those who do not ask.
        [settings.require_non_exportable],
        [settings.tpm.tcti, settings.tpm.device],
        _token_environment(settings, environment),
    ]
    text = json.dumps(decisive, sort_keys=True).encode()
    name = hashlib.sha256(text).hexdigest()[:32]
    return Question(name, alias_key(words, environment), before, description)


def _token_environment(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    if not any(isinstance(reference, PKCS11URI) for reference in (settings.certificate, settings.private_key)):
        return {}
    return {name: environment[name] for name in TOKEN_ENVIRONMENT if name in environment}


def _files(settings: Settings) -> list[Path]:
    named = [
        *(settings.config_file, settings.certificate, settings.private_key),
        *(settings.intermediates, settings.ca_bundle),
    ]
    files = [path for path in named if isinstance(path, Path)]
    if settings.store is not None and isinstance(settings.store.selector, Path):
        files.append(settings.store.selector)
    references = [r for r in (settings.private_key, settings.certificate) if isinstance(r, PKCS11URI)]
    modules = [settings.pkcs11_module, *(uri.module_path for uri in references)] if references else ()
    files += [Path(module) for module in modules if module]
    if (parent := settings.tpm.parent_password_source) is not None and parent.kind == "file":
        files.append(Path(parent.name))
    if settings.pin_source is not None:
        return [*files, Path(settings.pin_source.name)] if settings.pin_source.kind == "file" else files
    sources = [uri.pin_source for uri in references if uri.pin_source]
    with suppress(PinRequiredError):  # said by whoever reads it
        files += [Path(pin_source_path(source)) for source in sources[:1]]
    return files


def _identity(reference: KeyReference) -> str | None:
    if isinstance(reference, TPMHandle):
        return str(reference)
    if isinstance(reference, PKCS11URI):
        return "?".join((reference.selector(), reference.module_name or "", reference.module_path or ""))
    if isinstance(reference, Path):
        return _digest(reference)
    # The store's content counts no more than a token's does.
    selector = _digest(reference.selector) if isinstance(reference.selector, Path) else str(reference.selector)
    return selector and json.dumps([selector, reference.store, reference.use_latest])


def _digest(path: Path) -> str | None:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - a pipe must not be opened
            return None
        with path.open("rb") as file:
            content = file.read(_MAX_FILE)
    except OSError:
        return None
    return hashlib.sha256(content).hexdigest()


def _shown(reference: KeyReference) -> str:
    if isinstance(reference, Path):
        return str(reference.absolute())
    return reference.selector() if isinstance(reference, PKCS11URI) else str(reference)
