"""scikit-learn's LogisticRegressionCV on scaled numbers and one-hot text, by log loss."""

import common
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def predict(train, codes, test, _):
    """Search ten strengths of the penalty."""
    columns = make_column_transformer(
        (
            make_pipeline(SimpleImputer(strategy="median"), StandardScaler()),
            make_column_selector(dtype_include="number"),
        ),
        (
            OneHotEncoder(handle_unknown="ignore"),
            make_column_selector(dtype_exclude="number"),
        ),
    )
    folds = StratifiedKFold(common.FOLDS, shuffle=True, random_state=0)
    model = LogisticRegressionCV(
        Cs=10,
        cv=folds,
        scoring="neg_log_loss",
        max_iter=2000,
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
    )
    # scikit-learn's imputer takes no pandas integers with gaps, its encoder no pandas categories.
    for frame in (train, test):
        for name in frame.select_dtypes("category"):
            frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
    return make_pipeline(columns, model).fit(train, codes).predict_proba(test)


if __name__ == "__main__":
    common.run(predict)
