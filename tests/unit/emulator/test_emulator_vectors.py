"""The requests captured from the official helper (tests/vectors/sigv4_x509.json) against the emulator."""

import base64
import http.client
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from rolekey import http_server
from rolekey.emulator import Configuration, Emulator
from rolekey.emulator.certificates import read_certificate
from rolekey.emulator.model import Profile, TrustAnchor
from rolekey.emulator.refusals import Refusal
from rolekey.emulator.request import form_decode
from support.emulator_caller import Wire, send

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "sigv4_x509.json").read_text())
NAMES = [vector["name"] for vector in VECTORS]
DATE = datetime(2026, 11, 22, 7, 48, 24, tzinfo=UTC)
# The intermediate that issued all of the vectors' certificates is the trust anchor; it is also in the chains.
AUTHORITY = read_certificate(base64.b64decode(VECTORS[1]["headers"]["x-amz-x509-chain"]))
# Carried, but not signed: the server never looks at them.
UNSIGNED = {"user-agent", "accept-encoding", "content-length", "authorization"}


def wire_of(vector) -> Wire:
    method, target, *_ = vector["request_line"].split(" ")
    path, _, query = target.partition("?")
    headers = tuple((name.encode(), value.encode()) for name, value in vector["headers"].items())
    return Wire(method, path.encode(), query.encode(), headers, vector["body"].encode())


def emulator() -> Emulator:
    query = {name: values[0] for name, values in parse_qs(wire_of(VECTORS[0]).query.decode()).items()}
    anchor = TrustAnchor(query["trustAnchorArn"], (AUTHORITY,))
    profile = Profile(query["profileArn"], (query["roleArn"],))
    return Emulator(Configuration({anchor.arn: anchor}, {profile.arn: profile}), clock=lambda: DATE)


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_a_captured_request_is_accepted_over_http(vector):
    """A request of the official helper, sent byte for byte as it was captured, gets its credentials."""
    wire = wire_of(vector)
    limits = http_server.Limits(header_bytes=256 * 1024)
    with http_server.running(emulator(), limits=limits) as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
        connection.putrequest(
            wire.method, f"/sessions?{wire.query.decode()}", skip_host=True, skip_accept_encoding=True
        )
        for name, value in wire.headers:
            connection.putheader(name.decode(), value)
        connection.endheaders(wire.body)
        response = connection.getresponse()
        document = json.loads(response.read())
        connection.close()
    assert response.status == 201
    assert document["credentialSet"][0]["credentials"]["expiration"] == "2026-11-22T08:48:24Z"


def changed_bytes(data: bytes, bit: int) -> Iterator[bytes]:
    """The data with one byte changed, for each byte."""
    for position in range(len(data)):
        yield data[:position] + bytes([data[position] ^ bit]) + data[position + 1 :]


def same_query(one: bytes, other: bytes) -> bool:
    """Whether two queries are the same once decoded, as %3A and %3a are."""
    try:
        return form_decode(one) == form_decode(other)
    except Refusal:
        return False


def same_value(one: bytes, other: bytes) -> bool:
    """Whether two header values are the same once trimmed and with runs of spaces made one."""
    return b" ".join(one.split(b" ")).strip() == b" ".join(other.split(b" ")).strip() and one.split() == other.split()


def mutations(wire: Wire, bit: int) -> Iterator[tuple[str, Wire]]:
    """Every request that differs from this one in one byte of what the signature covers, or of the signature itself.

    Left out are only the changes that the canonical request does not show: the case of a percent-escape's digits in the
    query, and spaces around a header's value or beside other spaces in it.
    """
    for method in changed_bytes(wire.method.encode(), bit):
        yield "method", replace(wire, method=method.decode())
    for path in changed_bytes(wire.path, bit):
        yield "path", replace(wire, path=path)
    for query in changed_bytes(wire.query, bit):
        if not same_query(wire.query, query):
            yield "query", replace(wire, query=query)
    for body in changed_bytes(wire.body, bit):
        yield "body", replace(wire, body=body)
    for index, (name, value) in enumerate(wire.headers):
        if name.decode() in UNSIGNED - {"authorization"}:
            continue
        pairs = [(name, changed) for changed in changed_bytes(value, bit) if not same_value(value, changed)]
        # A name's case means nothing, and the server gives names in lower case.
        pairs += [(changed, value) for changed in changed_bytes(name, bit) if changed.lower() != name]
        for pair in pairs:
            yield name.decode(), replace(wire, headers=(*wire.headers[:index], pair, *wire.headers[index + 1 :]))


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_a_captured_request_with_any_byte_changed_is_refused(vector):
    """One bit of one byte changed anywhere in what is signed, or in the signature: refused in the service's form."""
    app, wire = emulator(), wire_of(vector)
    assert send(app, wire).status == 201
    counts: dict[str, int] = {}
    for bit in (0x01, 0x20):
        for part, changed in mutations(wire, bit):
            counts[part] = counts.get(part, 0) + 1
            answer = send(app, changed)
            assert 400 <= answer.status < 500, (part, changed)
            assert answer.document["message"]
            assert answer.headers["x-amzn-errortype"]
    signed = {name.decode() for name, _ in wire.headers} - UNSIGNED
    assert counts.keys() == {"method", "path", "query", "body", "authorization"} | signed
    assert all(counts[name] >= len(dict(wire.headers)[name.encode()]) for name in signed | {"authorization"})
    assert counts["query"] > len(wire.query)
    assert counts["body"] == 2 * len(wire.body)


@pytest.mark.parametrize("name", ["content-type", "x-amz-date", "x-amz-x509", "amz-sdk-request"])
def test_a_signed_header_that_grows_shrinks_or_is_doubled_is_refused(name):
    """A byte more, a byte less or a second copy of a signed header is as bad as a changed byte."""
    app, wire = emulator(), wire_of(VECTORS[3])
    value = wire.header(name)
    for changed in (
        wire.with_header(name, value + "x"),
        wire.with_header(name, value[:-1]),
        wire.with_header(name, None),
        replace(wire, headers=(*wire.headers, (name.encode(), value.encode()))),
    ):
        assert 400 <= send(app, changed).status < 500


def test_spaces_that_the_canonical_request_does_not_show_change_nothing():
    """Spaces around a value and runs of spaces in it are equivalent (authentication-sign-process)."""
    wire = wire_of(VECTORS[3])
    value = wire.header("amz-sdk-request")
    assert " " in value
    assert send(emulator(), wire.with_header("amz-sdk-request", f"  {value.replace(' ', '   ')} ")).status == 201
