"""The service's counters, in the format of Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

__all__ = ["Metrics", "PartMetrics"]

# All other methods are counted as "other": a client must not be able to add labels.
METHODS = frozenset({"GET", "HEAD", "POST"})
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counters of one service, in their own registry."""

    def __init__(
        self, waiting: Callable[[], float], documents: Callable[[], float], generation: Callable[[], float]
    ) -> None:
        """The arguments return the current values of three gauges."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = ("route", "method", "status")
        self._requests = Counter("refcolbert_requests", "Requests answered.", labels, registry=self.registry)
        self._seconds = Histogram(
            "refcolbert_request_seconds", "Time to answer.", ("route",), buckets=SECONDS, registry=self.registry
        )
        self.running = Gauge("refcolbert_requests_running", "Requests not yet answered.", registry=self.registry)
        self.reloads = Counter(
            "refcolbert_reloads",
            "New generations that were loaded, or could not be.",
            ("result",),
            registry=self.registry,
        )
        self._gauge("refcolbert_requests_waiting", "Requests that wait for a thread.", waiting)
        self._gauge("refcolbert_documents", "Documents in the index.", documents)
        self._gauge("refcolbert_generation", "Generation of the index that is served.", generation)

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request."""
        known = method if method in METHODS else "other"
        self._requests.labels(route, known, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All counters, as Prometheus reads them."""
        return generate_latest(self.registry)

    def include(self, more: "PartMetrics") -> None:
        """Show the counters of a router too."""
        for collector in (more.seconds, more.hedges, more.failures):
            self.registry.register(collector)

    def _gauge(self, name: str, about: str, value: Callable[[], float]) -> None:
        Gauge(name, about, registry=self.registry).set_function(value)


class PartMetrics:
    """Counters of a router, for each of its parts."""

    def __init__(self) -> None:
        labels = ("part",)
        self.seconds = Histogram(
            "refcolbert_part_seconds", "Time of a part to answer.", labels, buckets=SECONDS, registry=None
        )
        self.hedges = Counter(
            "refcolbert_part_hedges", "Requests to a replica while another one was slow.", labels, registry=None
        )
        self.failures = Counter(
            "refcolbert_part_failures", "Requests that no replica of a part answered.", labels, registry=None
        )
