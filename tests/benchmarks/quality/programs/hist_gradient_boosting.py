"""scikit-learn's gradient boosting as it comes, with early stopping on larger tables."""

import common
from sklearn.ensemble import HistGradientBoostingClassifier


def keep_frequent(train, test, limit=255):
    """Leave the rarest of too many categories out: the classifier takes 255."""
    for name in train.select_dtypes("category"):
        frequent = list(train[name].value_counts().index[:limit])
        for frame in (train, test):
            frame[name] = frame[name].cat.set_categories(frequent)
    return train, test


def predict(train, codes, test, _):
    """Fit once."""
    train, test = keep_frequent(train, test)
    model = HistGradientBoostingClassifier(
        categorical_features="from_dtype", random_state=0
    )
    return model.fit(train, codes).predict_proba(test)


if __name__ == "__main__":
    common.run(predict)
