"""Broken set-ups whose fault is in the certificate, on the way to the service, or in what the service allows."""

import subprocess
from datetime import UTC, datetime, timedelta

from rolekey.emulator.configuration import DEFAULT_ROLE_ARN
from rolekey.emulator.model import Profile, Role
from rolekey.emulator.trust_policy import parse as parse_policy
from support.broken_bench import NOW, YEAR, Bench, Run, broken
from support.listener import ServerTLS
from support.pki import key_usage, make_name, make_root, to_pem
from support.service import ScriptedService, answer

# --- certificates ---


@broken("an expired certificate", "validity", "the certificate expired on")
def _expired(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(not_before=NOW - YEAR, not_after=NOW - timedelta(days=1))])


@broken("a certificate of the future", "validity", "is not valid before")
def _future(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(not_before=NOW + timedelta(days=1))])


@broken("a certificate that ends in a week", "validity", "expires on", "warning")
def _soon(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(not_before=NOW - YEAR, not_after=NOW + timedelta(days=7, hours=1))])


@broken("a CA's certificate", "certificate profile", "it is a CA certificate")
def _ca(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(ca=True, usage=key_usage("key_cert_sign"))])


@broken("no digitalSignature", "certificate profile", "keyUsage has no digitalSignature")
def _usage(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(usage=key_usage("key_encipherment"))])


@broken("a SHA-1 signature", "certificate profile", "weaker than SHA-256")
def _sha1(bench: Bench) -> Run:
    ca, ca_key = bench.root.write(bench.directory, "ca")
    words = bench.leaf()
    usage = bench.directory / "usage"
    usage.write_text("keyUsage=digitalSignature\n", encoding="ascii")
    request = ["openssl", "req", "-new", "-key", words[3], "-subj", "/CN=machine"]
    sign = [
        "openssl",
        "x509",
        "-req",
        "-sha1",
        "-days",
        "365",
        "-CA",
        str(ca),
        "-CAkey",
        str(ca_key),
        "-set_serial",
        "7",
    ]
    made = subprocess.run(request, check=True, capture_output=True, timeout=60)
    sign += ["-extfile", str(usage), "-out", words[1]]
    subprocess.run(sign, input=made.stdout, check=True, capture_output=True, timeout=60)
    return Run([*bench.arns, *words])


@broken("an empty subject", "certificate profile", "subject is empty")
def _subject(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(subject=make_name(None))])


@broken("a missing intermediate", "trust anchor", "the chain breaks above CN=machine")
def _intermediate(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(bench.root.issue_authority()), *bench.anchor()])


@broken("an expired intermediate", "chain", "expired on")
def _old_intermediate(bench: Bench) -> Run:
    issuer = bench.root.issue_authority(not_before=NOW - YEAR, not_after=NOW - timedelta(days=1))
    words = bench.leaf(issuer)
    (bench.directory / "chain.pem").write_bytes(to_pem([issuer.certificate]))
    return Run([*bench.arns, *words, "--intermediates", str(bench.directory / "chain.pem")])


@broken("an intermediate that may have none below it", "chain", "pathLenConstraint")
def _path_length(bench: Bench) -> Run:
    upper = bench.root.issue_authority(common_name="Upper", not_after=NOW + YEAR, path_length=0)
    lower = upper.issue_authority(common_name="Lower", not_after=NOW + YEAR)
    words = bench.leaf(lower)
    (bench.directory / "chain.pem").write_bytes(to_pem([lower.certificate, upper.certificate]))
    return Run([*bench.arns, *words, "--intermediates", str(bench.directory / "chain.pem")])


@broken("a trust anchor of another CA", "trust anchor", "nor the trust anchor CN=Another root")
def _anchor(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(), *bench.anchor(make_root(common_name="Another root"))])


@broken("a trust anchor whose CA was made anew", "trust anchor", "was signed by another key of that name")
def _renewed_anchor(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(), *bench.anchor(make_root())])


# --- the network ---


@broken("a name without an address", "DNS", "has no address")
def _dns(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(), "--endpoint", "https://rolesanywhere.invalid"])


@broken("nothing listens at the endpoint", "connection", "Connection refused")
def _nobody(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(), "--endpoint", f"http://{_closed()}"])


def _closed() -> str:
    with ScriptedService() as service:
        return service.address


@broken("TLS by a CA that is not trusted (an intercepting proxy)", "TLS", "is issued by CN=Test server CA, which")
def _untrusted(bench: Bench) -> Run:
    tls = ServerTLS.make(bench.directory / "tls")
    arguments = bench.service(bench.configuration(), tls=(tls.certificate, tls.key))
    return Run([*arguments, *bench.leaf()], {"SSL_CERT_FILE": ""})


