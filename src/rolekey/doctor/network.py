"""The way to the service: name, proxy, connection, TLS, and the clock that its answer tells. Nothing signed is sent."""

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from cryptography import x509

from rolekey._version import __version__
from rolekey.config import ca_bundle_of, proxy_of
from rolekey.deadline import Deadline
from rolekey.doctor.context import Context
from rolekey.doctor.finding import Verdict, failed, known, not_known, ok, skipped, warning
from rolekey.endpoints import Endpoint
from rolekey.errors import ConfigurationError, RolekeyError
from rolekey.transport import Post, Route, send
from rolekey.transport.opening import connect

_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_NOTABLE_SECONDS, _SIGNATURE_SECONDS = 10, 300
_BUNDLE = "name a PEM file with the CAs to trust in AWS_CA_BUNDLE (or the variable that names this one), or unset it"
# X509_V_ERR_*
_UNTRUSTED, _EXPIRED, _NOT_YET_VALID, _WRONG_NAME = (2, 18, 19, 20, 21), (10,), (9,), (62, 64)


def check_proxy(context: Context) -> Iterator[Verdict]:
    """Which proxy is used, if any."""
    endpoint = known(context.facts.endpoint, "the endpoint")
    named = next((name for name in _VARIABLES if context.environment.get(name)), None)
    if proxy_of(endpoint, context.environment) is not None:
        yield ok(f"{named}: {_next_hop(context, endpoint)[2]}")
    elif named is None:
        yield ok("none: HTTPS_PROXY and ALL_PROXY are not set")
    else:
        why = "it is this machine" if endpoint.is_loopback else "NO_PROXY exempts it"
        yield ok(f"none for {endpoint.host}: {named} is set, and {why}")


def _next_hop(context: Context, endpoint: Endpoint) -> tuple[str, int, str]:
    """Host and port to which the connection goes, and what it is called, without user and password."""
    proxy = proxy_of(endpoint, context.environment)
    parts = urlsplit(str(endpoint)) if proxy is None else _split(proxy.reveal())
    port = parts.port or {"https": 443, "http": 80, "socks5": 1080}.get(parts.scheme, 80)
    host = parts.hostname or ""
    return host, port, f"{'proxy ' if proxy else ''}{host}:{port}"


def _split(url: str) -> SplitResult:
    # Returns or raises without the URL, which may hold a password.
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(
            "the proxy's URL cannot be used", hint="check HTTPS_PROXY: http://USER:PASSWORD@HOST:PORT"
        )
    return parts


def check_name(context: Context) -> Iterator[Verdict]:
    """Whether the name of the service, or of the proxy, has an address."""
    endpoint = known(context.facts.endpoint, "the endpoint")
    host, port, _ = _next_hop(context, endpoint)

    def resolve() -> list[str]:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[4][0]) for address in found))

    try:
        addresses = context.deadline().run(f"the address of {host}", resolve)
    except (OSError, UnicodeError) as error:
        yield failed(
            f"the name {host} has no address: {getattr(error, 'strerror', None) or 'it is no host name'}",
            "check the region, --endpoint and this machine's DNS; behind a proxy set HTTPS_PROXY",
        )
        return
    context.facts.has_address = True
    yield ok(f"{host} is {', '.join(addresses[:4])}")


def check_connection(context: Context) -> Iterator[Verdict]:
    """Whether a connection can be made."""
    endpoint = known(context.facts.endpoint, "the endpoint")
    known(context.facts.has_address, "the address")
    host, port, text = _next_hop(context, endpoint)
    deadline = context.deadline()
    try:
        deadline.run(
            f"a connection to {text}", lambda: socket.create_connection((host, port), deadline.remaining() + 1).close()
        )
    except OSError as error:
        yield failed(
            f"no connection to {text}: {error.strerror or 'no answer'}",
            "check the proxy and HTTPS_PROXY"
            if proxy_of(endpoint, context.environment)
            else "check the network and its firewall; behind a proxy set HTTPS_PROXY",
        )
        return
    context.facts.connects = True
    yield ok(f"{text} takes connections")


