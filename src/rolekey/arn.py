"""Amazon Resource Names, and the three that CreateSession takes.

The shapes are those of the IAM Roles Anywhere API reference (CreateSession: trustAnchorArn, profileArn, roleArn) and,
for a role's name, of the IAM API reference. An id only has to be there: those in use are not all UUIDs.
"""

import re
from typing import Self

from rolekey.errors import ConfigurationError
from rolekey.value import Value

_MAX_LENGTH = 1011  # characters; CreateSession takes no longer ARN
_NOT_IN_AN_ARN = re.compile(r"[^!-~]")
_PARTITION = re.compile(r"aws(-.+)?")
_REGION = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # it becomes a label of the endpoint's host name
_ACCOUNT_ID = re.compile(r"[0-9]{12}")

_KINDS = {
    ("rolesanywhere", "trust-anchor"): "a Roles Anywhere trust anchor",
    ("rolesanywhere", "profile"): "a Roles Anywhere profile",
    ("rolesanywhere", "subject"): "a Roles Anywhere subject",
    ("rolesanywhere", "crl"): "a Roles Anywhere CRL",
    ("iam", "role"): "an IAM role",
    ("iam", "user"): "an IAM user",
    ("iam", "policy"): "an IAM policy",
    ("iam", "instance-profile"): "an IAM instance profile",
    ("sts", "assumed-role"): "an assumed role's session",
    ("acm", "certificate"): "an ACM certificate",
    ("acm-pca", "certificate-authority"): "an AWS Private CA",
}


class ARN(Value):
    """The five parts of ``arn:partition:service:region:account:resource``.

    Args:
        partition: such as ``aws`` or ``aws-us-gov``.
        service: such as ``iam``.
        region: such as ``eu-central-1``; empty for what is in no region.
        account_id: 12 digits; empty for what is in no account.
        resource: everything after the fifth colon.
    """

    partition: str
    service: str
    region: str
    account_id: str
    resource: str

    @classmethod
    def parse(cls, text: str, *, option: str = "the ARN") -> Self:
        """Read an ARN of any service.

        Args:
            text: the ARN; at most 1011 printable ASCII characters.
            option: what the message calls it, such as ``--role-arn``.

        Returns:
            The ARN, whose ``str()`` is the text.

        Raises:
            ConfigurationError: not an ARN.
        """
        hint = "copy the whole ARN, which looks like arn:aws:service:region:account:resource"
        if not text:
            raise ConfigurationError(f"{option} is empty", hint=hint)
        if len(text) > _MAX_LENGTH:
            raise ConfigurationError(f"{option} is longer than {_MAX_LENGTH} characters", hint=hint)
        if stray := _NOT_IN_AN_ARN.search(text):
            raise ConfigurationError(
                f"{option} has a blank, a control or a non-ASCII character at position {stray.start() + 1}",
                hint="remove it: it often comes with copying",
            )
        sections = text.split(":", maxsplit=5)
        if sections[0] != "arn" or len(sections) != 6:
            raise ConfigurationError(f"{option} is not an ARN", hint=hint)
        if not _PARTITION.fullmatch(sections[1]) or not sections[2] or not sections[5]:
            raise ConfigurationError(f"{option} lacks a partition (aws...), a service or a resource", hint=hint)
        return cls(*sections[1:])

    def __str__(self) -> str:
        return f"arn:{self.partition}:{self.service}:{self.region}:{self.account_id}:{self.resource}"

    @property
    def role_name(self) -> str:
        """The name of a role without its path: what follows the last slash of an ARN from :func:`parse_role_arn`."""
        return self.resource.rpartition("/")[2]


class _Expected(Value):
    """What an option's ARN must be."""

    option: str
    service: str
    resource_type: str
    resource: re.Pattern[str]
    regional: bool
    example: str

    def parse(self, text: str) -> ARN:
        arn = ARN.parse(text, option=self.option)
        wanted = _KINDS[self.service, self.resource_type]
        hint = f"give the ARN of {wanted}, which looks like {self.example}"
        resource_type = re.split("[/:]", arn.resource, maxsplit=1)[0]
        if (arn.service, resource_type) != (self.service, self.resource_type):
            kind = _KINDS.get((arn.service, resource_type), "something else")
            raise ConfigurationError(f"{self.option} is the ARN of {kind}, not of {wanted}", hint=hint)
        if self.regional and not _REGION.fullmatch(arn.region):
            problem = "a region that cannot be one" if arn.region else "no region"
            raise ConfigurationError(f"{self.option} has {problem}", hint=hint)
        if not self.regional and arn.region:
            raise ConfigurationError(f"{self.option} has a region, but {wanted} is in none", hint=hint)
        if not _ACCOUNT_ID.fullmatch(arn.account_id):
            raise ConfigurationError(f"{self.option} has an account id that is not 12 digits", hint=hint)
        if not self.resource.fullmatch(arn.resource):
            raise ConfigurationError(f"{self.option} does not name {wanted} after the account id", hint=hint)
        return arn


_TRUST_ANCHOR = _Expected(
    option="--trust-anchor-arn",
    service="rolesanywhere",
    resource_type="trust-anchor",
    resource=re.compile(r"trust-anchor/[^/:]+"),
    regional=True,
    example="arn:aws:rolesanywhere:REGION:123456789012:trust-anchor/ID",
)
_PROFILE = _Expected(
    option="--profile-arn",
    service="rolesanywhere",
    resource_type="profile",
    resource=re.compile(r"profile/[^/:]+"),
    regional=True,
    example="arn:aws:rolesanywhere:REGION:123456789012:profile/ID",
)
_ROLE = _Expected(
    option="--role-arn",
    service="iam",
    resource_type="role",
    resource=re.compile(r"role/(.+/)?[A-Za-z0-9_+=,.@-]{1,64}"),
    regional=False,
    example="arn:aws:iam::123456789012:role/NAME",
)


def parse_trust_anchor_arn(text: str) -> ARN:
    """Read what ``--trust-anchor-arn`` was given.

    Args:
        text: the ARN.

    Returns:
        The ARN of a trust anchor, with a region fit for a host name.

    Raises:
        ConfigurationError: not the ARN of a trust anchor; the message says what it is instead.
    """
    return _TRUST_ANCHOR.parse(text)


def parse_profile_arn(text: str) -> ARN:
    """Read what ``--profile-arn`` was given.

    Args:
        text: the ARN.

    Returns:
        The ARN of a Roles Anywhere profile, with a region fit for a host name.

    Raises:
        ConfigurationError: not the ARN of a profile; the message says what it is instead.
    """
    return _PROFILE.parse(text)


def parse_role_arn(text: str) -> ARN:
    """Read what ``--role-arn`` was given.

    Args:
        text: the ARN.

    Returns:
        The ARN of an IAM role, whose name is its ``role_name``.

    Raises:
        ConfigurationError: not the ARN of a role; the message says what it is instead.
    """
    return _ROLE.parse(text)
