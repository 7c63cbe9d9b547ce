"""PromQL with the variables of the dashboards: namespace and model."""

IN = 'namespace=~"$namespace"'


def of_model(expression: str) -> str:
    """Leave out the series of servers that answer with another model.

    A server without a model stays: it fails calls, and that should be seen.
    """
    other = 'prediction_model_info{registered_model!~"$model"} == 1'
    return f"({expression} unless on (namespace, instance) {other})"


def rate(metric: str, labels: str = "") -> str:
    """Return the rate of a counter, of the servers that the variables choose."""
    return _over_interval("rate", metric, labels)


def increase(metric: str, labels: str = "") -> str:
    """Return the increase of a counter, of the servers that the variables choose."""
    return _over_interval("increase", metric, labels)


def by(keys: str, expression: str) -> str:
    """Sum series that agree in the labels `keys`."""
    return f"sum by ({keys}) ({expression})"


def _over_interval(function: str, metric: str, labels: str) -> str:
    selector = f"{labels},{IN}" if labels else IN
    return of_model(f"{function}({metric}{{{selector}}}[$__rate_interval])")
