"""Decorates the flow when it is deployed on Argo."""

import sys
from typing import Any

from metaflow import FlowMutator
from metaflow.exception import MetaflowException

from argo_launch import LaunchError, is_deployment, list_decorators


class LaunchesItself(FlowMutator):  # type: ignore[misc]  # Metaflow has no types
    """Decorates the flow when it is deployed. Local runs and the steps in pods stay as they are."""

    def pre_mutate(self, mutable_flow: Any) -> None:
        """Add the decorators that the configuration `launch` asks for."""
        if not is_deployment(sys.argv[1:]):
            return
        launch = dict(mutable_flow.configs)["launch"]
        try:
            decorators = list_decorators(launch)
        except LaunchError as error:
            raise MetaflowException(str(error)) from None
        for name, arguments in decorators:
            mutable_flow.add_decorator(name, deco_kwargs=arguments)
