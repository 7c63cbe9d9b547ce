"""Decides whether a model has to be trained again, by what its servers export."""
