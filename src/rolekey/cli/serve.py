"""``rolekey serve``: credentials from endpoints on this machine, for SDKs that ask one."""

import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rolekey.cli.fetching import settings_from
from rolekey.cli.flag_table import HELPER_FLAGS, OWN_FLAGS, Flag
from rolekey.cli.flags import helper_command
from rolekey.cli.serving import (
    DEFAULT_HOP_LIMIT,
    DEFAULT_PORT,
    ServeOptions,
    Sockets,
    is_credential,
    notify_systemd,
    open_sockets,
    token_file_of,
)
from rolekey.cli.terminal import Terminal, signals_raise
from rolekey.config import Settings
from rolekey.credentials import Credentials
from rolekey.errors import ConfigurationError, RolekeyError
from rolekey.fetcher import Fetcher, Unlocked
from rolekey.http_server import Limits, Listener, ResponderServer
from rolekey.provider import Provider, ProviderMetrics
from rolekey.secret import guard_memory
from rolekey.vend.container import ContainerCredentials
from rolekey.vend.exports import container_exports, metadata_exports
from rolekey.vend.health import Health
from rolekey.vend.imds import KEY_BYTES, InstanceMetadata, TokenMint
from rolekey.vend.local_site import NO_METADATA, AllowedHosts, LocalSite, no_metadata
from rolekey.vend.peers import check_for_own_user
from rolekey.vend.token_file import read_token

log = logging.getLogger(__name__)

# What the identity of a command line is called that names none.
UNNAMED = "default"
_MOST_IDENTITIES = 64
_LIMITS = Limits(header_bytes=16 * 1024, header_seconds=5.0, body_bytes=16 * 1024, connections=2048)
SERVE_FLAGS = (
    Flag("--port", "integer", "Port on the loopback interface; 0 is any.", DEFAULT_PORT),
    Flag("--hop-limit", "integer", "How often answers may be forwarded, 1 to 255.", DEFAULT_HOP_LIMIT),
    Flag("--listen", "text", "An address beyond the loopback interface: the container endpoint only."),
    Flag("--allow-host", "text", "Names by which clients may call this machine, with commas between them."),
    Flag("--any-user", "boolean", "Every user of this machine may use the metadata service."),
    Flag("--token-file", "text", "Private file with the container endpoint's token; else one is made."),
    Flag("--tls-certificate", "text", "PEM file with the certificate for --listen."),
    Flag("--tls-key", "text", "PEM file with its key."),
    Flag("--insecure-http", "boolean", "--listen without TLS: who is in between gets the credentials."),
    Flag("--print-env", "boolean", "Print what SDKs must find in their environment, on stdout."),
)


@helper_command("serve", (*HELPER_FLAGS, *OWN_FLAGS, *SERVE_FLAGS), most_names=_MOST_IDENTITIES)
def serve(names: Sequence[str], **values: Any) -> None:
    """Hand temporary credentials out on this machine, and keep them fresh.

    Instance metadata (IMDSv2) and the container endpoint answer on 127.0.0.1 and ::1; the container endpoint alone
    where the system does not tell whose process asks. The first credentials are there before anybody is answered;
    while refreshes fail, the last good ones are handed out until they expire. Of several identities the first is the
    instance's role, and all are at the container endpoint under their names.
    """
    _check_different(names)
    settings = settings_from(values, names)
    options = serve_options_from(values)
    options.check()
    guard_memory()
    unlocked = Unlocked()
    served = [ServedRole(one, name, unlocked) for one, name in zip(settings, names or (UNNAMED,), strict=True)]
    try:
        with signals_raise():
            for role in served:
                role.provider.refresh()
        _serve(served, options, print_env=bool(values["print_env"]))
    finally:
        for role in served:
            role.close()


def _check_different(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"identity {name} is named twice", hint="name each identity once")


