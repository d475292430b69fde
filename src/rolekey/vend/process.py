"""The output of a ``credential_process`` (AWS, cli-configure-sourcing-external)."""

import json

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
