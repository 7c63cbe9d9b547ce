"""Keeps the canary of one process: whether it serves, and what its calls say about it.

::

    waiting ── a model loads ──> compared with the champion ──┬── serving ── judged ──> aborted
       ^                             ^                        ├── same
       │                             │ either changes         └── incompatible
       └── its file is gone ─────────┴──────────────────────────────┘

An aborted version stays aborted until the process ends, even if other versions come in between.
"""

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from grpc_server.canary.compatibility import why_incompatible
from grpc_server.canary.judge import FALSE_ALARMS, Answer, Bounds, Judge
from grpc_server.canary.metrics import CanaryMetrics
from grpc_server.canary.split import Arm
from grpc_server.canary.status import Abort, State, Status
from grpc_server.model import LoadedModel
from grpc_server.model.standing import Standing
from grpc_server.model.sync_status import clean_text

# Time between two looks at the calls that ended meanwhile.
_TICK_SECONDS = 0.1
# Calls that may end between two looks. More are neither judged nor counted.
_MAX_WAITING = 200_000
# Aborted versions that are remembered, those of the longest ago are forgotten first.
_MAX_ABORTS = 1000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pair:
    """A canary that serves, and the champion beside it."""

    champion: LoadedModel
    canary: LoadedModel


@dataclass(frozen=True, slots=True)
class Ended:
    """One call that ended while a canary served.

    Parameters
    ----------
    pair : Pair
        The models when the call began.
    arm : Arm
        What the call was used for.
    place : float or None
        Place of its key; None without a key.
    outcome : {"answered", "misfit", "failed"}
        What the arm's model did.
    version : str
        Version that was chosen.
    n_rows : int
        Rows of the answer, 0 or more.
    answer : Answer or None
        The answer of the arm's model; None if it has none, or none is compared.
    """

    pair: Pair
    arm: Arm
    place: float | None
    outcome: str
    version: str
    n_rows: int = 0
    answer: Answer | None = None


def _introduce_to_nobody(model: LoadedModel) -> None:
    """Do nothing."""


def _ignore_abort(abort: Abort) -> None:
    """Do nothing."""


