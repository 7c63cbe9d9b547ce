"""Words for missing values in files of text."""

# What R, SQL and pandas write. A word such as "None" is a category of its own in many tables.
GAP_WORDS = (
    *("NA", "N/A", "n/a", "#N/A", "#NA", "<NA>"),
    *("NaN", "nan", "-NaN", "-nan", "NaT", "NULL", "null"),
)