def serve_options_from(values: dict[str, Any]) -> ServeOptions:
    """The ServeOptions that a command line's values are."""

    def path(name: str) -> Path | None:
        return Path(values[name]) if values[name] else None

    return ServeOptions(
        port=values["port"],
        hop_limit=values["hop_limit"],
        listen=values["listen"] or None,
        allowed_hosts=tuple(host.strip() for host in (values["allow_host"] or "").split(",") if host.strip()),
        any_user=bool(values["any_user"]),
        token_file=path("token_file"),
        tls_certificate=path("tls_certificate"),
        tls_key=path("tls_key"),
        insecure_http=bool(values["insecure_http"]),
    )


class ServedRole:
    """One identity, whose key is used in a process of its own.

    Args:
        settings: what is asked, of whom, with which key.
        name: what the container endpoint calls it.
        unlocked: shared by all identities that are served.
    """

    def __init__(self, settings: Settings, name: str, unlocked: Unlocked) -> None:
        self.name = name
        # The service's own process stays small, and free of keys.
        self._fetcher = Fetcher(settings, Terminal, apart=True, unlocked=unlocked)
        self._fetcher.claim()
        self.role_name = settings.role_arn.role_name
        self.provider = Provider(self._fetcher)

    def current(self) -> Credentials | None:
        """As vend.source.Source says."""
        return self.provider.current()

    def problem(self) -> tuple[str, str]:
        """As vend.source.Source says."""
        failure = self.provider.failure()
        if failure is None:
            return "Expired", "the credentials have expired, and new ones are being asked for"
        return type(failure).__name__, failure.message

    def metrics(self) -> ProviderMetrics:
        """As vend.source.Source says."""
        return self.provider.metrics()

    def close(self) -> None:
        """End the refreshing and the key's process."""
        self.provider.stop()
        self._fetcher.close()


def _serve(served: Sequence[ServedRole], options: ServeOptions, *, print_env: bool) -> None:
    peers = None if options.any_user else check_for_own_user()
    tls = options.tls()
    sockets = open_sockets(options, os.environ)
    port = sockets.loopback[0].getsockname()[1] if sockets.loopback else options.port
    token_file = token_file_of(options, port, os.environ)
    trusted = is_credential(token_file, os.environ)
    container = ContainerCredentials(served, lambda: read_token(token_file, guarded=trusted))
    has_metadata = bool(sockets.loopback) and (options.any_user or peers is not None)
    metadata = InstanceMetadata(served, TokenMint(os.urandom(KEY_BYTES), time.monotonic))
    site = LocalSite(
        metadata=metadata.respond if has_metadata else no_metadata,
        container=container.respond,
        health=Health(served).respond,
        hosts=AllowedHosts(options.allowed_hosts, port),
        peers=peers,
    )
    server = ResponderServer(
        [
            *(Listener(listener, site.respond, _LIMITS) for listener in sockets.loopback),
            *(Listener(listener, container.respond, _LIMITS, tls) for listener in sockets.network),
        ]
    )
    for role in served:
        threading.Thread(target=role.provider.run, name=f"rolekey: refresh of {role.name}", daemon=True).start()
    if sockets.loopback and not has_metadata:
        sys.stderr.write(f"rolekey: no metadata service: {NO_METADATA}\n")
    _announce(sockets)
    if print_env:
        _print_env(sockets, served, token_file, metadata=has_metadata)
    notify_systemd("READY=1", os.environ)
    server.run(on_hangup=lambda: _reload(container))
    notify_systemd("STOPPING=1", os.environ)


def _reload(container: ContainerCredentials) -> None:
    try:
        container.reload()
    except RolekeyError as error:
        log.warning("the token stays as it was: %s", error.message)


def _announce(sockets: Sockets) -> None:
    for url in sockets.urls:
        sys.stderr.write(f"rolekey: listening on {url}\n")
    sys.stderr.flush()


def _print_env(sockets: Sockets, served: Sequence[ServedRole], token_file: Path, *, metadata: bool) -> None:
    lines = metadata_exports(sockets.url) if metadata else []
    for role in served:
        # A shell that takes all of it has the last identity's; a person takes the lines below a name.
        lines += [f"# {role.name}"] if len(served) > 1 else []
        lines += container_exports(sockets.url, role.name, token_file)
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
