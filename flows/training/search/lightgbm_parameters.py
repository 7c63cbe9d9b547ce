"""The parameters of LightGBM, by what they do to a shared fit."""

from typing import Any

PREFIX_PARAMETER = "n_estimators"
# LightGBM's names for the columns that hold codes of categories. All of them work: at the first,
# LightGBM 4.7 warns that it ignores it, yet uses it.
CATEGORICAL = (
    "categorical_feature",
    "categorical_features",
    "categorical_column",
    "cat_feature",
    "cat_column",
)
# Parameters of LightGBM itself, beside those of LGBMClassifier, under which the first trees of a
# long fit were found to be the short fit. Any other one takes the plain way: aliases of
# n_estimators and of early stopping are among them.
KNOWN_EXTRAS = frozenset(
    {
        "bagging_seed",
        "bin_construct_sample_cnt",
        "boost_from_average",
        "cat_l2",
        "cat_smooth",
        "data_random_seed",
        "deterministic",
        "enable_bundle",
        "extra_trees",
        "feature_fraction_bynode",
        "feature_fraction_seed",
        "feature_pre_filter",
        "force_col_wise",
        "force_row_wise",
        "is_enable_sparse",
        "is_unbalance",
        "max_bin",
        "max_cat_threshold",
        "max_cat_to_onehot",
        "max_delta_step",
        "min_data_in_bin",
        "min_data_per_group",
        "path_smooth",
        "scale_pos_weight",
        "sigmoid",
        "use_missing",
        "verbose",
        "verbosity",
        "zero_as_missing",
    }
).union(CATEGORICAL)
KNOWN_OBJECTIVES = (None, "binary", "multiclass", "multiclassova", "cross_entropy")
# Parameters that do not change the first trees.
WITHOUT_EFFECT = frozenset({PREFIX_PARAMETER, "importance_type", "n_jobs"})
# Parameters of the binned rows: fits that differ in one of them have a Dataset each.
DATASET_PARAMETERS = (
    "max_bin",
    "min_data_in_bin",
    "subsample_for_bin",
    "bin_construct_sample_cnt",
    "min_child_samples",
    "feature_pre_filter",
    "random_state",
    "data_random_seed",
    "enable_bundle",
    "is_enable_sparse",
    "use_missing",
    "zero_as_missing",
    "class_weight",
    "categorical_feature",
    "categorical_features",
    "categorical_column",
    "cat_feature",
    "cat_column",
)
# Layouts of the histograms; with one thread they give the same bits.
LAYOUTS = ("force_col_wise", "force_row_wise")


def count_leaves(classifier: Any) -> int:
    """Return the most leaves that a tree of an LGBMClassifier can have: 2**d at depth d."""
    depth, n_leaves = classifier.max_depth, classifier.num_leaves
    is_capped = depth is not None and 0 < depth < 31
    return int(min(n_leaves, 2**depth)) if is_capped else int(n_leaves)


def make_params(classifier: Any, n_classes: int) -> dict[str, Any]:
    """Return the parameters that LGBMClassifier hands to LightGBM, for one thread and no metric.

    Parameters
    ----------
    classifier : LGBMClassifier
        Unfitted.
    n_classes : int
        Number of class labels in the training rows.

    Returns
    -------
    dict of str to object
        Parameters of `lightgbm.Booster` and `lightgbm.Dataset`.
    """
    params = {
        name: value
        for name, value in classifier.get_params().items()
        if value is not None and name not in {*WITHOUT_EFFECT, "class_weight"}
    }
    default = "binary" if n_classes <= 2 else "multiclass"
    params.setdefault("objective", default)
    if n_classes > 2:
        params["num_class"] = n_classes
    return params | {
        "num_leaves": count_leaves(classifier),
        "metric": "None",
        "num_threads": 1,
    }
