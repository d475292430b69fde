"""`rolekey emulator`: a local IAM Roles Anywhere."""

import contextlib
import os
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from rolekey import http_server
from rolekey.base.advice import shell_word
from rolekey.emulator import STS, Configuration, Emulator, EmulatorConfigurationError, RequestLog, mint_random
from rolekey.emulator import for_certificate_authority as _for_certificate_authority
from rolekey.emulator import load as _load
from rolekey.errors import ConfigurationError

# X-Amz-X509-Chain alone has 50 KB with five ML-DSA certificates.
_LIMITS = http_server.Limits(header_bytes=256 * 1024)
# Between two options: cmd and PowerShell go on in the next line in different ways.
_BETWEEN = " " if sys.platform == "win32" else " \\\n"
_FILE = click.Path(path_type=Path)


@dataclass(frozen=True)
class EmulatorOptions:
    """What the command line says.

    Args:
        listen: an address of this machine.
        port: 0 for any free one.
        ca: CA certificates, for the default set-up.
        crl: revocation lists of that CA.
        config: the TOML file, instead of ``ca``.
        tls_certificate: PEM, None for plain HTTP.
        tls_key: PEM, None when it is in ``tls_certificate``.
        requests: the file to which requests are appended.
        sts_endpoint: the STS that gives out the credentials, None for made-up ones.
    """

    listen: str
    port: int
    ca: Path | None
    crl: Path | None
    config: Path | None
    tls_certificate: Path | None
    tls_key: Path | None
    requests: Path | None
    sts_endpoint: str | None


@click.command("emulator", short_help="Run a local Roles Anywhere that verifies like the service.")
@click.option("--listen", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port to listen on; 0 takes a free one."
)
@click.option("--ca", type=_FILE, help="Trust this CA (PEM or DER), with a ready-made profile and role.")
@click.option("--crl", type=_FILE, help="Revocation list of that CA (PEM or DER).")
@click.option("--config", type=_FILE, help="Trust anchors, profiles and roles, as TOML.")
@click.option("--tls-certificate", type=_FILE, help="Serve TLS with this certificate (PEM).")
@click.option("--tls-key", type=_FILE, help="The TLS certificate's key (PEM).")
@click.option("--requests", type=_FILE, help="Append one line of JSON for each request to this file.")
@click.option("--sts-endpoint", metavar="URL", help="Have a stand-in for STS on this machine give out the credentials.")
def emulator(**options: Any) -> None:
    """Run a local Roles Anywhere for tests: it verifies like the service, and its credentials open nothing at AWS."""
    run(EmulatorOptions(**options))


def run(options: EmulatorOptions) -> None:
    """Serve until SIGINT, SIGTERM or Ctrl-Break. Says on stdout, once it listens, where it is and how to call it.

    Args:
        options: the command line.

    Raises:
        ConfigurationError: options or files that cannot be used.
        ListenError: the address cannot be used.
        MissingExtraError: uvicorn or httptools is not installed.
    """
    _check(options)
    tls = http_server.tls_context(options.tls_certificate, options.tls_key) if options.tls_certificate else None
    try:
        configuration = _configuration(options)
        mint = _sts(options.sts_endpoint, os.environ) if options.sts_endpoint is not None else mint_random
        if options.requests is None:
            _serve(Emulator(configuration, mint=mint), configuration, options, tls)
            return
        with contextlib.closing(RequestLog(options.requests)) as record:
            _serve(Emulator(configuration, mint=mint, record=record), configuration, options, tls)
    except EmulatorConfigurationError as error:
        raise ConfigurationError(str(error), hint="correct what it names") from error


def _serve(app: Emulator, configuration: Configuration, options: EmulatorOptions, tls: ssl.SSLContext | None) -> None:
    server = http_server.HTTPServer(app, host=options.listen, port=options.port, limits=_LIMITS, tls=tls)
    try:
        # One write: a reader of a pipe gets all of it or nothing.
        click.echo("\n".join(_announcement(server.url, configuration)))
        server.run()
    finally:
        server.close()


def _check(options: EmulatorOptions) -> None:
    if (options.ca is None) == (options.config is None):
        raise ConfigurationError(
            "exactly one of --ca and --config is needed",
            hint="--ca FILE trusts one CA with a ready-made profile and role; --config FILE sets up everything",
        )
    if options.crl and not options.ca:
        raise ConfigurationError("--crl belongs to --ca", hint="with --config, name it in the trust anchor's crls")
    if options.tls_key and not options.tls_certificate:
        raise ConfigurationError("--tls-key needs --tls-certificate", hint="name the certificate too")


def _configuration(options: EmulatorOptions) -> Configuration:
    if options.config is not None:
        return _load(options.config)
    assert options.ca is not None  # noqa: S101 - _check has seen to it; for the type
    return _for_certificate_authority(options.ca, options.crl)


def _sts(url: str, environment: Mapping[str, str]) -> STS:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    access_key_id, secret_access_key = (environment.get(name, "") for name in names)
    if not access_key_id or not secret_access_key:
        raise ConfigurationError(
            f"--sts-endpoint needs {' and '.join(names)} in the environment",
            hint="name the keys of a user of the stand-in that may assume the roles; many stand-ins take any",
        )
    return STS(url, access_key_id, secret_access_key)


def _announcement(url: str, configuration: Configuration) -> list[str]:
    profile = next(iter(configuration.profiles.values()))
    options = (
        f"--endpoint {url}",
        f"--trust-anchor-arn {shell_word(next(iter(configuration.trust_anchors)))}",
        f"--profile-arn {shell_word(profile.arn)}",
        f"--role-arn {shell_word(profile.role_arns[0])}",
    )
    return [f"listening on {url}", _BETWEEN.join(options)]
