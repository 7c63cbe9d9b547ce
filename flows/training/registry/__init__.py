"""MLflow: logs runs, registers models, and decides on the champion."""
