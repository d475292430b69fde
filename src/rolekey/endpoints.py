"""Where IAM Roles Anywhere answers, by partition and region (AWS general reference, rolesanywhere; botocore's data)."""

import re
from ipaddress import ip_address
from typing import Self
from urllib.parse import SplitResult, urlsplit

from rolekey.errors import ConfigurationError
from rolekey.value import Value

_SUFFIXES = {  # partition: (DNS suffix, DNS suffix of the dual-stack endpoints)
    "aws": ("amazonaws.com", "api.aws"),
    "aws-cn": ("amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    "aws-us-gov": ("amazonaws.com", "api.aws"),
    "aws-eusc": ("amazonaws.eu", "api.amazonwebservices.eu"),
    "aws-iso": ("c2s.ic.gov", "api.aws.ic.gov"),
    "aws-iso-b": ("sc2s.sgov.gov", "api.aws.scloud"),
    "aws-iso-e": ("cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    "aws-iso-f": ("csp.hci.ic.gov", "api.aws.hci.ic.gov"),
}
# An international name is given in its ASCII form (xn--...), since that is what is signed.
_HOST = re.compile(r"[a-z0-9_.\-]+|[0-9a-f:.]+")
_PATH = re.compile(r"[A-Za-z0-9_.~!$&'()*+,;=:@%/\-]*")
_ENDPOINT_HINT = "give a base URL such as https://rolesanywhere.eu-west-1.amazonaws.com"


class Endpoint(Value):
    """The base URL of a Roles Anywhere service.

    Args:
        scheme: ``https``, or ``http`` for a loopback address.
        host: host and, unless it is the scheme's own, port: the value of the signed Host header.
        path: a path prefix without a final slash; mostly empty.
    """

    scheme: str
    host: str
    path: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}{self.path}"

    @property
    def is_loopback(self) -> bool:
        """Whether the host is ``localhost`` or an address of the loopback network."""
        return _is_loopback(urlsplit(str(self)).hostname or "")

    @classmethod
    def for_region(cls, partition: str, region: str, *, fips: bool, dual_stack: bool) -> Self:
        """The service's own endpoint.

        Raises:
            ConfigurationError: an unknown partition.
        """
        if partition not in _SUFFIXES:
            raise ConfigurationError(
                f"the AWS partition {partition} is not known",
                hint="check the ARNs, or name the endpoint with --endpoint URL",
            )
        service = "rolesanywhere-fips" if fips else "rolesanywhere"
        return cls("https", f"{service}.{region}.{_SUFFIXES[partition][dual_stack]}")

    @classmethod
    def parse(cls, text: str, *, source: str) -> Self:
        """An endpoint that the user names.

        Args:
            text: a URL; a query or fragment is refused.
            source: the option or variable that has it, for the error's text.

        Raises:
            ConfigurationError: not an https URL (or http to loopback), or one with user information. The text is not
                quoted, since it may hold a password.
        """
        url = _split(text)
        problem = "is not a URL" if url is None else _problem(url)
        if url is None or problem:
            raise ConfigurationError(f"{source} {problem}", hint=_ENDPOINT_HINT)
        name = url.hostname or ""
        host = f"[{name}]" if ":" in name else name
        default_port = {"https": 443, "http": 80}[url.scheme]
        port = "" if url.port in (None, default_port) else f":{url.port}"
        return cls(url.scheme, host + port, url.path.rstrip("/"))


def _split(text: str) -> SplitResult | None:
    # Returns and does not raise: the error's text holds the URL, with the password that it should not have.
    try:
        url = urlsplit(text)
        usable = url.port != 0
    except ValueError:
        return None
    return url if usable else None


def _problem(url: SplitResult) -> str | None:
    host = url.hostname or ""
    problems = (
        (url.scheme not in ("https", "http") or not host, "is not a URL of the form https://HOST[:PORT][/PATH]"),
        ("@" in url.netloc, "has user information before the host, which is not sent to anybody"),
        (url.query or url.fragment, "has a query or fragment, which cannot be part of a base URL"),
        (not _HOST.fullmatch(host) or not _PATH.fullmatch(url.path), "has a character that no host or path can have"),
        (
            url.scheme == "http" and not _is_loopback(host),
            "is http:// to a host that is not this machine: credentials would travel in the clear",
        ),
    )
    return next((text for applies, text in problems if applies), None)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
