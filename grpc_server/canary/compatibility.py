"""Tells whether one model may answer calls that were written for another."""

from grpc_server.model import LoadedModel
from grpc_server.model.kinds import Date, TimeOfDay, quote
from grpc_server.model.schema import Feature


def why_incompatible(canary: LoadedModel, champion: LoadedModel) -> str:
    """Return why a canary would read calls, or be read, differently; empty if it would not.

    Callers, logs and counts tell models by their version, so it has to be another. Values and
    probabilities go by position. So names, order and kinds of the features have to be
    the same, and so have the labels. Categories and missing values may differ: a call that does
    not fit the canary is the champion's.

    Parameters
    ----------
    canary, champion : LoadedModel
        The models.

    Returns
    -------
    str
        The first difference; empty without one.
    """
    version = canary.source.version
    if version == champion.source.version:
        return (
            f"it is another model with the champion's version {quote(version)}, so nobody could "
            "tell their answers apart"
        )
    ours, theirs = canary.input_schema.features, champion.input_schema.features
    if len(ours) != len(theirs):
        return f"it takes {len(ours)} features, the champion {len(theirs)}"
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        difference = _compare(one, other)
        if difference:
            return f"feature {number}: {difference}"
    if canary.classes.labels != champion.classes.labels:
        return (
            f"its classes are {_list(canary)}, in this order; the champion's are "
            f"{_list(champion)}"
        )
    return ""


def _compare(one: Feature, other: Feature) -> str:
    if one.name != other.name:
        return f"it takes {quote(one.name)}, the champion {quote(other.name)}"
    name = quote(one.name)
    if type(one.kind) is not type(other.kind):
        kinds = (type(one.kind).__name__, type(other.kind).__name__)
        return f"it takes {name} as {kinds[0]}, the champion as {kinds[1]}"
    if _form(one) != _form(other):
        return f"it reads {name} in the form {_form(one)!r}, the champion in {_form(other)!r}"
    return ""


def _form(feature: Feature) -> str:
    kind = feature.kind
    return kind.form.format if isinstance(kind, Date | TimeOfDay) else ""


def _list(model: LoadedModel) -> str:
    labels = model.classes.labels
    shown = ", ".join(quote(label) for label in labels[:8])
    return shown if len(labels) <= 8 else f"{shown} and {len(labels) - 8} more"
