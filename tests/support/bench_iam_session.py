"""iam-rolesanywhere-session doing what `rolekey credential-process` does; runs in an environment of its own.

The library has no command. This is the shortest program around it: without the session for boto3, which it would make
with get_session(), and with the endpoint named, so that botocore does not have to find it.
"""

import json
import sys

from iam_rolesanywhere_session import IAMRolesAnywhereSession  # type: ignore[import-not-found] # not rolekey's to install

options = dict(word.split("=", 1) for word in sys.argv[1:])
credentials = IAMRolesAnywhereSession(**options).get_refreshable_credentials()
frozen = credentials.get_frozen_credentials()
document = {
    "Version": 1,
    "AccessKeyId": frozen.access_key,
    "SecretAccessKey": frozen.secret_key,
    "SessionToken": frozen.token,
    "Expiration": f"{credentials._expiry_time:%Y-%m-%dT%H:%M:%SZ}",
}
sys.stdout.write(f"{json.dumps(document)}\n")
