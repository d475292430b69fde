"""The first credentials of `rolekey.boto3_session` in a process, printed; runs in an environment of its own.

Beside bench_iam_session.py this makes the session for boto3, too.
"""

import json
import sys

import rolekey

arguments = dict(word.split("=", 1) for word in sys.argv[1:])
use_cache = arguments.pop("use_cache") == "yes"
options = rolekey.Options(**arguments)  # type: ignore[arg-type]  # texts only
credentials = rolekey.boto3_session(options, use_cache=use_cache).get_credentials()
frozen = credentials.get_frozen_credentials()
document = {
    "Version": 1,
    "AccessKeyId": frozen.access_key,
    "SecretAccessKey": frozen.secret_key,
    "SessionToken": frozen.token,
    "Expiration": f"{credentials._expiry_time:%Y-%m-%dT%H:%M:%SZ}",
}
sys.stdout.write(f"{json.dumps(document)}\n")
