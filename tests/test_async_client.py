"""What only the asynchronous client has: tasks, event loops and their ends."""

import asyncio
import inspect
import re
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pandas as pd
import pytest

import prediction
from prediction import (
    AsyncPredictionClient,
    DeadlineExceededError,
    Prediction,
    PredictionClient,
    PredictionError,
)
from prediction._async_transport import AsyncPending, AsyncTransport
from prediction.v1 import prediction_service_pb2 as pb
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from scripted_server import PREDICTION, ScriptedServicer, scripted_server, unused_target

_T = TypeVar("_T")
CLIENT_ROOT = Path(prediction.__file__).parent.parent
METHODS = [
    "close",
    "get_model",
    "health",
    "is_ready",
    "predict",
    "predict_frame",
    "wait_until_ready",
]


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Return the result of a coroutine, whose loop may say nothing and leave no task behind."""
    problems: list[dict[str, Any]] = []

    async def watched() -> tuple[_T, set[str]]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: problems.append(context))
        result = await coroutine
        await asyncio.sleep(0.01)
        return result, {str(t) for t in asyncio.all_tasks() - {asyncio.current_task()}}

    result, pending = asyncio.run(watched())
    assert (pending, problems) == (set(), [])
    return result


class Held:
    """An answer that comes once the test lets it, or once the call is cancelled."""

    def __init__(self) -> None:
        self.came = threading.Semaphore(0)
        self.cancelled = threading.Semaphore(0)

    def __call__(self, request: Any, context: grpc.ServicerContext) -> Any:
        ended = threading.Event()

        def end() -> None:
            self.cancelled.release()
            ended.set()

        if context.add_callback(end):
            self.came.release()
            ended.wait(10)
        return PREDICTION


def take(semaphore: threading.Semaphore, count: int) -> Coroutine[Any, Any, None]:
    """Wait until a semaphore was released so many times, without blocking the loop."""

    def wait() -> None:
        for _ in range(count):
            assert semaphore.acquire(timeout=10)

    return asyncio.to_thread(wait)


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def held_target(held: Held) -> Iterator[str]:
    with scripted_server(ScriptedServicer(held)) as target:
        yield target


@pytest.fixture
def target() -> Iterator[str]:
    with scripted_server(ScriptedServicer()) as target:
        yield target


def test_both_clients_have_the_same_methods() -> None:
    for cls in (PredictionClient, AsyncPredictionClient):
        public = {name for name in vars(cls) if not name.startswith("_")}
        assert public == set(METHODS)


@pytest.mark.parametrize("name", ["__init__", *METHODS])
def test_both_clients_have_the_same_signatures(name: str) -> None:
    blocking, awaited = (
        getattr(cls, name) for cls in (PredictionClient, AsyncPredictionClient)
    )

    assert inspect.signature(blocking) == inspect.signature(awaited)
    assert inspect.iscoroutinefunction(awaited) is (name != "__init__")
    assert name == "__init__" or awaited.__doc__


def test_many_calls_are_in_flight_on_one_loop() -> None:
    def echo(request: pb.PredictRequest, context: object) -> Any:
        return pb.PredictResponse(probabilities=request.features)

    async def predict_all(target: str) -> list[Prediction]:
        async with AsyncPredictionClient(target, timeout_seconds=60) as client:
            return await asyncio.gather(*(client.predict([i]) for i in range(500)))

    with scripted_server(ScriptedServicer(echo)) as target:
        answers = run(predict_all(target))

    assert [answer.probabilities for answer in answers] == [(i,) for i in range(500)]


def test_a_cancelled_task_cancels_its_call(held: Held, held_target: str) -> None:
    async def cancel() -> None:
        async with AsyncPredictionClient(held_target) as client:
            task = asyncio.create_task(client.predict([1.0]))
            await take(held.came, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await take(held.cancelled, 1)

    run(cancel())


def test_a_timeout_of_asyncio_stays_one(held: Held, held_target: str) -> None:
    async def give_up() -> None:
        async def end_once_it_has_come(limit: asyncio.Timeout) -> None:
            await take(held.came, 1)
            limit.reschedule(asyncio.get_running_loop().time())

        async with AsyncPredictionClient(held_target) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(None) as limit:
                    ending = asyncio.create_task(end_once_it_has_come(limit))
                    await client.predict([1.0])
            await ending
            await take(held.cancelled, 1)

    run(give_up())


def test_a_cancelled_call_keeps_the_message_of_the_cancel(
    held: Held, held_target: str
) -> None:
    """Scopes of anyio, on which web frameworks rest, know their cancels by it."""

    async def cancel() -> None:
        async with AsyncPredictionClient(held_target) as client:
            task = asyncio.create_task(client.predict([1.0]))
            await take(held.came, 1)
            task.cancel("of the scope")
            with pytest.raises(asyncio.CancelledError, match="of the scope"):
                await task
            await take(held.cancelled, 1)

    run(cancel())


def test_a_task_cancelled_before_it_begins_sends_nothing() -> None:
    servicer = ScriptedServicer()

    async def cancel(target: str) -> None:
        async with AsyncPredictionClient(target) as client:
            task = asyncio.create_task(client.predict([1.0]))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with scripted_server(servicer) as target:
        run(cancel(target))

    assert servicer.requests == []


def test_a_group_that_fails_cancels_its_other_calls(
    held: Held, held_target: str
) -> None:
    async def fail(client: AsyncPredictionClient) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(client.predict([1.0]))
            await take(held.came, 3)
            raise LookupError("of the caller")

    async def group_fails() -> None:
        async with AsyncPredictionClient(held_target) as client:
            with pytest.raises(ExceptionGroup) as caught:
                await fail(client)
            assert [type(e) for e in caught.value.exceptions] == [LookupError]
            await take(held.cancelled, 3)

    run(group_fails())


def test_calls_in_flight_fail_when_the_client_is_closed(
    held: Held, held_target: str
) -> None:
    async def close() -> list[Any]:
        client = AsyncPredictionClient(held_target)
        tasks = [asyncio.create_task(client.predict([1.0])) for _ in range(3)]
        await take(held.came, 3)
        await client.close()
        return await asyncio.gather(*tasks, return_exceptions=True)

    errors = run(close())

    assert [type(error) for error in errors] == [PredictionError] * 3
    assert {error.code for error in errors} == {grpc.StatusCode.CANCELLED}
    assert "was closed while the call was in flight" in errors[0].message


def test_a_task_cancelled_while_the_client_closes_is_cancelled(
    held: Held, held_target: str
) -> None:
    async def close() -> None:
        client = AsyncPredictionClient(held_target)
        task = asyncio.create_task(client.predict([1.0]))
        await take(held.came, 1)
        task.cancel()
        await client.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(close())


def test_a_client_is_closed_twice_or_without_a_call(target: str) -> None:
    async def close() -> None:
        client = AsyncPredictionClient(target)
        await client.close()
        await client.close()
        with pytest.raises(
            RuntimeError, match=r"AsyncPredictionClient\('.*'\) is closed"
        ):
            await client.predict([1.0])

    run(close())


def test_a_client_belongs_to_the_loop_of_its_first_call(target: str) -> None:
    client = AsyncPredictionClient(target)
    run(client.predict([1.0]))

    with pytest.raises(RuntimeError, match="make a client for each loop"):
        run(client.predict([1.0]))

    run(client.close())


def test_a_client_is_not_closed_by_another_loop_that_runs(target: str) -> None:
    async def close_elsewhere() -> None:
        async with AsyncPredictionClient(target) as client:
            await client.predict([1.0])
            with pytest.raises(RuntimeError, match="belongs to the event loop"):
                await asyncio.to_thread(asyncio.run, client.close())
            await client.predict([1.0])

    run(close_elsewhere())


def test_loops_in_threads_do_not_disturb_each_other(target: str) -> None:
    async def predict_some() -> int:
        async with AsyncPredictionClient(target, timeout_seconds=60) as client:
            for _ in range(5):
                await asyncio.gather(*(client.predict([1.0]) for _ in range(20)))
        return 100

    with ThreadPoolExecutor(3) as pool:
        counts = list(pool.map(lambda _: run(predict_some()), range(3)))

    assert counts == [100] * 3


def test_a_server_that_restarts_is_found_again(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/prediction.sock"

    async def predict_twice() -> None:
        async with AsyncPredictionClient(address, timeout_seconds=30) as client:
            for _ in range(2):
                with scripted_server(ScriptedServicer(), address=address):
                    while True:
                        try:
                            answer = await client.predict([1.0])
                        except prediction.UnavailableError:
                            continue
                        break
                    assert answer.label == "1"

    run(predict_twice())


def frame_answer(request: Any, context: Any) -> Any:
    """Answer as a model of one feature and one class."""
    if isinstance(request, pb.GetModelRequest):
        feature = pb.Feature(name="a", kind=pb.FEATURE_KIND_NUMERIC)
        return pb.GetModelResponse(features=[feature], classes=["x"], model_version="1")
    n_rows = len(request.columns[0].doubles.values)
    return pb.BatchPredictResponse(
        positions=[0] * n_rows, probabilities=[1.0] * n_rows, model_version="1"
    )


def test_a_cancelled_frame_cancels_its_chunks(held: Held) -> None:
    def answer(request: Any, context: Any) -> Any:
        if isinstance(request, pb.GetModelRequest):
            return frame_answer(request, context)
        return held(request, context)

    servicer = ScriptedServicer(answer)

    async def cancel(target: str) -> None:
        async with AsyncPredictionClient(target) as client:
            frame = pd.DataFrame({"a": [1.0] * 10})
            task = asyncio.create_task(
                client.predict_frame(frame, rows_per_call=1, calls_at_once=3)
            )
            await take(held.came, 3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await take(held.cancelled, 3)

    with scripted_server(servicer) as target:
        run(cancel(target))

    # The model, and no more chunks than may be in flight.
    assert len(servicer.requests) == 4


def test_a_frame_leaves_the_loop_to_other_tasks() -> None:
    threads = set()

    class Cells(pd.DataFrame):
        """A frame that knows who reads it."""

        @property
        def iloc(self) -> Any:
            threads.add(threading.get_ident())
            return super().iloc

    async def predict(target: str) -> int:
        async with AsyncPredictionClient(target) as client:
            await client.predict_frame(Cells({"a": [1.0, 2.0]}))
        return threading.get_ident()

    with scripted_server(ScriptedServicer(frame_answer)) as target:
        loop_thread = run(predict(target))

    assert threads
    assert loop_thread not in threads


def test_frames_share_a_client() -> None:
    async def predict(target: str) -> list[pd.DataFrame]:
        async with AsyncPredictionClient(target, timeout_seconds=60) as client:
            frames = [pd.DataFrame({"a": [1.0] * n}) for n in range(20)]
            return await asyncio.gather(
                *(client.predict_frame(frame, rows_per_call=3) for frame in frames)
            )

    with scripted_server(ScriptedServicer(frame_answer)) as target:
        answers = run(predict(target))

    assert [len(answer) for answer in answers] == list(range(20))


@pytest.mark.parametrize("is_open", [False, True], ids=["unused", "open"])
def test_a_client_that_is_left_open_says_nothing(target: str, is_open: bool) -> None:
    program = (
        f"import asyncio, sys; sys.path.insert(0, {str(CLIENT_ROOT)!r})\n"
        "from prediction import AsyncPredictionClient\n"
        "async def main():\n"
        f"    client = AsyncPredictionClient({target!r})\n"
        f"    if {is_open}: print((await client.predict([1.0])).label)\n"
        "    task = asyncio.create_task(client.predict([1.0]))\n"
        "    await asyncio.sleep(0)\n"
        "asyncio.run(main())\n"
    )

    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stdout) == (0, "1\n" * is_open)
    assert "Error" not in done.stderr
    assert "Task" not in done.stderr


FORKED = """
import asyncio, os, sys
sys.path.insert(0, {path!r})
from prediction import AsyncPredictionClient
client = AsyncPredictionClient({target!r})
asyncio.run(client.predict([1.0]))
pid = os.fork()
if not pid:
    try:
        asyncio.run(client.predict([1.0]))
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""


