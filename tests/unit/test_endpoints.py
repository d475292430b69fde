"""The service's own endpoints and those that a user names."""

import pytest

from rolekey.endpoints import Endpoint
from rolekey.errors import ConfigurationError

CANARY = "hunter2-canary"

# From botocore's endpoints for rolesanywhere: partition, a region of it, plain, dual-stack suffix.
HOSTS = [
    ("aws", "eu-west-1", "amazonaws.com", "api.aws"),
    ("aws-cn", "cn-north-1", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    ("aws-us-gov", "us-gov-west-1", "amazonaws.com", "api.aws"),
    ("aws-eusc", "eusc-de-east-1", "amazonaws.eu", "api.amazonwebservices.eu"),
    ("aws-iso", "us-iso-east-1", "c2s.ic.gov", "api.aws.ic.gov"),
    ("aws-iso-b", "us-isob-east-1", "sc2s.sgov.gov", "api.aws.scloud"),
    ("aws-iso-e", "eu-isoe-west-1", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    ("aws-iso-f", "us-isof-south-1", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
]


@pytest.mark.parametrize(("partition", "region", "plain", "dual_stack"), HOSTS)
def test_own_endpoints(partition, region, plain, dual_stack):
    """Each partition has its own host names, with and without FIPS and dual stack."""
    for fips, service in ((False, "rolesanywhere"), (True, "rolesanywhere-fips")):
        for dual, suffix in ((False, plain), (True, dual_stack)):
            endpoint = Endpoint.for_region(partition, region, fips=fips, dual_stack=dual)
            assert endpoint == Endpoint("https", f"{service}.{region}.{suffix}")
            assert str(endpoint) == f"https://{service}.{region}.{suffix}"
            assert not endpoint.is_loopback


@pytest.mark.parametrize("partition", ["aws-moon", "", "AWS"])
def test_unknown_partition(partition):
    """There is no host name to guess for a partition that is not known."""
    with pytest.raises(ConfigurationError, match="is not known") as caught:
        Endpoint.for_region(partition, "x", fips=False, dual_stack=False)
    assert "--endpoint" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("https://example.com", Endpoint("https", "example.com")),
        ("https://example.com/", Endpoint("https", "example.com")),
        ("HTTPS://Example.COM/", Endpoint("https", "example.com")),
        ("https://example.com:443", Endpoint("https", "example.com")),
        ("https://example.com:8443", Endpoint("https", "example.com:8443")),
        ("https://example.com:80", Endpoint("https", "example.com:80")),
        ("https://example.com:", Endpoint("https", "example.com")),
        ("https://10.0.0.1:1", Endpoint("https", "10.0.0.1:1")),
        ("https://[2001:db8::1]:8443", Endpoint("https", "[2001:db8::1]:8443")),
        ("https://vpce-1_x.example.com", Endpoint("https", "vpce-1_x.example.com")),
        ("https://xn--bcher-kva.example", Endpoint("https", "xn--bcher-kva.example")),
        # a path prefix is kept, as it is written
        ("https://example.com/a", Endpoint("https", "example.com", "/a")),
        ("https://example.com/a/B%20c/", Endpoint("https", "example.com", "/a/B%20c")),
        ("https://example.com:1/a//b", Endpoint("https", "example.com:1", "/a//b")),
        # http to this machine
        ("http://localhost", Endpoint("http", "localhost")),
        ("http://LOCALHOST:80", Endpoint("http", "localhost")),
        ("http://localhost:443", Endpoint("http", "localhost:443")),
        ("http://127.0.0.1:9911", Endpoint("http", "127.0.0.1:9911")),
        ("http://127.0.0.2", Endpoint("http", "127.0.0.2")),
        ("http://127.255.255.254", Endpoint("http", "127.255.255.254")),
        ("http://[::1]", Endpoint("http", "[::1]")),
        ("http://[::1]:9911/x", Endpoint("http", "[::1]:9911", "/x")),
        ("http://[0:0:0:0:0:0:0:1]:1", Endpoint("http", "[0:0:0:0:0:0:0:1]:1")),
    ],
)
def test_named_endpoint(text, endpoint):
    """A base URL: host in small letters, the scheme's own port left out as in the Host header, the path kept."""
    assert Endpoint.parse(text, source="--endpoint") == endpoint


NO_URL = "is not a URL"
USER = "has user information before the host, which is not sent to anybody"
QUERY = "has a query or fragment, which cannot be part of a base URL"
CHARACTER = "has a character that no host or path can have"
CLEAR = "is http:// to a host that is not this machine"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", NO_URL),
        ("example.com", NO_URL),
        ("//example.com", NO_URL),
        ("example.com:443", NO_URL),
        ("ftp://example.com", NO_URL),
        ("file:///etc/passwd", NO_URL),
        ("https://", NO_URL),
        ("https:///path", NO_URL),
        ("https://:443", NO_URL),
        ("https://example.com:port", NO_URL),
        ("https://example.com:65536", NO_URL),
        ("https://[::1", NO_URL),
        ("https://[example.com]", NO_URL),
        (f"https://user:{CANARY}@example.com", USER),
        (f"https://{CANARY}@example.com", USER),
        ("https://@example.com", USER),
        (f"http://user:{CANARY}@127.0.0.1", USER),
        (f"http://127.0.0.1:80@{CANARY}.example", USER),
        (f"http://127.0.0.1\\@{CANARY}.example", USER),
        (f"https://user:{CANARY}@example.com:port", NO_URL),
        (f"https://user:{CANARY}@[::1", NO_URL),
        (f"https://example.com?password={CANARY}", QUERY),
        ("https://example.com/#x", QUERY),
        ("http://127.0.0.1#@example.com", QUERY),
        ("https://exam ple.com", CHARACTER),
        ("https://b\u00fccher.example", CHARACTER),
        ("https://example.com/a b", CHARACTER),
        ('https://example.com/"x"', CHARACTER),
        ("https://example.com\\.evil.example", CHARACTER),
        ("https://[fe80::1%25eth0]", CHARACTER),
        # credentials in the clear
        ("http://example.com", CLEAR),
        ("http://localhost.evil.com", CLEAR),
        ("http://localhost.", CLEAR),
        ("http://127.0.0.1.evil.com", CLEAR),
        ("http://127.0.0.1.nip.io", CLEAR),
        ("http://evil.com/127.0.0.1", CLEAR),
        ("http://10.0.0.1", CLEAR),
        ("http://128.0.0.1", CLEAR),
        ("http://0.0.0.0", CLEAR),
        ("http://[::]", CLEAR),
        ("http://[::2]", CLEAR),
        ("http://169.254.169.254", CLEAR),
        ("http://127.1", CLEAR),  # a resolver may take it for 127.0.0.1, but it is a name
        ("http://2130706433", CLEAR),
        ("http://0177.0.0.1", CLEAR),
    ],
)
def test_refused_endpoint(text, problem):
    """Anything but an https URL, or http to this machine, is refused and, since it may hold a password, not shown."""
    with pytest.raises(ConfigurationError) as caught:
        Endpoint.parse(text, source="AWS_ENDPOINT_URL_ROLESANYWHERE")
    assert caught.value.message.startswith(f"AWS_ENDPOINT_URL_ROLESANYWHERE {problem}")
    assert caught.value.hint.startswith("give a base URL such as https://")
    assert CANARY not in repr(caught.value) + caught.value.hint
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("https://localhost:1", True),
        ("https://127.0.0.1", True),
        ("https://127.8.9.10:1/x", True),
        ("https://[::1]", True),
        ("https://[::1]:1/x", True),
        ("https://localhost.evil.com", False),
        ("https://127.0.0.1.evil.com", False),
        ("https://example.com", False),
        ("https://10.0.0.1", False),
        ("https://[2001:db8::1]", False),
    ],
)
def test_loopback(text, loopback):
    """An endpoint knows whether it is on this machine."""
    assert Endpoint.parse(text, source="x").is_loopback is loopback


@pytest.mark.parametrize("text", ["https://example.com:8443/a", "http://[::1]:1", "https://example.com"])
def test_written_as_read(text):
    """The text of an endpoint is its URL without a final slash."""
    assert str(Endpoint.parse(text, source="x")) == text
