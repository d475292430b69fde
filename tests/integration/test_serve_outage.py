"""`rolekey serve` with hundreds of clients while the service goes away and comes back."""

import asyncio
import itertools
import json
import threading
import time
from datetime import datetime
from urllib.parse import urlsplit

from support.emulator import RunningEmulator
from support.listener import Listener, read_request
from support.pki import make_root
from support.serve_process import NAME, running_serve, short_lived
from support.service import answer

CLIENTS = 500
LIFE = 16  # seconds, of credentials; they are refreshed after eight
PAUSE = 0.5  # seconds between two requests of a client


class Service(Listener):
    """Gives credentials with a new number each time, or is down; counts who waits for an answer at once."""

    def __init__(self):
        super().__init__("127.0.0.1")
        self.down = False
        self.answered = 0
        self.refused = 0
        self.most_in_flight = 0
        self._in_flight = 0
        self._counting = threading.Lock()

    def serve(self, connection, _number):
        """Answer, slowly enough that another request would come in between."""
        if read_request(connection) is None:
            return
        with self._counting:
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
        self.over.wait(0.3)
        with self._counting:
            self._in_flight -= 1
            self.answered += not self.down
            self.refused += self.down
        connection.sendall(answer(503, b"{}") if self.down else short_lived(f"ASIA{self.answered:016}", LIFE))


class Client:
    """One connection that asks again and again; `seen` are the numbers of the credentials, 0 where there are none."""

    def __init__(self, port, token):
        self._port = port
        self._request = f"GET /creds/{NAME} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n\r\n".encode()
        self.seen = []
        self.requests = 0

    async def run(self, over):
        """Ask until an event is set."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while not over.is_set():
            asked = time.time()
            writer.write(self._request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            body = await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
            self._note(asked, int(head.split()[1]), json.loads(body))
            await asyncio.sleep(PAUSE)
        writer.close()

    def _note(self, asked, status, document):
        self.requests += 1
        assert all(document.values())
        if status == 503:
            assert set(document) == {"code", "message"}
            number = 0
        else:
            assert status == 200
            assert set(document) == {"AccessKeyId", "SecretAccessKey", "Token", "Expiration"}
            assert datetime.fromisoformat(document["Expiration"]).timestamp() > asked
            number = int(document["AccessKeyId"].removeprefix("ASIA"))
        if self.seen[-1:] != [number]:
            self.seen.append(number)


async def poll(service, served, clients):
    """Let the service be there, then away, then there again, each until every client has noticed."""
    over = asyncio.Event()
    tasks = [asyncio.create_task(client.run(over)) for client in clients]

    async def until(noticed):
        while not all(noticed(client) for client in clients):
            for task in tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.1)

    async with asyncio.timeout(300):
        await until(lambda client: len(client.seen) > 1)
        service.down = True
        await until(lambda client: client.seen[-1] == 0)
        await until(lambda _: "no new credentials: " in served.stderr)  # the attempts of one refresh are over
        service.down = False
        await until(lambda client: client.seen[-1] != 0)
    over.set()
    await asyncio.gather(*tasks)


def test_an_outage_with_many_clients(tmp_path):
    """Clients get the last good credentials, then 503, then fresh ones; one CreateSession is under way at a time."""
    root = make_root()
    certificate, key = root.issue(common_name="machine").write(tmp_path, "leaf")
    words = ["--certificate", str(certificate), "--private-key", str(key)]
    with (
        Service() as service,
        running_serve(tmp_path, *RunningEmulator(f"http://{service.address}").arguments, *words) as served,
    ):
        clients = [Client(urlsplit(served.url).port, served.token_file.read_text()) for _ in range(CLIENTS)]
        asyncio.run(poll(service, served, clients))
        before, after = service.most_in_flight, served.stderr
    assert before == 1
    assert service.refused >= 1
    assert "no new credentials: " in after
    for client in clients:
        good, fresh = (list(part) for is_none, part in itertools.groupby(client.seen, key=bool) if is_none)
        assert client.seen == [*good, 0, *fresh]
        assert len(good) > 1
        assert [*good, *fresh] == sorted({*good, *fresh})
    assert sum(client.requests for client in clients) > 10 * CLIENTS
