"""Takes answered rows from the callers' path, and counts them once a second in a thread."""

import logging
import threading
import time
from collections.abc import Callable
from random import Random

from grpc_server.drift.counts import Counts, count
from grpc_server.drift.reservoir import Answer, Reservoir
from grpc_server.drift.store import CountStore, Snapshot
from grpc_server.drift.watch import Watch, make_watch
from grpc_server.model import LoadedModel
from grpc_server.model.arrays import Matrix, Positions

# Rows that are kept between two looks. Looks may be a little more than a second apart.
MAX_ROWS = 1_200
LOOK_SECONDS = 1.0
# Most numbers of all rows that wait for a look, at 32 bytes each: the rows of a very wide table are
# fewer.
MAX_NUMBERS = 2_000_000
# Pause after each feature, in which calls get the interpreter's lock.
_REST_SECONDS = 50e-6

_log = logging.getLogger(__name__)


class DriftMonitor:
    """Counts the rows that the current model answers.

    Parameters
    ----------
    n_features : int
        Number of features whose bins are counted, 1 or more.
    store : CountStore or None
        Where the counts are kept for a supervisor; None keeps them in this process.
    max_rows : int
        Most rows to count of each look; of more, a uniform sample.
    look_seconds : float
        Time between two looks, > 0.
    clock : callable
        Returns the time in seconds, from which the rate of rows follows.
    """

    def __init__(
        self,
        n_features: int,
        store: CountStore | None = None,
        *,
        max_rows: int = MAX_ROWS,
        look_seconds: float = LOOK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._n_features = n_features
        self._store = store
        self._look_seconds = look_seconds
        self._max_rows = self._size = max_rows
        self._reservoir = Reservoir(max_rows, Random(), clock)
        # What the servicer calls for each row, without a step between.
        self.offer = self._reservoir.offer
        self._lock = threading.Lock()
        self._watch: Watch | None = None
        self._snapshot: Snapshot | None = None
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drift", daemon=True)

    def watch(self, model: LoadedModel) -> None:
        """Count the rows of `model` from now on, and forget those of others."""
        watch = make_watch(model, self._n_features)
        n_columns = len(model.input_schema.features) + len(model.classes.labels)
        size = max(1, min(self._max_rows, MAX_NUMBERS // n_columns))
        with self._lock:
            if size != self._size:
                self._size = size
                self._reservoir.resize(size)
            self._watch = watch
            self._snapshot = None if watch is None else self._begin(watch)
            self._keep()
        if watch is None:
            fields = {"model_version": model.source.version}
            _log.info(
                "drift is not measured: the model has no reference; train it again",
                extra={"fields": fields},
            )

    def offer_batch(
        self,
        model: LoadedModel,
        X: Matrix,
        probabilities: Matrix,
        positions: Positions,
    ) -> None:
        """Offer the rows of a batch, of which a sample is copied.

        Parameters
        ----------
        model : LoadedModel
            Model that answered.
        X : ndarray of float64, shape (n_rows, n_features)
            Rows, NaN where missing.
        probabilities : ndarray of float64, shape (n_rows, n_classes)
            Answers.
        positions : ndarray of int64, shape (n_rows,)
            Positions of the predicted classes.
        """

        def take(row: int) -> Answer:
            return Answer(
                model,
                X[row].tolist(),
                probabilities[row].tolist(),
                int(positions[row]),
            )

        self._reservoir.offer_many(len(positions), take)

    def start(self) -> None:
        """Start to count."""
        self._thread.start()

    def stop(self) -> None:
        """Count what has come, and stop."""
        self._is_stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._look()

    def read(self) -> list[Snapshot]:
        """Return the counts of all rows that have come; none if nothing is measured."""
        with self._lock:
            self._count(_go_on)
            return [] if self._snapshot is None else [self._snapshot]

    def _run(self) -> None:
        while not self._is_stopping.wait(self._look_seconds):
            self._look()

    def _look(self) -> None:
        with self._lock:
            if self._count(_rest):
                self._keep()

    def _count(self, rest: Callable[[], None]) -> bool:
        """Count the rows that have come; return whether there were any."""
        came = self._reservoir.take_all()
        watch, snapshot = self._watch, self._snapshot
        if watch is None or snapshot is None:
            return False
        # A call that began with another model may end after the swap.
        rows = [answer for answer in came if answer.model is watch.model]
        count(snapshot.counts, watch, rows, rest)
        return bool(rows)

    def _begin(self, watch: Watch) -> Snapshot:
        load_time = watch.model.load_time.timestamp()
        before = None if self._store is None else self._store.read()
        if before is not None and before.layout == watch.layout:
            # The predecessor of this process counted for the same model.
            return Snapshot(watch.layout, load_time, before.counts)
        return Snapshot(watch.layout, load_time, Counts.empty(watch.layout))

    def _keep(self) -> None:
        if self._store is None:
            return
        if self._snapshot is None:
            self._store.remove()
        else:
            self._store.write(self._snapshot)


def _rest() -> None:
    time.sleep(_REST_SECONDS)


def _go_on() -> None:
    """Count without pauses: a page waits for it."""
