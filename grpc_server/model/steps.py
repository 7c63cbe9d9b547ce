"""Who wants to know what the swap of a model does, and how long each step takes."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Steps(Protocol):
    """Follows steps, which may have steps within them."""

    def step(self, name: str, **attributes: str) -> AbstractContextManager[None]:
        """Return a context in which the step is done."""
        ...

    def tell(self, **attributes: str) -> None:
        """Add facts to the outermost step."""
        ...


class NoSteps:
    """Follows nothing."""

    def step(self, name: str, **attributes: str) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return nullcontext()

    def tell(self, **attributes: str) -> None:
        """Do nothing."""
