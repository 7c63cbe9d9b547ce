"""The asynchronous client behind the methods of the blocking one, so that one test drives both."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

from prediction import AsyncPredictionClient

_T = TypeVar("_T")


class LoopThread:
    """An event loop in a thread of its own, for coroutines of any thread.

    Attributes
    ----------
    problems : list of dict
        What the loop told its exception handler, such as a task's exception that nobody read.
    """

    def __init__(self) -> None:
        self.problems: list[dict[str, Any]] = []
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(
            lambda _, context: self.problems.append(context)
        )
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Return the result of a coroutine, which the loop runs."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def tasks(self) -> set[str]:
        """Return the tasks that are pending once what is ready has run."""

        async def list_others() -> set[str]:
            await asyncio.sleep(0.01)
            return {str(t) for t in asyncio.all_tasks() if t != asyncio.current_task()}

        return self.run(list_others())


class DrivenClient:
    """An AsyncPredictionClient with the methods of PredictionClient.

    Parameters
    ----------
    loop : LoopThread
        Runs the client's coroutines. The client is made outside of it.
    target, options
        As of the client.
    """

    def __init__(self, loop: LoopThread, target: str, **options: Any) -> None:
        self._loop = loop
        self._client = AsyncPredictionClient(target, **options)

    def __repr__(self) -> str:
        return repr(self._client).removeprefix("Async")

    def __enter__(self) -> Self:
        self._loop.run(self._client.__aenter__())
        return self

    def __exit__(self, *raised: Any) -> None:
        self._loop.run(self._client.__aexit__(*raised))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *values, **named: self._loop.run(method(*values, **named))
