"""The class that matters: of two classes, the positive one has the code 1.

Precision, recall, F1, average precision, thresholds and costs are about the class of code 1, here,
in the artifact and in the server. So to name the positive class is to order the two.
"""

from dataclasses import replace

from training.data.dataset import Dataset
from training.errors import DataError
from training.text import quote_list


def put_positive_last(dataset: Dataset, positive: str) -> Dataset:
    """Give the positive class the code 1.

    Parameters
    ----------
    dataset : Dataset
        Data set whose classes are sorted.
    positive : str
        Label of the positive class as text; empty for the last of the sorted labels.

    Returns
    -------
    Dataset
        The data set, with its two classes in the other order if need be.

    Raises
    ------
    DataError
        If a label is given, but the table has no such label or more than two.
    """
    if not positive:
        return dataset
    labels = dataset.schema.class_labels
    names = [str(label) for label in labels]
    if positive not in names:
        raise DataError(
            f"--positive is {positive!r}, which is not a label; the labels are {quote_list(names)}"
        )
    if len(names) > 2:
        raise DataError(
            f"--positive is {positive!r}, but there are {len(names)} classes; it names one of two, "
            "so leave it out"
        )
    if names[1] == positive:
        return dataset
    schema = replace(dataset.schema, class_labels=labels[::-1])
    return replace(dataset, schema=schema, y=1 - dataset.y)
