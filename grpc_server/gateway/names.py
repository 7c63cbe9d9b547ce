"""To which site a path belongs."""

from collections.abc import Iterable


class Paths:
    """The paths of some sites.

    Parameters
    ----------
    names : iterable of str
        Each is a path, such as "/v2"; the paths below it belong to it. "/" is the one path "/".
    """

    def __init__(self, names: Iterable[str]) -> None:
        # The longest first, so that a site within a site keeps its paths.
        self._names = sorted(names, key=len, reverse=True)

    def find(self, path: str) -> str | None:
        """Return the name to which a path belongs, None if it belongs to none."""
        for name in self._names:
            if path == name or (name != "/" and path.startswith(f"{name}/")):
                return name
        return None
