"""The emulator's set-up: one TOML file, or defaults for one certificate authority.

    [[trust_anchors]]
    arn = "arn:aws:rolesanywhere:eu-west-1:123456789012:trust-anchor/..."
    certificates = "ca.pem"            # or a list of files; PEM or DER; one or two CA certificates in all
    crls = ["ca.crl"]                  # optional; PEM or DER
    enabled = true                     # optional

    [[profiles]]
    arn = "arn:aws:rolesanywhere:eu-west-1:123456789012:profile/..."
    role_arns = ["arn:aws:iam::123456789012:role/example"]
    duration_seconds = 3600            # optional, 900 to 43200
    accept_role_session_name = false   # optional
    enabled = true                     # optional

    [[roles]]                          # optional: a role that is only listed in a profile has these defaults
    arn = "arn:aws:iam::123456789012:role/example"
    max_session_duration = 3600        # optional, 3600 to 43200
    trust_policy = "policy.json"       # optional: a JSON file, or the policy itself as an inline table

File names are relative to the TOML file. A key that is not listed here is an error.
"""

import json
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rolekey.emulator import trust_policy
from rolekey.emulator.key_material import read_anchor, read_crls, read_file
from rolekey.emulator.model import (
    ARN,
    MAXIMUM_DURATION,
    MINIMUM_DURATION,
    Configuration,
    EmulatorConfigurationError,
    Profile,
    Role,
    TrustAnchor,
)

#: What `for_certificate_authority` sets up.
DEFAULT_TRUST_ANCHOR_ARN = (
    "arn:aws:rolesanywhere:us-east-1:000000000000:trust-anchor/00000000-0000-4000-8000-000000000001"
)
DEFAULT_PROFILE_ARN = "arn:aws:rolesanywhere:us-east-1:000000000000:profile/00000000-0000-4000-8000-000000000002"
DEFAULT_ROLE_ARN = "arn:aws:iam::000000000000:role/rolekey-emulator"

_MINIMUM_ROLE_DURATION = 3600  # IAM's
_Item = TypeVar("_Item", TrustAnchor, Profile, Role)


def for_certificate_authority(ca: Path, crl: Path | None = None) -> Configuration:
    """One trust anchor, one profile and one role, with the ARNs above: us-east-1, account 000000000000.

    Args:
        ca: one or two CA certificates, PEM or DER.
        crl: revocation lists, PEM or DER.

    Returns:
        The set-up. The profile lets a request name its session; credentials last an hour.

    Raises:
        EmulatorConfigurationError: a file cannot be used.
    """
    anchor = TrustAnchor(
        DEFAULT_TRUST_ANCHOR_ARN, read_anchor([ca], "the CA"), read_crls([crl] if crl else [], "the revocation list")
    )
    profile = Profile(DEFAULT_PROFILE_ARN, (DEFAULT_ROLE_ARN,), accept_role_session_name=True)
    return Configuration({anchor.arn: anchor}, {profile.arn: profile}, {DEFAULT_ROLE_ARN: Role(DEFAULT_ROLE_ARN)})


def load(path: Path) -> Configuration:
    """Read a TOML file of the form above.

    Args:
        path: the file.

    Returns:
        The set-up.

    Raises:
        EmulatorConfigurationError: the file or one it names cannot be used; the text names the file and the key.
    """
    try:
        document = tomllib.loads(read_file(path, "the configuration").decode())
    except EmulatorConfigurationError:
        raise
    except ValueError as error:
        raise EmulatorConfigurationError(f"{path}: not TOML: {error}") from error
    for name in document.keys() - {"trust_anchors", "profiles", "roles"}:
        raise EmulatorConfigurationError(f"{path}: {name}: unknown key")
    configuration = Configuration(
        trust_anchors=_section(path, document, "trust_anchors", _trust_anchor),
        profiles=_section(path, document, "profiles", _profile),
        roles=_section(path, document, "roles", _role),
    )
    for name in ("trust_anchors", "profiles"):
        if not getattr(configuration, name):
            raise EmulatorConfigurationError(f"{path}: {name}: at least one is needed")
    return configuration


