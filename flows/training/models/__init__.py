"""Families of classifiers: their grids, their searches, and the final model of the winner."""
