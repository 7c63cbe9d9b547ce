"""The model: reads an artifact, checks it, and computes probabilities.

This package imports no scikit-learn, pandas, MLflow or LightGBM, and imports NumPy only when the
first batch arrives. So the process starts in well under a second and needs little memory.
"""

from grpc_server.model.loaded import LoadedModel
from grpc_server.model.loading import load_model
from grpc_server.model.schema import InputSchema
from grpc_server.model.slot import ModelSlot

__all__ = ["InputSchema", "LoadedModel", "ModelSlot", "load_model"]
