"""A role's trust policy for rolesanywhere.amazonaws.com (IAM JSON policy language; IAM Roles Anywhere trust model).

A policy is checked when it is read: an operator, key or element that is not evaluated here is an error then, never
silently true or false later.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SERVICE_PRINCIPAL = "rolesanywhere.amazonaws.com"
#: What the service does in a role's name; a trust policy must allow all three.
ACTIONS = ("sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity")

_KEYS = re.compile(
    r"aws:principaltag/x509(?:subject/.+|issuer/.+|san/(?:dns|uri|name/.+))|aws:sourcearn|aws:sourceaccount|sts:sourceidentity"
)
_STATEMENT_ELEMENTS = frozenset({"Sid", "Effect", "Principal", "Action", "Condition"})
_VERSIONS = ("2008-10-17", "2012-10-17")


class PolicyError(ValueError):
    """A trust policy that cannot be evaluated; the text names the element."""


@dataclass(frozen=True)
class _Condition:
    """One operator on one key."""

    key: str  # lower case: IAM's condition keys are compared without regard to case
    values: tuple[str, ...]
    matches: Callable[[str, str], bool]  # (policy's value, request's value)
    negated: bool
    if_exists: bool

    def holds(self, context: Mapping[str, str]) -> bool:
        actual = context.get(self.key)
        if actual is None:
            # A key that is missing fails what must match and passes what must not.
            return self.negated or self.if_exists
        return any(self.matches(value, actual) for value in self.values) != self.negated


@dataclass(frozen=True)
class _Statement:
    allow: bool
    for_service: bool
    actions: tuple[str, ...]
    conditions: tuple[_Condition, ...]

    def applies(self, action: str, context: Mapping[str, str]) -> bool:
        return (
            self.for_service
            and any(_like(pattern.lower(), action.lower()) for pattern in self.actions)
            and all(condition.holds(context) for condition in self.conditions)
        )


@dataclass(frozen=True)
class TrustPolicy:
    """A policy that has been read.

    Args:
        statements: its statements.
    """

    statements: tuple[_Statement, ...]

    def refused_action(self, context: Mapping[str, str]) -> str | None:
        """Evaluate the policy for the service's principal.

        Args:
            context: the request's values by condition key, such as ``aws:PrincipalTag/x509Subject/CN``.

        Returns:
            The first of `ACTIONS` that is denied or not allowed, or None when all are allowed.
        """
        lowered = {key.lower(): value for key, value in context.items()}
        for action in ACTIONS:
            effects = [s.allow for s in self.statements if s.applies(action, lowered)]
            if not effects or not all(effects):
                return action
        return None


def _like(pattern: str, text: str) -> bool:
    expression = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.fullmatch(expression, text, re.DOTALL) is not None


def _arn_like(pattern: str, text: str) -> bool:
    # Each of the six parts matches for itself, so a wildcard does not reach across a colon.
    patterns, parts = pattern.split(":", 5), text.split(":", 5)
    return len(patterns) == len(parts) == 6 and all(map(_like, patterns, parts))


_OPERATORS: Mapping[str, tuple[Callable[[str, str], bool], bool]] = {
    "StringEquals": (str.__eq__, False),
    "StringNotEquals": (str.__eq__, True),
    "StringLike": (_like, False),
    "StringNotLike": (_like, True),
    "ArnEquals": (_arn_like, False),
    "ArnLike": (_arn_like, False),
}


def parse(document: Any) -> TrustPolicy:
    """Read a trust policy.

    Args:
        document: the policy as JSON or TOML gives it.

    Returns:
        The policy, every part of which can be evaluated.

    Raises:
        PolicyError: something in it is malformed or is not evaluated here.
    """
    if not isinstance(document, Mapping):
        raise PolicyError("the policy must be an object")
    _known(document, {"Version", "Id", "Statement"}, "the policy")
    if document.get("Version", _VERSIONS[0]) not in _VERSIONS:
        raise PolicyError(f"Version must be one of {', '.join(_VERSIONS)}")
    statements = document.get("Statement")
    if isinstance(statements, Mapping):
        statements = [statements]
    if not isinstance(statements, Sequence) or isinstance(statements, str) or not statements:
        raise PolicyError("Statement must be an object or a list of them")
    return TrustPolicy(tuple(_statement(s, f"Statement[{i}]") for i, s in enumerate(statements)))


def _known(element: Mapping[Any, Any], names: set[str] | frozenset[str], where: str) -> None:
    for name in element:
        if name not in names:
            raise PolicyError(f"{where}: {name} is not evaluated here")


def _statement(statement: Any, where: str) -> _Statement:
    if not isinstance(statement, Mapping):
        raise PolicyError(f"{where} must be an object")
    _known(statement, _STATEMENT_ELEMENTS, where)
    if statement.get("Effect") not in {"Allow", "Deny"}:
        raise PolicyError(f"{where}.Effect must be Allow or Deny")
    conditions = statement.get("Condition", {})
    if not isinstance(conditions, Mapping):
        raise PolicyError(f"{where}.Condition must be an object")
    return _Statement(
        allow=statement["Effect"] == "Allow",
        for_service=_for_service(statement.get("Principal"), f"{where}.Principal"),
        actions=_strings(statement.get("Action"), f"{where}.Action"),
        conditions=tuple(
            _condition(operator, key, values, f"{where}.Condition.{operator}")
            for operator, keys in conditions.items()
            for key, values in _object(keys, f"{where}.Condition.{operator}").items()
        ),
    )


def _object(value: Any, where: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise PolicyError(f"{where} must be an object")
    return value


def _strings(value: Any, where: str) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, Sequence) or not values or not all(isinstance(v, str) for v in values):
        raise PolicyError(f"{where} must be a string or a list of strings")
    return tuple(values)


def _for_service(principal: Any, where: str) -> bool:
    if principal == "*":
        return True
    if not isinstance(principal, Mapping) or not principal:
        raise PolicyError(f'{where} must be "*" or an object')
    _known(principal, {"Service", "AWS", "Federated", "CanonicalUser"}, where)
    listed = {kind: _strings(names, f"{where}.{kind}") for kind, names in principal.items()}
    return SERVICE_PRINCIPAL in listed.get("Service", ()) or "*" in listed.get("AWS", ())


def _condition(operator: Any, key: Any, values: Any, where: str) -> _Condition:
    name = str(operator).removesuffix("IfExists")
    if name not in _OPERATORS:
        raise PolicyError(f"{where} is an operator that is not evaluated here")
    lowered = str(key).lower()
    if not _KEYS.fullmatch(lowered):
        raise PolicyError(f"{where}: {key} is a condition key that is not evaluated here")
    texts = _strings(values, f"{where}.{key}")
    if any("${" in text for text in texts):
        raise PolicyError(f"{where}.{key}: policy variables are not evaluated here")
    matches, negated = _OPERATORS[name]
    return _Condition(lowered, texts, matches, negated, if_exists=str(operator) != name)


#: What a role allows that has no policy of its own.
PERMISSIVE = parse(
    {
        "Version": _VERSIONS[1],
        "Statement": {"Effect": "Allow", "Principal": {"Service": SERVICE_PRINCIPAL}, "Action": list(ACTIONS)},
    }
)