class CanaryKeeper:
    """The canary of one process.

    Parameters
    ----------
    share : float
        Share of the calls that the canary gets, [0, 1].
    bounds : Bounds
        What it may do.
    metrics : CanaryMetrics
        Shows it.
    n_processes : int
        Processes that judge the same version, 1 or more; they share the false alarms.
    announce : callable
        Tells other processes about an abort.

    Attributes
    ----------
    pair : Pair or None
        The models while the canary serves; None while the champion answers all calls. Replaced in
        one step, so that calls read it without a lock.
    """

    def __init__(
        self,
        share: float,
        bounds: Bounds,
        metrics: CanaryMetrics,
        n_processes: int = 1,
        announce: Callable[[Abort], None] = _ignore_abort,
    ) -> None:
        self.share = share
        self._bounds = bounds
        self._metrics = metrics
        self._false_alarms = FALSE_ALARMS / n_processes
        self._announce = announce
        self._introduce: Callable[[LoadedModel], None] = _introduce_to_nobody
        self.pair: Pair | None = None
        # Held while anything below changes.
        self._lock = threading.RLock()
        self._champion: LoadedModel | None = None
        self._canary: LoadedModel | None = None
        self._standing = Standing()
        self._aborts: dict[str, str] = {}
        self._judge: Judge | None = None
        self._n_calls = self._n_rows = 0
        self._status = Status(share=share)
        self._ended: deque[Ended] = deque(maxlen=_MAX_WAITING)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="canary", daemon=True)
        metrics.show(self._status)

    @property
    def status(self) -> Status:
        """The canary as it is now."""
        with self._lock:
            return self._describe()

    def start(self) -> None:
        """Start to judge."""
        self._thread.start()

    def stop(self) -> None:
        """Stop to judge."""
        self._stop.set()

    def introduce_to(self, listener: Callable[[LoadedModel], None]) -> None:
        """Call `listener` with each canary before it answers its first call."""
        self._introduce = listener

    def serve_champion(self, model: LoadedModel) -> None:
        """Compare with another champion from now on."""
        with self._lock:
            self._champion = model
            self._update()

    def serve(self, model: LoadedModel) -> None:
        """Take another canary."""
        with self._lock:
            self._canary = model
            self._n_calls = self._n_rows = 0
            self._update()

    def drop(self) -> None:
        """Let the champion answer all calls, because the canary's file is gone."""
        with self._lock:
            if self._canary is not None:
                self._canary = None
                self._update()

    def count_load_failure(self, error: str) -> None:
        """Count a file that was refused, by the name of the error's class."""
        self._metrics.count_load_failure(error)

    def show_standing(self, standing: Standing) -> None:
        """Show why a newer version is not the canary."""
        with self._lock:
            self._standing = standing

    def abort(self, abort: Abort) -> None:
        """Let a version serve no more, as another process has decided."""
        with self._lock:
            if abort.sha256 not in self._aborts:
                self._note_abort(abort)

    def is_aborted(self, model: LoadedModel) -> bool:
        """Return whether a version must not serve any more."""
        return model.source.sha256 in self._aborts

    def note(self, ended: Ended) -> None:
        """Take a call that ended; from any thread, at the cost of one append."""
        self._ended.append(ended)

    def tick(self) -> None:
        """Count and judge the calls that ended since the last time."""
        n_by_outcome: Counter[tuple[str, str]] = Counter()
        for _ in range(len(self._ended)):
            ended = self._ended.popleft()
            n_by_outcome[ended.version, ended.outcome] += 1
            if ended.arm is not Arm.REST:
                self._see(ended)
        for (version, outcome), n_calls in n_by_outcome.items():
            self._metrics.count_calls(version, outcome, n_calls)

    def _run(self) -> None:
        while not self._stop.wait(_TICK_SECONDS):
            try:
                self.tick()
            except Exception:
                # Without a judge, a canary must not go on.
                _log.exception("canary not judged")
                self._abort_unjudged()

    def _abort_unjudged(self) -> None:
        with self._lock:
            if self._canary is not None:
                reason = "its calls could not be judged; the log has the error"
                self.abort(Abort(self._canary.source.sha256, reason))

    def _see(self, ended: Ended) -> None:
        with self._lock:
            if ended.pair is not self.pair or self._judge is None:
                return  # the models have changed since
            if ended.arm is Arm.CONTROL:
                if ended.answer is not None:
                    self._judge.see_control(ended.place, ended.answer)
                return
            self._n_calls += 1
            self._n_rows += ended.n_rows
            reason = self._judge.see(ended.place, ended.answer)
            if reason:
                abort = Abort(ended.pair.canary.source.sha256, reason)
                self._note_abort(abort)
                self._announce(abort)

    def _note_abort(self, abort: Abort) -> None:
        while len(self._aborts) >= _MAX_ABORTS:
            del self._aborts[next(iter(self._aborts))]
        self._aborts[abort.sha256] = clean_text(abort.reason)
        canary = self._canary
        if canary is not None and canary.source.sha256 == abort.sha256:
            self._metrics.count_abort()
        self._update()

    def _update(self) -> None:
        """Decide again whether the canary serves, and log a change."""
        state, reason = self._decide()
        champion, canary = self._champion, self._canary
        before = self.pair
        if state is not State.SERVING:
            self.pair = self._judge = None
        elif before is None or (before.champion, before.canary) != (champion, canary):
            assert champion is not None and canary is not None
            # Not earlier: of one that may not serve, others must not hear.
            self._introduce(canary)
            self._judge = Judge(canary.classes.labels, self._bounds, self._false_alarms)
            self.pair = Pair(champion, canary)
        version = "" if canary is None else canary.source.version
        status = Status(state, version, self.share, reason)
        if status != self._status:
            self._status = status
            self._metrics.show(status)
            self._log(status)

    def _decide(self) -> tuple[State, str]:
        champion, canary = self._champion, self._canary
        if canary is None:
            return State.WAITING, "no model is loaded"
        digest = canary.source.sha256
        if digest in self._aborts:
            return State.ABORTED, self._aborts[digest]
        if champion is None:
            return State.WAITING, "the champion is not loaded yet"
        if digest == champion.source.sha256:
            return State.SAME, "the champion is this version"
        reason = why_incompatible(canary, champion)
        return (State.INCOMPATIBLE, reason) if reason else (State.SERVING, "")

    def _describe(self) -> Status:
        status, refusal = self._status, self._standing.refusal
        reasons = [text for text in (status.reason, refusal) if text]
        return Status(
            status.state,
            status.version,
            status.share,
            "; ".join(reasons),
            self._n_calls,
            self._n_rows,
        )

    def _log(self, status: Status) -> None:
        fields: dict[str, object] = {"canary_version": status.version}
        if status.state is State.SERVING:
            _log.info("canary serves", extra={"fields": fields | {"share": self.share}})
            return
        fields |= {"state": status.state.value, "reason": status.reason}
        if status.state is State.ABORTED:
            fields |= {"calls": self._n_calls, "rows": self._n_rows}
        level = logging.INFO
        if status.state in (State.ABORTED, State.INCOMPATIBLE):
            level = logging.ERROR
        _log.log(level, "canary does not serve", extra={"fields": fields})
