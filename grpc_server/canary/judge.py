"""Judges a canary by its calls: too many errors, or other answers than the champion's.

::

    calls ──> window 1: looks at 32, 64 ... 2048 calls ──> window 2 ──> ...
                  │
                  └── beyond a bound, and hardly by chance ──> abort

Chance gets a small part of `FALSE_ALARMS` at each look. The parts of all looks, of all windows to
come and of all compared quantities sum to it at most. So it bounds the probability that a canary
within its bounds is ever aborted, however long it serves.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grpc_server.canary.limits import bound_tail, find_limits

# Largest probability that a version within its bounds is ever aborted by one server.
FALSE_ALARMS = 0.001
# Calls of the canary after which a window is looked at; the last one ends it.
LOOKS = (32, 64, 128, 256, 512, 1024, 2048)
# More calls of the control group would hardly narrow its limits.
_MAX_CONTROL = 4 * LOOKS[-1]
# Names of the compared quantities besides the labels, which are in quotes.
_TOP, _SLOW = "mean top probability", "share of slow calls"
_N_LIMITS = 4  # a lower and an upper one for each of two groups


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a canary may do.

    Parameters
    ----------
    max_errors : float
        Largest share of its calls that it cannot answer though the champion can, [0, 1].
    max_shift : float
        Largest difference from the champion in the share of a label, in the mean of the top
        probability, and in the share of slow calls, [0, 1].
    """

    max_errors: float
    max_shift: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What one call was answered.

    Parameters
    ----------
    label_shares : mapping of str to float
        Share of the call's rows by predicted label; they sum to 1.
    top : float
        Mean over the rows of the largest probability, [0, 1].
    is_slow : bool
        Whether the model took longer than a call of this size should.
    """

    label_shares: Mapping[str, float]
    top: float
    is_slow: bool


class Looks:
    """The looks at a series of calls, and the part of chance that each gets.

    Parameters
    ----------
    level : float
        Sum of the parts of all looks, (0, 1).
    """

    def __init__(self, level: float) -> None:
        self._level = level
        self._window = 1

    def find_level(self, n_calls: int) -> float:
        """Return the part of the look that is due; 0 if none is."""
        if n_calls not in LOOKS:
            return 0.0
        # The sum of 1 / (k * (k + 1)) over all windows k is 1.
        return self._level / (len(LOOKS) * self._window * (self._window + 1))

    def ends(self, n_calls: int) -> bool:
        """Return whether a window is over; begin the next one then."""
        if n_calls < LOOKS[-1]:
            return False
        self._window += 1
        return True


class ErrorJudge:
    """Compares the share of errors with its bound.

    Parameters
    ----------
    max_errors : float
        The bound, [0, 1].
    level : float
        Largest probability that it ever reports a canary within the bound, (0, 1).
    """

    def __init__(self, max_errors: float, level: float) -> None:
        self._max_errors = max_errors
        self._looks = Looks(level)
        self._n_calls = self._n_errors = 0

    def see(self, is_error: bool) -> str:
        """Count one call of the canary; return why it has to be aborted, or an empty text."""
        self._n_calls += 1
        self._n_errors += is_error
        level = self._looks.find_level(self._n_calls)
        reason = self._judge(level) if level else ""
        if self._looks.ends(self._n_calls):
            self._n_calls = self._n_errors = 0
        return reason

    def _judge(self, level: float) -> str:
        share = self._n_errors / self._n_calls
        if bound_tail(share, self._n_calls, self._max_errors) > level:
            return ""
        return (
            f"it could not answer {self._n_errors} of {self._n_calls} calls that the champion "
            f"could; at most {self._max_errors:g} of them may fail"
        )


class _Group:
    """Sums over the calls of one group in one window."""

    def __init__(self) -> None:
        self.n_calls = 0
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._keys: set[float] = set()

    def add(self, place: float | None, answer: Answer) -> bool:
        """Add a call; return False if its key has been counted already."""
        if place is not None:
            if place in self._keys:
                return False
            self._keys.add(place)
        self.n_calls += 1
        for label, share in answer.label_shares.items():
            self._sums[repr(label)] += share
        self._sums[_TOP] += answer.top
        self._sums[_SLOW] += answer.is_slow
        return True

    def mean(self, name: str) -> float:
        """Return the mean of a quantity, [0, 1]."""
        # Rounding may lift a sum of ones above their number.
        return min(1.0, self._sums[name] / self.n_calls)


class ShiftJudge:
    """Compares the canary's answers with those of a control group, which the champion answered.

    Calls with the same key resemble each other, so that a key counts once in a window.

    Parameters
    ----------
    labels : sequence of str
        Labels of the classes of both models.
    max_shift : float
        See `Bounds`.
    level : float
        Largest probability that it ever reports a canary within the bound, (0, 1).
    """

    def __init__(self, labels: Sequence[str], max_shift: float, level: float) -> None:
        self._max_shift = max_shift
        self._names = (*(f"{label!r}" for label in labels), _TOP, _SLOW)
        self._looks = Looks(level / (_N_LIMITS * len(self._names)))
        self._begin()

    def _begin(self) -> None:
        self._canary, self._control = _Group(), _Group()

    def see_control(self, place: float | None, answer: Answer) -> None:
        """Count one call of the control group; see `see`."""
        if self._control.n_calls < _MAX_CONTROL:
            self._control.add(place, answer)

    def see(self, place: float | None, answer: Answer) -> str:
        """Count one call that the canary answered.

        Parameters
        ----------
        place : float or None
            Place of its key; None without a key.
        answer : Answer
            The answer.

        Returns
        -------
        str
            Why it has to be aborted; empty if it need not be.
        """
        if not self._canary.add(place, answer):
            return ""
        n_calls = self._canary.n_calls
        level = self._looks.find_level(n_calls)
        reason = self._judge(level) if level and self._control.n_calls else ""
        if self._looks.ends(n_calls):
            self._begin()
        return reason

    def _judge(self, level: float) -> str:
        for name in self._names:
            ours, theirs = self._canary.mean(name), self._control.mean(name)
            # Limits are farther apart than the means, so most quantities end here.
            if abs(ours - theirs) > self._max_shift and self._is_sure(name, level):
                return self._explain(name, ours, theirs)
        return ""

    def _is_sure(self, name: str, level: float) -> bool:
        canary, control = self._canary, self._control
        low, high = find_limits(canary.mean(name), canary.n_calls, level)
        from_, to = find_limits(control.mean(name), control.n_calls, level)
        return low - to > self._max_shift or from_ - high > self._max_shift

    def _explain(self, name: str, ours: float, theirs: float) -> str:
        what = name if name in (_TOP, _SLOW) else f"share of label {name}"
        return (
            f"its {what} is {ours:.3f} over {self._canary.n_calls} calls, the champion's "
            f"{theirs:.3f} over {self._control.n_calls}; they may differ by at most "
            f"{self._max_shift:g}"
        )


class Judge:
    """Judges one canary beside one champion.

    Parameters
    ----------
    labels : sequence of str
        Labels of the classes of both models.
    bounds : Bounds
        What the canary may do.
    false_alarms : float
        Largest probability that a canary within the bounds is ever reported, (0, 1).
    """

    def __init__(
        self,
        labels: Sequence[str],
        bounds: Bounds,
        false_alarms: float = FALSE_ALARMS,
    ) -> None:
        self._errors = ErrorJudge(bounds.max_errors, false_alarms / 2)
        self._shift = ShiftJudge(labels, bounds.max_shift, false_alarms / 2)

    def see_control(self, place: float | None, answer: Answer) -> None:
        """Count one call that the champion answered for comparison."""
        self._shift.see_control(place, answer)

    def see(self, place: float | None, answer: Answer | None) -> str:
        """Count one call of the canary.

        Parameters
        ----------
        place : float or None
            Place of its key; None without a key.
        answer : Answer or None
            The answer; None if it could not answer and the champion could.

        Returns
        -------
        str
            Why it has to be aborted; empty if it need not be.
        """
        reason = self._errors.see(answer is None)
        if answer is None or reason:
            return reason
        return self._shift.see(place, answer)
