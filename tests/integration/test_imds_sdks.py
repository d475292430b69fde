"""Real SDKs take credentials from the local endpoints: botocore, boto3, the AWS CLI, the JavaScript SDK."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.credentials import ContainerProvider
from botocore.exceptions import CredentialRetrievalError
from botocore.utils import InstanceMetadataFetcher

from rolekey.vend.exports import container_exports, metadata_exports
from rolekey.vend.token_file import make_token_file
from support import node_sdk
from support.fake_source import TOKEN, FakeSource, make_credentials, serving
from support.service import ScriptedService, answer

BOTO3 = """
import json, boto3
found = boto3.Session().get_credentials().get_frozen_credentials()
print(json.dumps([found.access_key, found.secret_key, found.token]))
"""
# What is imported after setuid() might not be readable.
ASK_FOR_A_TOKEN = """
import os, socket, sys
os.setuid(int(sys.argv[2]))
with socket.socket() as client:
    client.connect(("127.0.0.1", int(sys.argv[1])))
    client.sendall(b"PUT /latest/api/token HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
    print(client.makefile().readline().strip())
"""
IDENTITY = b"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:sts::111122223333:assumed-role/reader/session</Arn><UserId>AROAEXAMPLE:session</UserId>
<Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"""


@pytest.fixture
def source():
    """One identity."""
    return FakeSource()


@pytest.fixture
def port(source):
    """Where it is served, at 127.0.0.1 and ::1."""
    with serving(source) as address:
        yield address[1]


@pytest.fixture
def token_file(tmp_path):
    """What SDKs read the token from."""
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(TOKEN)
    return path


def exported(lines):
    """What a shell would have in its environment."""
    return dict(shlex.split(line)[1].split("=", 1) for line in lines)


@pytest.fixture
def metadata(port, tmp_path):
    """The environment of a process that is to ask the metadata service, and has nothing else to ask."""
    return {**clean(tmp_path), **exported(metadata_exports(f"http://127.0.0.1:{port}"))}


@pytest.fixture
def container(port, tmp_path, token_file):
    """The environment of a process that is to ask the container endpoint."""
    lines = container_exports(f"http://127.0.0.1:{port}", "prod", token_file)
    return {**clean(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", **exported(lines)}


def clean(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}


def run(words, environment):
    return subprocess.run(
        words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture(params=["metadata", "container"])
def environment(request):
    """Each of both."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_botocores_metadata_fetcher(source, port, host, slash):
    """It takes token, role and credentials, by every name of the loopback interface."""
    found = InstanceMetadataFetcher(base_url=f"http://{host}:{port}{slash}").retrieve_iam_role_credentials()
    assert found["role_name"] == source.role_name
    assert found["access_key"] == source.credentials.access_key_id
    assert found["secret_key"] == source.credentials.secret_access_key
    assert found["token"] == source.credentials.session_token
    assert found["expiry_time"] == f"{source.credentials.expiration:%Y-%m-%dT%H:%M:%SZ}"


def test_botocores_metadata_fetcher_with_several_identities():
    """It gets the first identity's: it takes the whole list of roles for one name."""
    with serving(FakeSource(), FakeSource("b", "admin", make_credentials(9))) as (host, port):
        found = InstanceMetadataFetcher(base_url=f"http://{host}:{port}").retrieve_iam_role_credentials()
    assert (found["role_name"], found["access_key"]) == ("reader", "ASIAEXAMPLEEXAMPLE00")


def test_botocores_metadata_fetcher_finds_nothing(source, port):
    """Where nothing valid is left it finds nothing, and not something old or empty."""
    source.credentials = None
    assert InstanceMetadataFetcher(base_url=f"http://127.0.0.1:{port}").retrieve_iam_role_credentials() == {}


def test_botocores_container_provider(source, container):
    """It takes the credentials with the token of the file, and new ones when it asks again."""
    credentials = ContainerProvider(environ=container).load()
    frozen = credentials.get_frozen_credentials()
    assert frozen.access_key == source.credentials.access_key_id
    assert frozen.secret_key == source.credentials.secret_access_key
    assert frozen.token == source.credentials.session_token
    source.credentials = make_credentials(1)
    assert ContainerProvider(environ=container).load().access_key.endswith("01")


@pytest.mark.parametrize("what", ["no credentials", "wrong token", "no token"])
def test_botocores_container_provider_says_that_there_are_none(source, container, token_file, what):
    """Its own error, and no credentials: where nothing valid is left, and without the right token."""
    if what == "no credentials":
        source.credentials = None
    elif what == "wrong token":
        make_token_file(token_file)
    else:
        del container["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]
    with pytest.raises(CredentialRetrievalError):
        ContainerProvider(environ=container).load()


def test_boto3(source, environment):
    """A program that names no credentials has them from the environment that --print-env prints."""
    done = run([sys.executable, "-c", BOTO3], environment)
    found = source.credentials
    assert json.loads(done.stdout) == [found.access_key_id, found.secret_access_key, found.session_token], done.stderr


@pytest.mark.rig("awscli")
def test_the_aws_cli(source, environment):
    """`aws sts get-caller-identity` signs with the credentials."""
    with ScriptedService((answer(200, IDENTITY, {"Content-Type": "text/xml"}),)) as service:
        done = run([aws(), "sts", "get-caller-identity", "--endpoint-url", service.url], environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Account"] == "111122223333"
    (request,) = service.requests
    assert f"Credential={source.credentials.access_key_id}/" in request.header("Authorization")
    assert request.header("X-Amz-Security-Token") == source.credentials.session_token


@pytest.mark.rig("awscli")
def test_the_aws_cli_finds_nothing(source, environment):
    """Where nothing valid is left it says so, and asks nobody."""
    source.credentials = None
    with ScriptedService((answer(200, IDENTITY),)) as service:
        done = run([aws(), "sts", "get-caller-identity", "--endpoint-url", service.url], environment)
    assert done.returncode != 0
    assert re.search("(?i)credentials", done.stderr)
    assert service.requests == []


def aws() -> str:
    found = shutil.which("aws", path=str(Path(sys.executable).parent))
    assert found is not None, "the rig's probe has seen it"
    return found


@pytest.mark.rig("node")
@pytest.mark.parametrize("provider", ["fromInstanceMetadata", "fromNodeProviderChain"])
def test_javascript_takes_from_the_metadata_service(source, metadata, provider):
    """The SDK's own provider, and the chain that a program without any settings has."""
    check_javascript(source, node_sdk.find_credentials(provider, metadata))


@pytest.mark.rig("node")
@pytest.mark.parametrize("provider", ["fromHttp", "fromNodeProviderChain", "fromContainerMetadata"])
def test_javascript_takes_from_the_container_endpoint(source, container, provider):
    """The SDK's providers; the oldest of them reads the token from a variable only."""
    if provider == "fromContainerMetadata":
        del container["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]
        container["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = TOKEN
    check_javascript(source, node_sdk.find_credentials(provider, container))


def check_javascript(source: FakeSource, done: "subprocess.CompletedProcess[str]") -> None:
    assert done.returncode == 0, done.stderr
    found = source.credentials
    assert json.loads(done.stdout) == {
        "accessKeyId": found.access_key_id,
        "secretAccessKey": found.secret_access_key,
        "sessionToken": found.session_token,
        "expiration": f"{found.expiration:%Y-%m-%dT%H:%M:%S.000Z}",
    }


@pytest.mark.rig("node")
@pytest.mark.parametrize("provider", ["fromInstanceMetadata", "fromHttp"])
def test_javascript_finds_nothing(source, metadata, container, provider):
    """Where nothing valid is left it fails, and prints no credentials."""
    source.credentials = None
    done = node_sdk.find_credentials(provider, metadata if provider == "fromInstanceMetadata" else container)
    assert done.returncode != 0
    assert done.stdout == ""


@pytest.mark.rig("root")
def test_another_users_process_gets_nothing(port, tmp_path):
    """The metadata service answers processes of its own user; one of nobody's gets no token."""
    ours, nobodys = (
        run([sys.executable, "-c", ASK_FOR_A_TOKEN, str(port), str(user)], clean(tmp_path))
        for user in (os.geteuid(), 65534)
    )
    assert (ours.stdout, ours.stderr) == ("HTTP/1.1 200 OK\n", "")
    assert (nobodys.stdout, nobodys.stderr) == ("HTTP/1.1 403 Forbidden\n", "")
