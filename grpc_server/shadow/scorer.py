"""The observer that scores answered calls with the shadow, and reports how far both agree."""

import logging
from bisect import bisect_left
from collections.abc import Callable
from time import perf_counter

from prometheus_client import CollectorRegistry

from grpc_server.errors import CallError
from grpc_server.metrics import LATENCY_BUCKETS_SECONDS, Metrics
from grpc_server.model import LoadedModel, ModelSlot
from grpc_server.model.standing import Standing
from grpc_server.model.watch import ModelWatcher
from grpc_server.observe.records import ModelFacts, Record
from grpc_server.observe.reports import Reporter
from grpc_server.rpc.requests import RequestDecoder
from grpc_server.rpc.servicer import PredictionServicer
from grpc_server.shadow.agreement import Answers, Shadow, compare, read_answers

# Records that no shadow scores, by reason.
NO_SHADOW, OWN, CANARY, UNKNOWN_MODEL = (
    "dropped.no_shadow",
    "dropped.own_answer",
    "dropped.canary_answer",
    "dropped.unknown_model",
)
# Models whose answers may still come; the server tells of as many.
_MAX_MODELS = 8

_log = logging.getLogger(__name__)


class ShadowScorer:
    """Scores the records with the newest shadow.

    Parameters
    ----------
    reporter : Reporter
        Tells the server.
    max_batch_rows : int
        Most rows of one batch, 1 or more.
    watch : callable
        Makes the watcher of the shadow's folder, of the functions that serve a model, count a
        refusal, show the standing, and end the shadow because its file is gone.
    """

    def __init__(
        self,
        reporter: Reporter,
        max_batch_rows: int,
        watch: "Callable[[ShadowScorer], ModelWatcher]",
    ) -> None:
        self._reporter = reporter
        self._max_batch_rows = max_batch_rows
        # Counts nothing that anybody sees: the champion's metrics are the server's.
        self._metrics = Metrics(CollectorRegistry())
        self._facts: dict[str, ModelFacts] = {}
        # The watcher's thread replaces these in one step.
        self._shadow: Shadow | None = None
        self._refusal = ""
        self._n_refused = 0
        self._n_told = 0
        self._failed_version = ""
        self._watcher = watch(self)
        self._watcher.start()

    def serve(self, model: LoadedModel) -> None:
        """Score with a model from now on."""
        slot = ModelSlot()
        self._shadow = Shadow(
            model,
            PredictionServicer(slot, self._metrics, self._max_batch_rows),
            RequestDecoder(slot, self._max_batch_rows),
            slot,
        )
        fields = {"shadow_version": model.source.version}
        _log.info("shadow scores", extra={"fields": fields})

    def drop(self) -> None:
        """Score no more: the shadow's file is gone."""
        self._shadow = None

    def count_refusal(self, error: str) -> None:
        """Count a file that was refused."""
        self._n_refused += 1

    def show_standing(self, standing: Standing) -> None:
        """Keep why a newer version does not score."""
        self._refusal = standing.refusal

    def learn(self, facts: ModelFacts) -> None:
        """Learn of a model that answers calls."""
        self._facts.pop(facts.version, None)
        self._facts[facts.version] = facts
        for version in list(self._facts)[:-_MAX_MODELS]:
            del self._facts[version]

    def handle(self, record: Record) -> None:
        """Score a call, and compare."""
        shadow = self._shadow
        if shadow is None:
            self._reporter.add(NO_SHADOW)
            return
        given = read_answers(record)
        facts, source = self._facts.get(given.version), shadow.model.source
        if facts is None:
            self._reporter.add(UNKNOWN_MODEL)
        # Versions of two registered models may have the same number.
        elif (facts.version, facts.sha256) == (source.version, source.sha256):
            self._reporter.add(OWN)
        elif facts.is_canary:
            self._reporter.add(CANARY)
        else:
            self._score(shadow, record, given, facts.labels)

    def _score(
        self, shadow: Shadow, record: Record, given: Answers, classes: tuple[str, ...]
    ) -> None:
        version, n_rows = shadow.model.source.version, len(given.labels)
        begin = perf_counter()
        try:
            own = shadow.answer(record)
        except CallError:
            self._count_rows("misfit", version, n_rows)
            return
        except Exception as error:
            self._count_rows("failed", version, n_rows)
            self._say_failure(version, error)
            return
        seconds = perf_counter() - begin
        if len(own.labels) != n_rows:
            # Values without names may be read as rows of another width.
            self._count_rows("misfit", version, n_rows)
            return
        found = compare(given, classes, own, shadow.model.classes.labels)
        self._count_rows("same", version, found.n_same)
        self._count_rows("other", version, found.n_other)
        add = self._reporter.add
        add(f"difference.{version}", found.difference)
        add(f"compared.{version}", found.n_compared)
        add(f"seconds.{bisect_left(LATENCY_BUCKETS_SECONDS, seconds)}")
        add("seconds_sum", seconds)

    def _count_rows(self, agreement: str, version: str, n_rows: int) -> None:
        if n_rows:
            self._reporter.add(f"rows.{agreement}.{version}", n_rows)

    def _say_failure(self, version: str, error: Exception) -> None:
        """Log the first failure of each version."""
        if self._failed_version != version:
            self._failed_version = version
            fields = {"shadow_version": version}
            _log.error("shadow failed", exc_info=error, extra={"fields": fields})

    def tick(self) -> None:
        """Report what is not a count."""
        shadow = self._shadow
        version = "" if shadow is None else shadow.model.source.version
        self._reporter.tell("version", version)
        self._reporter.tell("refusal", self._refusal)
        n_refused = self._n_refused
        if n_refused > self._n_told:
            self._reporter.add("refused", n_refused - self._n_told)
            self._n_told = n_refused

    def close(self) -> None:
        """Watch no more."""
        self._watcher.stop()
