"""Finds kubectl and the cluster of its current context, and runs commands there.

Knows no manifests. Runs on a bare Python.
"""

import shutil
from dataclasses import dataclass

from images import ROOT, CommandError, output


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster of one kubectl context, which stays the same while the program runs.

    Attributes
    ----------
    kubectl : str
        Path of kubectl.
    context : str
        Name of the context.
    server : str
        URL of the cluster, or "unknown".
    """

    kubectl: str
    context: str
    server: str

    def command(self, *arguments: str) -> list[str]:
        """Return a kubectl command for this cluster."""
        return [self.kubectl, "--context", self.context, *arguments]

    def output(self, *arguments: str) -> str | None:
        """Return the output of kubectl, or None if it fails."""
        return output(*self.command(*arguments))


def find_kubectl() -> str:
    """Return the user's kubectl, or the one in the environment if the user has none.

    Raises
    ------
    CommandError
        If neither exists.
    """
    own = ROOT / ".venv" / "bin" / "kubectl"
    kubectl = shutil.which("kubectl") or (str(own) if own.exists() else None)
    if kubectl is None:
        raise CommandError("kubectl is missing; install it, or run make install")
    return kubectl


def find_cluster() -> Cluster:
    """Return the cluster of the current context.

    Raises
    ------
    CommandError
        If there is no kubectl or no context, or the cluster does not answer.
    """
    kubectl = find_kubectl()
    context = output(kubectl, "config", "current-context")
    if not context:
        raise CommandError(
            "kubectl has no current context; set one with kubectl config use-context"
        )
    view = (
        "config",
        "view",
        "--minify",
        "--output=jsonpath={.clusters[0].cluster.server}",
    )
    cluster = Cluster(
        kubectl, context, output(kubectl, "--context", context, *view) or "unknown"
    )
    if cluster.output("get", "--raw=/version", "--request-timeout=10s") is None:
        raise CommandError(
            f"the cluster of context {context!r} ({cluster.server}) does not answer; start it, or "
            "choose another with kubectl config use-context"
        )
    return cluster
