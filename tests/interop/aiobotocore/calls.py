"""Real calls of aiobotocore with rolekey's credentials; runs in the environment that scripts/aiobotocore makes.

Reads one JSON object on stdin: `options` for rolekey.Options, `sts` (a URL), `clients` (how many call at once). Writes
one JSON object on stdout: the `arns` that were answered, and what became of a session that has no certificate.
"""

import asyncio
import json
import sys

import rolekey
from rolekey.vend.aiobotocore import aiobotocore_session


async def call(session, url):
    """One client, one call."""
    async with session.create_client("sts", region_name="us-east-1", endpoint_url=url) as client:
        return (await client.get_caller_identity())["Arn"]


async def main():
    """All of it."""
    given = json.load(sys.stdin)
    options = rolekey.Options(**given["options"])
    session = aiobotocore_session(options, use_cache=False)
    arns = await asyncio.gather(*(call(session, given["sts"]) for _ in range(given["clients"])))
    credentials = await session.get_credentials()
    document = {
        "arns": arns,
        "method": credentials.method,
        "access_key": await credentials.get_access_key(),
        "refresh_needed": credentials.refresh_needed(),
        "failures": await failures(given),
    }
    json.dump(document, sys.stdout)


async def failures(given):
    """What everybody hears where there is no certificate, one of them cancelled."""
    session = aiobotocore_session(rolekey.Options(**given["options"] | {"certificate": "/no/file.pem"}))
    tasks = [asyncio.create_task(call(session, given["sts"])) for _ in range(4)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    return [type(outcome).__name__ for outcome in outcomes]


asyncio.run(main())
