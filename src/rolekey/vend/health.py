"""How the server is: /healthz (it is alive), /readyz (every identity has credentials), /metrics (Prometheus).

prometheus_client belongs to the extra ``server`` and is imported when somebody asks for /metrics, not before.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rolekey.http_protocol.messages import Request, answer
from rolekey.vend.source import Source

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric


class Health:
    """The three endpoints.

    Args:
        sources: the identities.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = tuple(sources)
        self._registry: CollectorRegistry | None = None

    def respond(self, request: Request) -> bytes:
        """Answer a request for any path.

        Args:
            request: the request.
        """
        endpoint = {b"/healthz": self._healthz, b"/readyz": self._readyz, b"/metrics": self._metrics}.get(request.path)
        if endpoint is None:
            return answer(404, b"not found\n")
        if request.method not in (b"GET", b"HEAD"):
            return answer(405, b"", (b"allow", b"GET, HEAD"))
        return endpoint()

    def _healthz(self) -> bytes:
        return answer(200, b"ok\n")

    def _readyz(self) -> bytes:
        problems = [(source.name, *source.problem()) for source in self._sources if source.current() is None]
        if not problems:
            return answer(200, b"ok\n")
        text = "".join(f"{name}: {code}: {message}\n" for name, code, message in problems)
        return answer(503, text.encode())

    def _metrics(self) -> bytes:
        try:
            from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - big, and an extra
            from prometheus_client.exposition import CONTENT_TYPE_LATEST  # noqa: PLC0415
        except ImportError:
            return answer(501, b"prometheus_client is not installed: pip install 'rolekey[server]'\n")
        if self._registry is None:
            self._registry = CollectorRegistry(auto_describe=False)
            self._registry.register(_Collector(self._sources))
        return answer(200, generate_latest(self._registry), content_type=CONTENT_TYPE_LATEST.encode())


# Name, kind, help, and the attribute of SourceMetrics.
_FAMILIES = (
    ("rolekey_credentials_expiration_timestamp_seconds", "gauge", "When the credentials expire.", "expires"),
    (
        "rolekey_certificate_expiration_timestamp_seconds",
        "gauge",
        "When the certificate expires.",
        "certificate_expires",
    ),
    ("rolekey_last_refresh_timestamp_seconds", "gauge", "When credentials were last obtained.", "last_success"),
    ("rolekey_refresh_duration_seconds", "gauge", "How long the last CreateSession took.", "seconds"),
    ("rolekey_refreshes", "counter", "CreateSessions that gave credentials.", "refreshes"),
    ("rolekey_refresh_failures", "counter", "CreateSessions that did not.", "failures"),
    ("rolekey_signatures", "counter", "Signatures that were asked of the key.", "signatures"),
)


class _Collector:
    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources = tuple(sources)

    def collect(self) -> Iterator["Metric"]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415 - as above

        kinds = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}
        found = [(source.name, source.metrics()) for source in self._sources]
        for name, kind, text, attribute in _FAMILIES:
            family = kinds[kind](name, text, labels=["identity"])
            for identity, metrics in found:
                value = getattr(metrics, attribute)
                if value is not None:
                    family.add_metric([identity], value)
            yield family
