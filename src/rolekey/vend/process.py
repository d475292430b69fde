"""The output of a ``credential_process`` (AWS, cli-configure-sourcing-external)."""

import json
from datetime import datetime

from rolekey.credentials import Credentials, format_timestamp


def credential_process_json(credentials: Credentials) -> str:
    """The one JSON document that SDKs and the AWS CLI read.

    Args:
        credentials: what to hand out.

    Returns:
        JSON in ASCII without blanks or a line end: Version (the number 1), AccessKeyId, SecretAccessKey, SessionToken
        and Expiration (``YYYY-MM-DDTHH:MM:SSZ``), in this order.
    """
    document = {
        "Version": 1,
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "SessionToken": credentials.session_token,
        "Expiration": format_timestamp(credentials.expiration),
    }
    return json.dumps(document, separators=(",", ":"))


def read_credential_process_json(text: bytes) -> Credentials:
    """The credentials in a document of credential_process_json().

    Args:
        text: the document.

    Raises:
        ValueError: it is none.
    """
    document = json.loads(text)
    try:
        key_id, secret, token = (document[name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"))
        expiration = datetime.fromisoformat(document["Expiration"])
    except (KeyError, TypeError) as error:
        raise ValueError("no document of a credential_process") from error
    return Credentials(str(key_id), str(secret), str(token), expiration)