class _Table:
    """One table of the file, whose keys are taken one by one with their types."""

    def __init__(self, path: Path, name: str, values: dict[str, Any]) -> None:
        self.path = path
        self._name = name
        self._values = dict(values)

    def where(self, key: str) -> str:
        return f"{self.path}: {self._name}.{key}"

    def error(self, key: str, text: str) -> EmulatorConfigurationError:
        return EmulatorConfigurationError(f"{self.where(key)}: {text}")

    def take(self, key: str, default: Any) -> Any:
        return self._values.pop(key, default)

    def boolean(self, key: str, *, default: bool) -> bool:
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "must be true or false")
        return value

    def seconds(self, key: str, minimum: int) -> int:
        value = self.take(key, 3600)
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= MAXIMUM_DURATION:
            raise self.error(key, f"must be a number of seconds from {minimum} to {MAXIMUM_DURATION}")
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        value = self.take(key, [])
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise self.error(key, "must be a string or a list of strings")
        return tuple(values)

    def files(self, key: str) -> list[Path]:
        return [self.path.parent / name for name in self.strings(key)]

    def arn(self, service: str, kind: str) -> str:
        value = self.take("arn", None)
        if not isinstance(value, str) or not is_arn(value, service, kind):
            raise self.error("arn", f"must be the ARN of a {kind}")
        return value

    def done(self) -> None:
        for key in self._values:
            raise self.error(key, "unknown key")


def is_arn(text: str, service: str, kind: str) -> bool:
    """Whether a text is an ARN of the kind that is wanted.

    Args:
        text: the text.
        service: ``rolesanywhere`` or ``iam``.
        kind: ``trust-anchor``, ``profile`` or ``role``.

    Returns:
        Whether it is.
    """
    arn = ARN.parse(text)
    return (
        arn is not None
        and arn.service == service
        and arn.resource.startswith(f"{kind}/")
        and not arn.resource.endswith("/")
        and bool(arn.region) == (service != "iam")
    )


def _section(path: Path, document: dict[str, Any], name: str, read: Callable[[_Table], _Item]) -> dict[str, _Item]:
    tables = document.get(name, [])
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise EmulatorConfigurationError(f"{path}: {name}: must be [[{name}]] tables")
    found: dict[str, _Item] = {}
    for number, values in enumerate(tables):
        table = _Table(path, f"{name}[{number}]", values)
        item = read(table)
        table.done()
        if item.arn in found:
            raise table.error("arn", "is there twice")
        found[item.arn] = item
    return found


def _trust_anchor(table: _Table) -> TrustAnchor:
    return TrustAnchor(
        arn=table.arn("rolesanywhere", "trust-anchor"),
        certificates=read_anchor(table.files("certificates"), table.where("certificates")),
        crls=read_crls(table.files("crls"), table.where("crls")),
        enabled=table.boolean("enabled", default=True),
    )


def _profile(table: _Table) -> Profile:
    role_arns: Sequence[str] = table.strings("role_arns")
    if not role_arns or not all(is_arn(arn, "iam", "role") for arn in role_arns):
        raise table.error("role_arns", "must be a list of ARNs of roles")
    return Profile(
        arn=table.arn("rolesanywhere", "profile"),
        role_arns=tuple(role_arns),
        duration_seconds=table.seconds("duration_seconds", MINIMUM_DURATION),
        accept_role_session_name=table.boolean("accept_role_session_name", default=False),
        enabled=table.boolean("enabled", default=True),
    )


def _role(table: _Table) -> Role:
    return Role(
        arn=table.arn("iam", "role"),
        max_session_duration=table.seconds("max_session_duration", _MINIMUM_ROLE_DURATION),
        trust_policy=_trust_policy(table),
    )


def _trust_policy(table: _Table) -> trust_policy.TrustPolicy:
    document = table.take("trust_policy", None)
    if document is None:
        return trust_policy.PERMISSIVE
    where = table.where("trust_policy")
    if isinstance(document, str):
        path = table.path.parent / document
        where = f"{where}: {path}"
        try:
            document = json.loads(read_file(path, table.where("trust_policy")))
        except EmulatorConfigurationError:
            raise
        except (ValueError, RecursionError) as error:
            raise EmulatorConfigurationError(f"{where}: not JSON: {error}") from error
    try:
        return trust_policy.parse(document)
    except trust_policy.PolicyError as error:
        raise EmulatorConfigurationError(f"{where}: {error}") from error
