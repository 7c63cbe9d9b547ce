"""The loaded model: read from its artifact, checked, and asked for probabilities.

Uses no scikit-learn, pandas, MLflow or LightGBM package, and NumPy from the first batch on: the
process is up in well under a second and holds little memory.
"""

from grpc_server.model.loaded import LoadedModel
from grpc_server.model.loading import load_model
from grpc_server.model.schema import InputSchema
from grpc_server.model.slot import ModelSlot

__all__ = ["InputSchema", "LoadedModel", "ModelSlot", "load_model"]
