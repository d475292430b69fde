"""A caller with a signer of its own, written for these tests: neither the client's code nor the emulator's."""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from rolekey.emulator import Configuration, Emulator
from rolekey.emulator.certificates import read_certificate
from rolekey.emulator.model import Profile, Role, TrustAnchor
from support.pki import Issued, make_root

NOW = datetime.now(UTC).replace(microsecond=0)
ANCHOR = "arn:aws:rolesanywhere:eu-west-1:123456789012:trust-anchor/11111111-2222-3333-4444-555555555555"
PROFILE = "arn:aws:rolesanywhere:eu-west-1:123456789012:profile/11111111-2222-3333-4444-666666666666"
ROLE = "arn:aws:iam::123456789012:role/team/example"


@dataclass(frozen=True)
class Answer:
    """What the emulator said."""

    status: int
    headers: Mapping[str, str]
    document: Any

    @property
    def refusal(self) -> tuple[int, str, str]:
        """Status, error type and message."""
        return self.status, self.headers["x-amzn-errortype"], self.document["message"]


@dataclass(frozen=True)
class Wire:
    """An HTTP request, every part of which a test may change."""

    method: str
    path: bytes
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def with_header(self, name: str, value: str | bytes | None) -> "Wire":
        """The same with one header replaced, added, or, with None, left out."""
        raw = value.encode("latin-1") if isinstance(value, str) else value
        others = tuple(pair for pair in self.headers if pair[0] != name.encode())
        return replace(self, headers=others if raw is None else (*others, (name.encode(), raw)))

    def header(self, name: str) -> str:
        """One header's value."""
        return dict(self.headers)[name.encode()].decode("latin-1")


def send(app: Emulator, wire: Wire) -> Answer:
    """Call the application without a server; the application never waits for anything but the body, which is there."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": wire.body, "more_body": False}

    async def take(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": wire.method,
        "path": wire.path.decode("latin-1"),
        "raw_path": wire.path,
        "query_string": wire.query,
        "headers": list(wire.headers),
    }
    call = app(scope, receive, take)
    with contextlib.suppress(StopIteration):
        call.send(None)
        raise AssertionError("the application waited for something")
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], headers, json.loads(sent[1]["body"]))


@dataclass
class Caller:
    """One machine with its certificate, and the account that it calls.

    The attributes are what it does right; a test changes one and sees what becomes of it.
    """

    root: Issued
    leaf: Issued
    anchor: TrustAnchor
    profile: Profile = field(default_factory=lambda: Profile(PROFILE, (ROLE,)))
    role: Role = field(default_factory=lambda: Role(ROLE))
    chain: Sequence[x509.Certificate] = ()
    now: datetime = NOW
    log: list[dict[str, Any]] = field(default_factory=list)

    def app(self) -> Emulator:
        """The emulator with that account."""
        configuration = Configuration({ANCHOR: self.anchor}, {PROFILE: self.profile}, {ROLE: self.role})
        return Emulator(configuration, clock=lambda: self.now, record=self.log.append)

    def ask(self, **request: Any) -> Answer:
        """Sign and send; the arguments are those of `wire`."""
        return send(self.app(), self.wire(**request))

    def wire(
        self,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        path: str = "/sessions",
        signed_path: str = "/sessions",
        date: datetime | None = None,
        scope_date: str | None = None,
        region: str = "eu-west-1",
        service: str = "rolesanywhere",
        serial: str | None = None,
        algorithm: str | None = None,
        unsigned: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
        canonical_query: str | None = None,
    ) -> Wire:
        """A signed request."""
        arns = {"profileArn": PROFILE, "roleArn": ROLE, "trustAnchorArn": ANCHOR}
        pairs = sorted((arns if query is None else query).items())
        content = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        stamp = (date or self.now).strftime("%Y%m%dT%H%M%SZ")
        sent = {
            "host": "localhost:1234",
            "content-type": "application/json",
            "x-amz-date": stamp,
            "x-amz-x509": self.leaf.base64,
        }
        if self.chain:
            sent["x-amz-x509-chain"] = ",".join(Issued(c, self.leaf.key).base64 for c in self.chain)
        sent |= headers or {}
        signed = sorted(set(sent) - set(unsigned))
        if canonical_query is None:
            canonical_query = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in pairs)
        lines = "".join(f"{name}:{sent[name]}\n" for name in signed)
        digest = hashlib.sha256(content).hexdigest()
        canonical = f"POST\n{signed_path}\n{canonical_query}\n{lines}\n{';'.join(signed)}\n{digest}"
        scope = f"{scope_date or stamp[:8]}/{region}/{service}/aws4_request"
        name, signature = _sign(self.leaf, stamp, scope, canonical, algorithm)
        number = serial or str(self.leaf.certificate.serial_number)
        sent["authorization"] = (
            f"{name} Credential={number}/{scope}, SignedHeaders={';'.join(signed)}, Signature={signature}"
        )
        raw = tuple((key.encode(), value.encode("latin-1")) for key, value in sent.items())
        return Wire("POST", path.encode(), urlencode(pairs).encode(), raw, content)


def _sign(leaf: Issued, stamp: str, scope: str, canonical: str, algorithm: str | None) -> tuple[str, str]:
    kind = "MLDSA"
    if isinstance(leaf.key, rsa.RSAPrivateKey):
        kind = "RSA-SHA256"
    elif isinstance(leaf.key, ec.EllipticCurvePrivateKey):
        kind = "ECDSA-SHA256"
    name = algorithm or f"AWS4-X509-{kind}"
    message = f"{name}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode('latin-1')).hexdigest()}".encode()
    if isinstance(leaf.key, rsa.RSAPrivateKey):
        signature = leaf.key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(leaf.key, ec.EllipticCurvePrivateKey):
        signature = leaf.key.sign(message, ec.ECDSA(hashes.SHA256()))
    else:
        signature = leaf.key.sign(message)
    return name, signature.hex()


def trust(issued: Issued, **others: Any) -> TrustAnchor:
    """A trust anchor that believes one CA."""
    return TrustAnchor(ANCHOR, (read_certificate(issued.der),), **others)


def make_caller() -> Caller:
    """A machine whose certificate the trust anchor's root issued."""
    root = make_root()
    return Caller(root, root.issue(common_name="machine"), trust(root))
