"""What is wrong with a file; whoever reads it turns this into an error of its own."""


class TableFileError(ValueError):
    """A file is no table: what it is instead, and what to do; the file's name is not in it."""
