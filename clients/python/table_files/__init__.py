"""Files of tables: how they are packed, in which encoding their text is, and where its cells are.

Training and the offline scorer share this package, so both find the same cells in the same file. It
needs the standard library alone.
"""
