"""Generated messages of the model artifact, package prediction.artifact.v1."""
