"""Dates and times of day in a column: read, written, and split into numbers.

Training, the server and the models in MLflow share this package, so all read the same cell as the
same number. `date_columns.forms` and `date_columns.parts` need the standard library alone.
"""
