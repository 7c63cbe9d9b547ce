"""LightGBM through its C library, found by path: `import lightgbm` would cost seconds and memory.

LightGBM's ``include/LightGBM/c_api.h`` declares the functions and constants.
"""

import ctypes
import functools
import importlib.util
import logging
import struct
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

from grpc_server.errors import (
    ArtifactCorrupt,
    InvalidInstance,
    StartupError,
    Violation,
)
from grpc_server.model.arrays import Matrix
from grpc_server.model.estimator import Explanation
from grpc_server.model.lightgbm_text import write_text
from grpc_server.model.tree_checks import CheckedEnsemble

# Limits of one explanation, which runs on the thread that answers all calls: 1.5 s and 8 MB.
MAX_EXPLANATION_STEPS = 200_000_000
MAX_EXPLANATION_VALUES = 1_000_000

_PREDICT_NORMAL = 0  # C_API_PREDICT_NORMAL: probabilities
_PREDICT_RAW_SCORE = 1  # C_API_PREDICT_RAW_SCORE: sums of leaves
_PREDICT_CONTRIB = 3  # C_API_PREDICT_CONTRIB: SHAP values and the expected raw score
_NAMES = {
    _PREDICT_NORMAL: "normal",
    _PREDICT_RAW_SCORE: "raw_score",
    _PREDICT_CONTRIB: "contrib",
}
_DTYPE_FLOAT64 = 1  # C_API_DTYPE_FLOAT64
_ROW_MAJOR = 1
_ALL_ITERATIONS = -1
# One thread per call. With OpenMP's default, the 99th percentile of one row was 5 ms to 0.9 s.
_PARAMETERS = b"num_threads=1 verbose=-1"

_log = logging.getLogger(__name__)


class LightgbmBooster:
    """A booster of LightGBM; each thread has its own buffers.

    Parameters
    ----------
    checked : CheckedEnsemble
        Checked trees, which are written as text for the library.

    Raises
    ------
    ArtifactCorrupt
        If the library cannot read the text, or reads another shape.
    StartupError
        If the library is not installed, or lacks a system library.
    """

    def __init__(self, checked: CheckedEnsemble) -> None:
        self._library = _load_library()
        self._n_features = checked.n_features
        self._n_outputs = checked.n_outputs
        self._n_explanation_steps = checked.n_explanation_steps
        self._handle = self._create(write_text(checked))
        weakref.finalize(self, self._library.LGBM_BoosterFree, self._handle)
        self._check_shape("LGBM_BoosterGetNumFeature", "features", self._n_features)
        self._check_shape("LGBM_BoosterGetNumClasses", "outputs", self._n_outputs)
        self._of_thread = threading.local()

    def predict_probabilities(self, row: Sequence[float]) -> Sequence[float]:
        """Return the probability of each class, bit for bit LightGBM's; see `Estimator`."""
        predict = self._find_predictor(_PREDICT_NORMAL, self._n_outputs)
        return self._to_probabilities(predict(row))

    def predict_batch(self, X: Matrix) -> Matrix:
        """Return the probabilities, shape (n_rows, n_classes); see `Estimator`."""
        import numpy as np

        outputs = self._predict_rows(X, _PREDICT_NORMAL)
        if self._n_outputs > 1:
            return outputs
        return np.hstack([1.0 - outputs, outputs])

    def explain(self, row: Sequence[float], position: int) -> Explanation:
        """Explain the raw score of one class by SHAP values; see `Estimator`.

        Raises
        ------
        InvalidInstance
            If the explanation would delay all other calls: the work grows with the cube of a tree's
            depth.
        """
        n_values = self._n_outputs * (self._n_features + 1)
        self._check_explainable(n_values)
        explain = self._find_predictor(_PREDICT_CONTRIB, n_values)
        start = position * (self._n_features + 1) if self._n_outputs > 1 else 0
        values = explain(row)[start : start + self._n_features + 1]
        return Explanation(sum(values), base=values[-1], contributions=values[:-1])

    def _check_explainable(self, n_values: int) -> None:
        n_steps = self._n_explanation_steps
        if n_steps <= MAX_EXPLANATION_STEPS and n_values <= MAX_EXPLANATION_VALUES:
            return
        raise InvalidInstance(
            [
                Violation(
                    "explain_top_k",
                    "only 0 is allowed with this model: an explanation would take up to "
                    f"{n_steps} steps and {n_values} numbers; {MAX_EXPLANATION_STEPS} and "
                    f"{MAX_EXPLANATION_VALUES} are allowed",
                )
            ]
        )

    def outputs(self, row: Sequence[float]) -> Sequence[float]:
        """Return the raw scores of a row; see `ScoringEstimator`."""
        return self._find_predictor(_PREDICT_RAW_SCORE, self._n_outputs)(row)

    def batch_outputs(self, X: Matrix) -> Matrix:
        """Return the raw scores, shape (n_rows, n_outputs); see `ScoringEstimator`."""
        return self._predict_rows(X, _PREDICT_RAW_SCORE)

    def _find_predictor(self, predict_type: int, n_values: int) -> "_RowPredictor":
        """Return this thread's predictor of this type."""
        try:
            predictor: _RowPredictor = getattr(self._of_thread, _NAMES[predict_type])
        except AttributeError:
            predictor = _RowPredictor(
                self._library, self._handle, self._n_features, n_values, predict_type
            )
            setattr(self._of_thread, _NAMES[predict_type], predictor)
        return predictor

    def _to_probabilities(self, outputs: Sequence[float]) -> Sequence[float]:
        if self._n_outputs > 1:
            return outputs
        # As LGBMClassifier.predict_proba does.
        return 1.0 - outputs[0], outputs[0]

    def _predict_rows(self, X: Matrix, predict_type: int) -> Matrix:
        import numpy as np

        outputs, n_written = np.empty((len(X), self._n_outputs)), ctypes.c_int64()
        failed = self._library.LGBM_BoosterPredictForMat(
            self._handle,
            ctypes.c_void_p(X.ctypes.data),
            ctypes.c_int(_DTYPE_FLOAT64),
            ctypes.c_int32(len(X)),
            ctypes.c_int32(self._n_features),
            ctypes.c_int(_ROW_MAJOR),
            ctypes.c_int(predict_type),
            ctypes.c_int(0),
            ctypes.c_int(_ALL_ITERATIONS),
            ctypes.c_char_p(_PARAMETERS),
            ctypes.byref(n_written),
            ctypes.c_void_p(outputs.ctypes.data),
        )
        if failed:
            raise RuntimeError(f"LightGBM: {_last_error(self._library)}")
        return outputs

    def _create(self, model_text: bytes) -> ctypes.c_void_p:
        handle, n_iterations = ctypes.c_void_p(), ctypes.c_int()
        failed = self._library.LGBM_BoosterLoadModelFromString(
            ctypes.c_char_p(model_text),
            ctypes.byref(n_iterations),
            ctypes.byref(handle),
        )
        if failed:
            raise ArtifactCorrupt(f"lightgbm: {_last_error(self._library)}")
        return handle

    def _check_shape(self, function: str, what: str, expected: int) -> None:
        actual = ctypes.c_int()
        getattr(self._library, function)(self._handle, ctypes.byref(actual))
        if actual.value != expected:
            raise ArtifactCorrupt(
                f"lightgbm reads {actual.value} {what}; the artifact has {expected}"
            )


