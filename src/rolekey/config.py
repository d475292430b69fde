"""From what the user wrote to one frozen Settings: options > the named section > environment > defaults.

Everything that can be judged without a file, a token or the network is judged here, before a PIN is asked for.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from rolekey.arn import ARN, parse_profile_arn, parse_role_arn, parse_trust_anchor_arn
from rolekey.configured_options import configured_options
from rolekey.endpoints import Endpoint
from rolekey.errors import ConfigurationError
from rolekey.key_settings import (
    CertificateReference,
    KeySettings,
    by_origin,
    certificate_of,
    key_settings,
    plain_path,
)
from rolekey.options import DEFAULT_SESSION_DURATION, Options, revealed
from rolekey.pkcs11_uri import redact_pin_value
from rolekey.secret import Secret
from rolekey.value import Value

log = logging.getLogger(__name__)

SESSION_DURATIONS = range(900, 43201)
# In the order in which they decide: AWS's own, then the ones of requests, curl and OpenSSL.
CA_BUNDLE_VARIABLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


class ARNs(Value):
    """What a CreateSession names.

    Args:
        trust_anchor, profile, role: of one partition; the first two of one region.
    """

    trust_anchor: ARN
    profile: ARN
    role: ARN


class Settings(KeySettings, kw_only=True):
    """Everything that a CreateSession needs to know, checked.

    Args:
        trust_anchor_arn, profile_arn, role_arn: of one partition; the first two of one region.
        region: of the signature's scope.
        endpoint: where the request goes.
        certificate: where the end-entity certificate is: where the key is, if nothing else is named.
        intermediates: a PEM bundle, or None.
        session_duration: seconds, 900 to 43200.
        role_session_name: or None for the service's default.
        verify_tls: False only where the user said ``--no-verify-ssl``.
        ca_bundle: PEM file (or directory) of trusted CAs in place of the usual ones, or None.
        proxy: URL of the proxy for this endpoint (it may hold a password), or None.
    """

    trust_anchor_arn: ARN
    profile_arn: ARN
    role_arn: ARN
    region: str
    endpoint: Endpoint
    certificate: CertificateReference
    intermediates: Path | None
    session_duration: int
    role_session_name: str | None
    verify_tls: bool
    ca_bundle: Path | None
    proxy: Secret | None

    @property
    def purpose(self) -> str:
        """As KeySettings.purpose says."""
        return f" for role {self.role_arn.role_name}"


def resolve_settings(options: Options, environment: Mapping[str, str], name: str | None = None) -> Settings:
    """Check the options and fill in what the named section, the environment and the defaults say.

    Args:
        options: what the user wrote.
        environment: the process's environment.
        name: of an identity in the configuration file, or None.

    Raises:
        ConfigurationError: something is missing, malformed, or contradicts something else.
    """
    return by_origin(_resolved, configured_options(options, environment, name), environment)


def resolve_trust_anchor(options: Options, environment: Mapping[str, str]) -> ARN:
    """The trust anchor alone; see resolve_settings().

    Args:
        options: as configured_options() returns them.
        environment: the process's environment.

    Raises:
        ConfigurationError: it is missing or malformed.
    """
    return by_origin(_trust_anchor, options, environment)


def resolve_arns(options: Options, environment: Mapping[str, str]) -> ARNs:
    """The ARNs alone; see resolve_settings().

    Args:
        options: as configured_options() returns them.
        environment: the process's environment.

    Raises:
        ConfigurationError: one is missing or malformed, or they do not fit together or ``--region``.
    """
    return by_origin(_arns, options, environment)


def resolve_endpoint(options: Options, environment: Mapping[str, str], region: ARN) -> Endpoint:
    """The endpoint alone; see resolve_settings().

    Args:
        options: as configured_options() returns them.
        environment: the process's environment.
        region: an ARN whose partition and region are the service's.

    Raises:
        ConfigurationError: it cannot be one, or two are named.
    """

    def resolve(options: Options, environment: Mapping[str, str]) -> Endpoint:
        return _endpoint(options, environment, region.partition, region.region)

    return by_origin(resolve, options, environment)


def _trust_anchor(options: Options, _environment: Mapping[str, str]) -> ARN:
    return parse_trust_anchor_arn(_required(options.trust_anchor_arn, "--trust-anchor-arn"))


def _arns(options: Options, environment: Mapping[str, str]) -> ARNs:
    trust_anchor = _trust_anchor(options, environment)
    profile = parse_profile_arn(_required(options.profile_arn, "--profile-arn"))
    role = parse_role_arn(_required(options.role_arn, "--role-arn"))
    _check_region(options.region, trust_anchor, profile, role)
    return ARNs(trust_anchor, profile, role)


def _resolved(options: Options, environment: Mapping[str, str]) -> Settings:
    arns = _arns(options, environment)
    region = arns.trust_anchor.region
    duration = DEFAULT_SESSION_DURATION if options.session_duration is None else options.session_duration
    if duration not in SESSION_DURATIONS:
        raise ConfigurationError(
            f"--session-duration is {duration} seconds",
            hint="give a number of seconds from 900 to 43200 (and at most the role's maximum session duration)",
        )
    endpoint = _endpoint(options, environment, arns.trust_anchor.partition, region)
    key = key_settings(options, environment)
    settings = Settings(
        **vars(key) | {"certificate": certificate_of(key)},
        trust_anchor_arn=arns.trust_anchor,
        profile_arn=arns.profile,
        role_arn=arns.role,
        region=region,
        endpoint=endpoint,
        intermediates=Path(plain_path(options.intermediates, "--intermediates")) if options.intermediates else None,
        session_duration=duration,
        role_session_name=_role_session_name(options.role_session_name),
        verify_tls=options.verify_tls is not False,
        ca_bundle=ca_bundle_of(environment),
        proxy=proxy_of(endpoint, environment),
    )
    log.debug("settings: region %s, endpoint %s, %s", region, endpoint, "proxy" if settings.proxy else "no proxy")
    return settings


def _required(value: str | None, option: str) -> str:
    if not value:
        raise ConfigurationError(
            f"{option} is missing",
            hint="name the trust anchor, the profile and the role by their ARNs; the console or "
            "`aws rolesanywhere list-trust-anchors` and `list-profiles` show them",
        )
    return value


def _check_region(option: str | None, trust_anchor: ARN, profile: ARN, role: ARN) -> None:
    if trust_anchor.region != profile.region:
        raise ConfigurationError(
            f"the trust anchor is in {trust_anchor.region} and the profile in {profile.region}",
            hint="use a trust anchor and a profile of the same region",
        )
    if option and option != trust_anchor.region:
        raise ConfigurationError(
            f"--region is {redact_pin_value(option)} and the trust anchor is in {trust_anchor.region}",
            hint="leave out --region, or use the ARNs of that region",
        )
    if len(partitions := {arn.partition for arn in (trust_anchor, profile, role)}) > 1:
        raise ConfigurationError(
            f"the ARNs are of different partitions: {', '.join(sorted(partitions))}",
            hint="use a trust anchor, a profile and a role of the same partition",
        )


def _role_session_name(name: str | None) -> str | None:
    if name and not re.fullmatch(r"[a-zA-Z0-9_=,.@-]{2,64}", name):
        raise ConfigurationError(
            "--role-session-name has a character or length that IAM Roles Anywhere does not take",
            hint="give 2 to 64 of the characters a-z A-Z 0-9 _ = , . @ -",
        )
    return name or None


def _endpoint(options: Options, environment: Mapping[str, str], partition: str, region: str) -> Endpoint:
    fips = _switch(options.use_fips_endpoint, environment, "AWS_USE_FIPS_ENDPOINT")
    dual_stack = _switch(options.use_dualstack_endpoint, environment, "AWS_USE_DUALSTACK_ENDPOINT")
    for source, text in (
        ("--endpoint", revealed(options.endpoint)),
        ("AWS_ENDPOINT_URL_ROLESANYWHERE", environment.get("AWS_ENDPOINT_URL_ROLESANYWHERE")),
    ):
        if not text:
            continue
        if fips or dual_stack:
            raise ConfigurationError(
                f"{source} names an endpoint, and a FIPS or dual-stack endpoint is asked for as well",
                hint="leave out one of them (AWS_USE_FIPS_ENDPOINT and AWS_USE_DUALSTACK_ENDPOINT count too)",
            )
        return Endpoint.parse(text, source=source)
    return Endpoint.for_region(partition, region, fips=fips, dual_stack=dual_stack)


def _switch(option: bool | None, environment: Mapping[str, str], variable: str) -> bool:  # noqa: FBT001 - tri-state
    if option is not None:
        return option
    value = environment.get(variable, "").lower()
    if value not in ("", "true", "false"):
        raise ConfigurationError(f"{variable} is neither true nor false", hint=f"set {variable}=true or unset it")
    return value == "true"


def ca_bundle_of(environment: Mapping[str, str]) -> Path | None:
    """The CAs to trust that a variable names, or None for the usual ones.

    Args:
        environment: the process's environment.

    Raises:
        ConfigurationError: what it names does not exist.
    """
    for variable in CA_BUNDLE_VARIABLES:
        if value := environment.get(variable):
            if not Path(value).exists():
                raise ConfigurationError(
                    f"{variable} names {value}, which does not exist",
                    hint="name a PEM file (or a directory) with the CAs to trust, or unset the variable",
                )
            return Path(value)
    return None


def proxy_of(endpoint: Endpoint, environment: Mapping[str, str]) -> Secret | None:
    """The URL of the proxy for an endpoint (it may hold a password), or None.

    Args:
        endpoint: the service's.
        environment: the process's environment.
    """
    # A request to this machine never takes a detour; every other one is https.
    if endpoint.is_loopback:
        return None
    url = _of_either_case(environment, "https_proxy") or _of_either_case(environment, "all_proxy")
    if not url:
        return None
    # Slow to import and rarely needed; typeshed does not know it.
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # noqa: PLC0415

    if proxy_bypass_environment(endpoint.host, {"no": _of_either_case(environment, "no_proxy")}):
        return None
    return Secret(url if "://" in url else f"http://{url}")


def _of_either_case(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name) or environment.get(name.upper()) or ""
