"""A router: the service of a collection whose parts are served elsewhere.

It is the application of a service of one index, with the same page and limits. It encodes a query once, asks all parts
at a time, and answers as one index over all documents does (`parts`).
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from .._version import __version__
from ..encoding.encoder import Encoder
from ..errors import EncoderMismatch, InvalidInput, MissingPart, ModelError
from ..hits import Hits
from ..parts import Part, ScatterGather
from .http_errors import Refusal
from .http_parts import HttpPart
from .limits import ServiceLimits
from .metrics import PartMetrics
from .reload import Served

__all__ = ["Router"]

T = TypeVar("T")

START_SECONDS = 10.0  # services may start at the same time as their router
LOOK_SECONDS = 2.0  # for a part to say that it is there
FACTS = ("dim", "words", "pool_factor")
LIMITS = ("k", "candidates", "batch", "documents", "characters", "body_bytes")  # what a router passes on to its parts

log = logging.getLogger("refcolbert.service")


class Router:
    """The services of the parts of a collection, as one index.

    parts     of each part the address of its service, or those of its replicas: http://a:8000|http://a2:8000
    model     a model folder or hub id; None is the default model
    limits    of the router; those of the parts may not be lower
    token     the bearer token of the parts
    complete  refuse to answer without all parts
    seconds   time for the parts to answer a search; a part that takes half of it is missing from the answer
    patience  seconds to wait for all parts to start
    """

    def __init__(
        self,
        parts: Sequence[str],
        model: str | None = None,
        limits: ServiceLimits | None = None,
        *,
        token: str | None = None,
        complete: bool = False,
        seconds: float = 10.0,
        patience: float = START_SECONDS,
    ) -> None:
        """Look for the parts.

        Raises `InvalidInput` for parts of different versions, models or settings, or of lower limits, `MissingPart`
        naming those that cannot be reached, and `EncoderMismatch` if the model is not that of the parts.
        """
        # NaN passes the range of the option.
        if not 0 < seconds < 2**31:
            raise InvalidInput(f"expected seconds above 0 and below 2**31, found {seconds}; see --part-seconds")
        limits = limits or ServiceLimits()
        self.metrics = PartMetrics()
        own = [HttpPart(name, token, min(seconds, limits.answer_seconds), self.metrics) for name in parts]
        urls = [replica.url for part in own for replica in part.replicas]
        if twice := sorted({url for url in urls if urls.count(url) > 1}):
            raise InvalidInput(f"expected each service once, found {twice[0]} twice; name it in one part")
        self._pool = ThreadPoolExecutor((limits.threads + 1) * len(own), "part")
        self._find(own, patience)
        _check_alike(own, {name: getattr(limits, name) for name in LIMITS})
        collection = _Routed(own, self._pool, complete=complete)
        self.now = Served(collection, collection.load(model, limits.inner_threads))

    def refresh(self) -> bool:
        """Look which parts answer. Returns False: what they hold is not kept here."""
        index = self.now.index
        before = index.silent
        list(self._pool.map(lambda part: part.look(LOOK_SECONDS), index.parts.values()))
        for name in sorted({*before} ^ {*index.silent}):
            problem = "; ".join(replica.problem for replica in index.parts[name].replicas)
            log.warning("%s %s", name, f"does not answer: {problem}" if name in index.silent else "answers")
        return False

    def info(self) -> dict[str, Any]:
        """Return facts about the collection and its parts."""
        return self.now.index.info()

    def readiness(self) -> dict[str, Any]:
        """Return the number of parts that answer. Raises `Refusal` if no search can be answered."""
        index = self.now.index
        answering = len(index.parts) - len(index.silent)
        if answering < (len(index.parts) if index.complete else 1):
            raise Refusal("not_ready", f"{answering} of {len(index.parts)} parts answer.", {"retry-after": "1"})
        return {"parts": {"answering": answering, "of": len(index.parts)}}

    def _find(self, parts: Sequence[HttpPart], patience: float) -> None:
        """Wait until a replica of each part answers. Raises `MissingPart` naming the others."""
        end = time.monotonic() + patience
        while True:
            list(self._pool.map(lambda part: part.look(LOOK_SECONDS), parts))
            silent = [part for part in parts if part.info is None]
            if not silent:
                return
            if time.monotonic() >= end:
                problems = "; ".join(f"{r.url}: {r.problem}" for part in silent for r in part.replicas)
                raise MissingPart(
                    f"expected {len(parts)} parts that answer, found {len(parts) - len(silent)} ({problems}); "
                    "start their services, and give their token (--part-token-file)"
                )
            time.sleep(0.1)


class _Routed(ScatterGather):
    """The collection that the parts hold."""

    parts: dict[str, HttpPart]  # type: ignore[assignment]  # ScatterGather has parts of any kind

    def __init__(self, parts: Sequence[HttpPart], pool: ThreadPoolExecutor, *, complete: bool) -> None:
        self._pool, self.complete = pool, complete
        super().__init__({part.name: part for part in parts}, map_parts=self._at_a_time)
        self.path = Path(f"{len(parts)} parts")

    def load(self, model: str | None, threads: int) -> Encoder | None:
        """Load the model of the parts; None if they hold ready-made vectors. Raises `EncoderMismatch`."""
        if self._manifest.encoder is None:
            return None
        try:
            encoder = Encoder.load(model, threads=threads, expected_hash=self._manifest.encoder.hash)
        except ModelError as error:
            raise EncoderMismatch(
                f"the parts need another model than {model or 'default'} (--model): {error}"
            ) from error
        self._encoder.encoder = encoder
        return encoder

    def search_many(self, *args: Any, **options: Any) -> list[Hits]:
        """Search as `Searchable.search_many`. Raises `MissingPart` if no part answers, or not all that must."""
        results = super().search_many(*args, **options)
        missing = results[0].missing if results else ()
        if missing and (self.complete or len(missing) == len(self.parts)):
            raise MissingPart(f"expected the answers of {len(self.parts)} parts, {', '.join(missing)} did not answer")
        return results

    @property
    def silent(self) -> list[str]:
        """The names of the parts that do not answer."""
        return [name for name, part in self.parts.items() if part.info is None]

    @property
    def generation(self) -> int:
        """The sum of the generations of the parts."""
        return self._sum("generation")

    def __len__(self) -> int:
        return self._sum("documents")

    def info(self) -> dict[str, Any]:
        """Return facts about the parts that answer, and about all of them together."""
        facts = ("documents", "tokens", "generation", "bytes")
        parts = [
            {"name": name, "answers": part.info is not None} | {fact: (part.info or {}).get(fact) for fact in facts}
            for name, part in self.parts.items()
        ]
        shared = {fact: getattr(self._manifest, fact) for fact in FACTS}
        encoder = self._manifest.encoder and {"hash": self._manifest.encoder.hash}
        sums = {fact: self._sum(fact) for fact in facts}
        return {"path": str(self.path), **sums, **shared, "encoder": encoder, "version": __version__, "parts": parts}

    def _parts_now(self) -> dict[str, Part]:
        """Return the parts, with one deadline for all requests of a search."""
        return {name: part.for_a_search() for name, part in self.parts.items()}

    def _sum(self, fact: str) -> int:
        return sum(int((part.info or {}).get(fact, 0)) for part in self.parts.values())

    def _at_a_time(self, ask: Callable[[Part], T], parts: Sequence[Part]) -> list[T | None]:
        """Return the answer of each part, None for one that gives none."""

        def answer(part: Part) -> T | None:
            try:
                return ask(part)
            except MissingPart as error:
                log.warning("%s", error)
                return None

        # The last part is asked by this thread, which would only wait otherwise.
        futures = [self._pool.submit(answer, part) for part in parts[:-1]]
        last = [answer(part) for part in parts[-1:]]
        return [*(future.result() for future in futures), *last]


def _check_alike(parts: Iterable[HttpPart], limits: Mapping[str, int]) -> None:
    """Give all parts the settings of the first, and limits. Raises `InvalidInput` naming a service that differs."""
    own = list(parts)
    for replica in (r for part in own for r in part.replicas if "parts" in r.info):
        raise InvalidInput(f"expected services of indexes, found a router at {replica.url}; name its parts instead")
    replicas = [replica for part in own for replica in part.replicas if not replica.problem]
    first = replicas[0]
    settings: Mapping[str, Any] = {
        "version": __version__,
        "model": (first.info.get("encoder") or {}).get("hash"),
        **{fact: first.info.get(fact) for fact in FACTS},
    }
    for part in own:
        part.settings, part.limits = settings, limits
    for replica in replicas:
        if differs := own[0].difference(replica.info):
            raise InvalidInput(
                "expected services of one version, model and kind of index, with limits not below the router's, "
                f"{replica.url} has {differs}"
            )
