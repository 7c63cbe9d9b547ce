"""MLflow: what is logged of a run, and which version of a model is champion."""