class _RowPredictor:
    """Scores one row at a time, in its own buffers; for one thread only."""

    def __init__(
        self,
        library: ctypes.CDLL,
        booster: ctypes.c_void_p,
        n_features: int,
        n_outputs: int,
        predict_type: int,
    ) -> None:
        config = ctypes.c_void_p()
        failed = library.LGBM_BoosterPredictForMatSingleRowFastInit(
            booster,
            ctypes.c_int(predict_type),
            ctypes.c_int(0),
            ctypes.c_int(_ALL_ITERATIONS),
            ctypes.c_int(_DTYPE_FLOAT64),
            ctypes.c_int32(n_features),
            ctypes.c_char_p(_PARAMETERS),
            ctypes.byref(config),
        )
        if failed:
            raise ArtifactCorrupt(f"lightgbm: {_last_error(library)}")
        weakref.finalize(self, library.LGBM_FastConfigFree, config)
        self._library = library
        self._row = (ctypes.c_double * n_features)()
        self._outputs = (ctypes.c_double * n_outputs)()
        self._n_written = ctypes.c_int64()
        self._arguments = (
            config,
            ctypes.byref(self._row),
            ctypes.byref(self._n_written),
            ctypes.byref(self._outputs),
        )
        self._pack: Callable[..., None] = struct.Struct(f"={n_features}d").pack_into
        self._predict = library.LGBM_BoosterPredictForMatSingleRowFast

    def __call__(self, row: Sequence[float]) -> Sequence[float]:
        self._pack(self._row, 0, *row)
        if self._predict(*self._arguments):
            raise RuntimeError(f"LightGBM: {_last_error(self._library)}")
        return self._outputs[:]


@functools.cache
def _load_library() -> ctypes.CDLL:
    """Load the C library, once per process."""
    package = importlib.util.find_spec("lightgbm")
    if package is None or package.origin is None:
        raise StartupError("the model needs lightgbm: pip install 'lightgbm>=4.7,<4.8'")
    path = Path(package.origin).parent / "lib" / "lib_lightgbm.so"
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise StartupError(
            f"LightGBM cannot be loaded ({error}); it needs the system's libgomp.so.1 "
            "(Debian and Ubuntu: apt-get install libgomp1)"
        ) from None
    library.LGBM_GetLastError.restype = ctypes.c_char_p
    # Without a callback, the library writes to stdout, between the JSON lines of the log.
    library.LGBM_RegisterLogCallback(_log_callback())
    return library


@functools.cache
def _log_callback() -> Callable[[bytes], None]:
    """Return the callback, which must stay alive: the library holds only its address."""
    return ctypes.CFUNCTYPE(None, ctypes.c_char_p)(_forward_log)


def _forward_log(message: bytes) -> None:
    text = message.decode(errors="replace").strip()
    if text:
        _log.warning("lightgbm", extra={"fields": {"message": text}})


def _last_error(library: ctypes.CDLL) -> str:
    text: bytes = library.LGBM_GetLastError()
    return text.decode(errors="replace")