def check_tls(context: Context) -> Iterator[Verdict]:
    """Whether the service's certificate is one to trust. Through a proxy, the answer says it."""
    endpoint = known(context.facts.endpoint, "the endpoint")
    if endpoint.scheme == "http" or proxy_of(endpoint, context.environment) is not None:
        context.facts.trusted = True
        return
    known(context.facts.connects, "the connection")
    route = _route(context, endpoint)
    if route.ca_bundle is not None and not _is_bundle(route.ca_bundle):
        yield failed(f"{route.ca_bundle} holds no CA certificates that can be read", _BUNDLE)
        return
    cas = f"the CAs of {route.ca_bundle}" if route.ca_bundle else "certifi's CAs"
    deadline = context.deadline()
    try:
        connect(str(endpoint), route, deadline, "TLS").close()
    except ssl.SSLCertVerificationError as error:
        yield _of_certificate(error, endpoint, _presented_issuer(endpoint, context.deadline()), cas)
        return
    except OSError as error:
        yield failed(
            f"no TLS connection to {endpoint.host}: {error.strerror or type(error).__name__}",
            "something else than the service may answer there: check --endpoint and the network",
        )
        return
    context.facts.trusted = True
    if route.verify_tls:
        yield ok(f"the certificate of {endpoint.host} is good by {cas}")
    else:
        yield warning("--no-verify-ssl: whoever is in between gets the credentials", "leave it out")


def _route(context: Context, endpoint: Endpoint) -> Route:
    verify = context.options.verify_tls is not False
    try:
        ca_bundle = ca_bundle_of(context.environment)
    except ConfigurationError:
        raise not_known("which CAs are trusted") from None  # said with the other settings
    return Route(verify, ca_bundle, proxy_of(endpoint, context.environment))


def _is_bundle(path: Path) -> bool:
    if path.is_dir():
        return True
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError:
        return False
    return True


def _of_certificate(error: ssl.SSLCertVerificationError, endpoint: Endpoint, issuer: str, cas: str) -> Verdict:
    host, code = endpoint.host, error.verify_code
    if code in _EXPIRED + _NOT_YET_VALID:
        state = "has expired" if code in _EXPIRED else "is not valid yet"
        return failed(f"the certificate of {host} {state}, by this machine's clock", "check this machine's clock")
    if code in _WRONG_NAME:
        return failed(
            f"what answers at {host} has the certificate of another host", "check --endpoint, and who answers there"
        )
    if code in _UNTRUSTED:
        return failed(
            f"the certificate of {host} is issued by {issuer}, which {cas} do not know",
            "if that is your organisation's proxy or a private CA, name its PEM file in AWS_CA_BUNDLE; else somebody "
            "is in between",
        )
    return failed(
        f"the certificate of {host} is not to be trusted: {error.verify_message}", "check --endpoint and AWS_CA_BUNDLE"
    )


def _presented_issuer(endpoint: Endpoint, deadline: Deadline) -> str:
    """Who issued the certificate that was shown. Nothing is sent over this connection."""
    try:
        connection = connect(str(endpoint), Route(verify_tls=False), deadline, "TLS")
    except (OSError, RolekeyError):
        return "an issuer"
    with connection:
        der = connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None
    try:
        issuer = x509.load_der_x509_certificate(der or b"").issuer.rfc4514_string()
    except ValueError:
        return "an issuer"
    return issuer or "an issuer without a name"


def check_answer(context: Context) -> Iterator[Verdict]:
    """What answers a request without a signature, which opens nothing."""
    endpoint = known(context.facts.endpoint, "the endpoint")
    known(context.facts.connects, "the connection")
    known(context.facts.trusted, "who answers")
    headers = {"Host": endpoint.host, "User-Agent": f"rolekey/{__version__}", "Accept-Encoding": "identity"}
    answer = send(Post(f"{endpoint}/", headers, b""), _route(context, endpoint), context.deadline())
    context.facts.answer, context.facts.answered_at = answer, context.clock()
    if answer.status >= 500:
        yield warning(f"{endpoint.host} answers with HTTP status {answer.status}", "try again later")
    elif answer.status < 400:
        yield warning(
            f"{endpoint.host} answers a request without a signature with HTTP status {answer.status}, which IAM Roles "
            "Anywhere would not",
            "something else may answer there (a portal that wants a login): check --endpoint and the network",
        )
    else:
        yield ok(f"{endpoint.host} answers (HTTP status {answer.status} to a request without a signature)")


def check_clock(context: Context) -> Iterator[Verdict]:
    """The clock of this machine against the service's."""
    answer = known(context.facts.answer, "the service's time")
    ours = known(context.facts.answered_at, "the service's time")
    try:
        theirs = parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError):
        yield skipped("the answer does not tell the time")
        return
    difference = (ours - (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC))).total_seconds()
    seconds = round(abs(difference))
    text = f"this machine's clock is {seconds} s {'ahead of' if difference > 0 else 'behind'} the service's"
    remedy = "set it (timedatectl, chrony); a signature is accepted for five minutes"
    if seconds >= _SIGNATURE_SECONDS:
        yield failed(f"{text}: every signature is refused", remedy)
    elif seconds >= _NOTABLE_SECONDS:
        yield warning(text, remedy)
    else:
        yield ok("this machine's clock is the service's")
