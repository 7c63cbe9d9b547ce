"""What a monitor of drift watches of a model."""

from dataclasses import dataclass

from grpc_server.drift.layout import (
    MAX_CLASSES,
    MAX_LABEL_CHARACTERS,
    MAX_SQUARE_CLASSES,
    MISSING,
    OTHER,
    BinnedFeature,
    Layout,
    make_labels,
    name_numbers,
)
from grpc_server.model import LoadedModel
from grpc_server.model.kinds import Boolean, IntegerCategories, TextCategories
from grpc_server.model.reference import FeatureBins


@dataclass(frozen=True, slots=True)
class Watch:
    """What is counted of the rows of a model.

    Parameters
    ----------
    model : LoadedModel
        The model.
    layout : Layout
        Its series.
    features, others : tuple of FeatureBins
        The bins of `layout.features` and `layout.others`.
    score_edges, fine_edges : tuple of float
        Edges of the bins of the score.
    """

    model: LoadedModel
    layout: Layout
    features: tuple[FeatureBins, ...]
    others: tuple[FeatureBins, ...]
    score_edges: tuple[float, ...]
    fine_edges: tuple[float, ...]


def make_watch(model: LoadedModel, n_features: int) -> Watch | None:
    """Decide what is counted of a model's rows.

    Parameters
    ----------
    model : LoadedModel
        The model.
    n_features : int
        Number of features whose bins are counted, 1 or more.

    Returns
    -------
    Watch or None
        None if the model has no reference.
    """
    reference = model.reference
    if reference is None:
        return None
    labels = make_labels(map(_name_feature, reference.features))
    described = [
        BinnedFeature(label, _name_bins(bins), bins.shares)
        for label, bins in zip(labels, reference.features, strict=True)
    ]
    classes = model.classes.labels
    own = make_labels(classes[:MAX_CLASSES], (OTHER,))
    fine_bins = name_numbers(reference.fine_edges) if len(classes) == 2 else ()
    layout = Layout(
        version=model.source.version,
        family=model.provenance.family,
        features=tuple(described[:n_features]),
        others=tuple(described[n_features:]),
        scores=BinnedFeature(
            "", name_numbers(reference.score_edges), reference.score_shares
        ),
        fine_bins=fine_bins,
        classes=(*own, OTHER) if len(classes) > MAX_CLASSES else own,
        is_square=len(classes) <= MAX_SQUARE_CLASSES,
        calibration_error=reference.calibration_error,
    )
    return Watch(
        model,
        layout,
        reference.features[:n_features],
        reference.features[n_features:],
        reference.score_edges,
        reference.fine_edges,
    )


def _name_feature(bins: FeatureBins) -> str:
    name = bins.feature.name
    if not bins.part_name:
        return name
    return f"{name[:MAX_LABEL_CHARACTERS - 16]}.{bins.part_name}"


def _name_bins(bins: FeatureBins) -> tuple[str, ...]:
    kind = bins.feature.kind
    if isinstance(kind, Boolean):
        return ("false", "true", MISSING)
    if isinstance(kind, TextCategories | IntegerCategories):
        assert bins.bin_of_category is not None
        texts = kind.labels
        own = [texts[int(code)] for code in bins.bin_of_category]
        return (*make_labels(own, (OTHER, MISSING)), OTHER, MISSING)
    return (*name_numbers(bins.edges), MISSING)