@broken("a server's certificate for another host", "TLS", "has the certificate of another host")
def _other_host(bench: Bench) -> Run:
    tls = ServerTLS.make(bench.directory / "tls", "service.test")
    arguments = bench.service(bench.configuration(), tls=(tls.certificate, tls.key))
    return Run([*arguments, *bench.leaf()], {"AWS_CA_BUNDLE": str(tls.ca)})


@broken("`AWS_CA_BUNDLE` names a file that is not there", "settings", "which does not exist")
def _no_bundle(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf()], {"AWS_CA_BUNDLE": str(bench.directory / "cas.pem")})


@broken("`AWS_CA_BUNDLE` names a file without certificates", "TLS", "holds no CA certificates")
def _empty_bundle(bench: Bench) -> Run:
    tls = ServerTLS.make(bench.directory / "tls")
    arguments = bench.service(bench.configuration(), tls=(tls.certificate, tls.key))
    return Run([*arguments, *bench.leaf()], {"AWS_CA_BUNDLE": str(tls.key)})


@broken("a portal that wants a login first", "answer", "which IAM Roles Anywhere would not", "warning")
def _portal(bench: Bench) -> Run:
    service = bench.stack.enter_context(ScriptedService((), (answer(302, b"", {"Location": "/login"}),)))
    return Run([*bench.arns, *bench.leaf(), "--endpoint", service.url])


@broken("a proxy that is not there", "connection", "no connection to proxy")
def _proxy(bench: Bench) -> Run:
    words = [*bench.arns, *bench.leaf(), "--endpoint", "https://service.test"]
    return Run(words, {"HTTPS_PROXY": f"http://user:hunter2-canary@{_closed()}"})


@broken("a proxy that wants another password", "answer", "does not let the request through")
def _strict_proxy(bench: Bench) -> Run:
    service = bench.stack.enter_context(ScriptedService((answer(407),), (answer(407),)))
    words = [*bench.arns, *bench.leaf(), "--endpoint", "https://service.test"]
    return Run(words, {"HTTPS_PROXY": f"http://user:hunter2-canary@{service.address}"})


@broken("a clock that is an hour behind", "clock", "behind the service's: every signature is refused")
def _clock(bench: Bench) -> Run:
    words = bench.service(bench.configuration(), clock=lambda: datetime.now(UTC) + timedelta(hours=1))
    return Run([*words, *bench.leaf()])


# --- what the service refuses ---


@broken("a CA that the service does not know, `--sign`", "signature", "the trust anchor's CA")
def _unknown_ca(bench: Bench) -> Run:
    return Run([*bench.arns, *bench.leaf(make_root(common_name="Another root")), "--sign"])


@broken("a trust policy for another certificate, `--sign`", "signature", "the role's trust policy is what")
def _trust_policy(bench: Bench) -> Run:
    policy = parse_policy(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "rolesanywhere.amazonaws.com"},
                    "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
                    "Condition": {"StringEquals": {"aws:PrincipalTag/x509Subject/CN": "another"}},
                }
            ],
        }
    )
    role = Role(DEFAULT_ROLE_ARN, trust_policy=policy)
    return Run([*bench.service(bench.configuration(roles={role.arn: role})), *bench.leaf(), "--sign"])


@broken("a role that the Roles Anywhere profile does not list, `--sign`", "signature", "does not list")
def _role(bench: Bench) -> Run:
    return Run([*bench.arns, "--role-arn", f"{DEFAULT_ROLE_ARN}-2", *bench.leaf(), "--sign"])


@broken("a trust anchor that does not exist, `--sign`", "signature", "the trust anchor is what the service refuses")
def _no_anchor(bench: Bench) -> Run:
    arn = f"{bench.emulator.trust_anchor_arn[:-1]}9"
    return Run([*bench.arns, "--trust-anchor-arn", arn, *bench.leaf(), "--sign"])


@broken("a session name that the Roles Anywhere profile does not take, `--sign`", "signature", "the role session name")
def _session_name(bench: Bench) -> Run:
    profile = Profile(bench.emulator.profile_arn, (DEFAULT_ROLE_ARN,), accept_role_session_name=False)
    words = bench.service(bench.configuration(profiles={profile.arn: profile}))
    return Run([*words, *bench.leaf(), "--role-session-name", "web", "--sign"])


@broken("a request that something changes on its way, `--sign`", "signature", "or something that changes requests")
def _changed(bench: Bench) -> Run:
    refusal = answer(403, b'{"message": "Invalid signature"}', {"X-Amzn-ErrorType": "AccessDeniedException"})
    service = bench.stack.enter_context(ScriptedService((), (answer(404),), (refusal,)))
    return Run([*bench.arns, *bench.leaf(), "--endpoint", service.url, "--sign"])
