"""LightGBM tuned by Optuna's TPE on the folds by log loss, in the ranges of Optuna's tuner."""

import common
import numpy as np
import optuna
from lightgbm import LGBMClassifier, early_stopping
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

MAX_ROUNDS, PATIENCE = 2000, 50


def suggest(trial):
    """Return the parameters of a trial."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 2, 256, log=True),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.4, 1.0),
        "subsample": trial.suggest_float("subsample", 0.4, 1.0),
        "subsample_freq": trial.suggest_int("subsample_freq", 1, 7),
        "min_child_samples": trial.suggest_int("min_child_samples", 5, 100),
        "reg_alpha": trial.suggest_float("reg_alpha", 1e-8, 10.0, log=True),
        "reg_lambda": trial.suggest_float("reg_lambda", 1e-8, 10.0, log=True),
    }


def predict(train, codes, test, seconds):
    """Search for the seconds, then fit the best on all rows with its folds' mean of rounds."""
    end = common.cpu_seconds() + seconds
    folds = list(
        StratifiedKFold(common.FOLDS, shuffle=True, random_state=0).split(train, codes)
    )

    def fit(params, rounds, rows, **more):
        model = LGBMClassifier(
            **params, n_estimators=rounds, n_jobs=1, random_state=0, verbose=-1
        )
        return model.fit(train.iloc[rows], codes[rows], **more)

    def judge(trial):
        losses, rounds = [], []
        for number, (fitted, scored) in enumerate(folds):
            watch = {
                "eval_X": (train.iloc[scored],),
                "eval_y": (codes[scored],),
                "callbacks": [early_stopping(PATIENCE, verbose=False)],
            }
            model = fit(suggest(trial), MAX_ROUNDS, fitted, **watch)
            answers = model.predict_proba(train.iloc[scored])
            losses.append(log_loss(codes[scored], answers, labels=np.unique(codes)))
            rounds.append(model.best_iteration_ or MAX_ROUNDS)
            trial.report(np.mean(losses), number)
            if common.cpu_seconds() > end and study_has_one(trial):
                raise optuna.TrialPruned
        trial.set_user_attr("rounds", int(np.mean(rounds)))
        return float(np.mean(losses))

    def study_has_one(trial):
        complete = (optuna.trial.TrialState.COMPLETE,)
        return bool(trial.study.get_trials(deepcopy=False, states=complete))

    def stop(study, _):
        if common.cpu_seconds() > end:
            study.stop()

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(judge, n_trials=10_000, callbacks=[stop])
    best = study.best_trial
    model = fit(best.params, best.user_attrs["rounds"], np.arange(len(codes)))
    return model.predict_proba(test)


if __name__ == "__main__":
    common.run(predict)