def test_a_client_used_before_a_fork_says_so(target: str) -> None:
    program = FORKED.format(path=str(CLIENT_ROOT), target=target)

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )

    assert "was used before a fork; make a client after it" in done.stdout


def test_a_call_that_grpc_does_not_end_is_ended_by_the_loop(held_target: str) -> None:
    async def predict() -> None:
        async with grpc.aio.insecure_channel(held_target) as channel:
            call = PredictionServiceStub(channel).Predict(pb.PredictRequest())
            transport = AsyncTransport("the client", held_target, None, 1, ())
            # With the spare second: a limit of 50 ms, which gRPC does not know.
            pending = AsyncPending(transport, call, -0.95)
            with pytest.raises(DeadlineExceededError, match="did not end the call"):
                await pending.result()

    run(predict())


def test_a_deadline_is_grpcs_own(held_target: str) -> None:
    async def predict() -> PredictionError:
        async with AsyncPredictionClient(held_target) as client:
            with pytest.raises(DeadlineExceededError) as caught:
                await client.predict([1.0], timeout_seconds=0.05)
            return caught.value

    assert isinstance(run(predict()).__cause__, grpc.RpcError)


def test_a_wait_for_a_server_can_be_cancelled() -> None:
    async def give_up(target: str) -> None:
        async with AsyncPredictionClient(target) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.wait_until_ready(60), 0.2)

    with unused_target() as target:
        run(give_up(target))


def test_the_example_of_its_page_works(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (CLIENT_ROOT / "README.md").read_text()
    (code,) = re.findall(r"## asyncio\n+```python\n(.*?)```", page, re.DOTALL)

    exec(code.replace("localhost:50051", target), {})

    assert capsys.readouterr().out.count("label='1'") == 2
