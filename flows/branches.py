"""Names the registered model of a run: a run of a branch never touches the model that serves.

Metaflow's `@project` gives each run a branch. Where a branch leads is decided here:

    run, without a flag                     NAME              the local default
    --production                            NAME
    --branch x                              NAME-test.x
    --production --branch x                 NAME-prod.x
    deployed on Argo without --production   NAME-user.alice
"""

import re
from collections.abc import Mapping

PROJECT = "prediction"
PRODUCTION = "prod"
# Metaflow sets it in the pods of Argo; a user's own deployment there is a trial.
DEPLOYED = "ARGO_WORKFLOW_TEMPLATE"
NOT_IN_BRANCHES = re.compile(r"[^\w.-]", re.ASCII)


def name_for_branch(model_name: str, branch: str, *, is_trial: bool) -> str:
    """Return the registered model of a run.

    Parameters
    ----------
    model_name : str
        What --model_name says.
    branch : str
        Metaflow's name of the branch, such as "prod", "test.x" or "user.alice".
    is_trial : bool
        Whether somebody asked for a branch, or deployed without --production.

    Returns
    -------
    str
        The name alone for production and for a plain local run; else the name, a dash, and the
        branch. A character of a user's name that MLflow's URIs cannot say becomes "_".
    """
    if branch == PRODUCTION or not is_trial:
        return model_name
    return f"{model_name}-{NOT_IN_BRANCHES.sub('_', branch)}"


def name_model(model_name: str, environ: Mapping[str, str]) -> str:
    """Return the registered model of the run whose step is running in an environment."""
    from metaflow import current

    is_trial = not current.is_user_branch or DEPLOYED in environ
    return name_for_branch(model_name, current.branch_name, is_trial=is_trial)


def find_reason(reason: str) -> str:
    """Return why the run was started: --reason, or else the name of the event that started it."""
    from metaflow import current

    trigger = getattr(current, "trigger", None)
    if reason or trigger is None:
        return reason
    return f"the event {trigger.event.name}"
