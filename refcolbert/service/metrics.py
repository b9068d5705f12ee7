"""What the service counts, in Prometheus' form."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

__all__ = ["Metrics"]

METHODS = frozenset({"GET", "HEAD", "POST"})  # any other is counted as one: labels are a closed list
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counters of one service, in a registry of its own."""

    def __init__(
        self, waiting: Callable[[], float], documents: Callable[[], float], generation: Callable[[], float]
    ) -> None:
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
            "New generations loaded, or found and not loadable.",
            ("result",),
            registry=self.registry,
        )
        self._gauge("refcolbert_requests_waiting", "Requests that wait for a thread.", waiting)
        self._gauge("refcolbert_documents", "Documents in the index.", documents)
        self._gauge("refcolbert_generation", "Generation of the index that is served.", generation)

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request more."""
        known = method if method in METHODS else "other"
        self._requests.labels(route, known, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, about: str, value: Callable[[], float]) -> None:
        Gauge(name, about, registry=self.registry).set_function(value)
