"""The way from one event loop to the server: what is asked at the same time shares a round trip."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import NoScriptError

from ak_guard.budgets.redis_client import connect
from ak_guard.budgets.redis_script import TEXTS, Script
from ak_guard.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from ak_guard.budgets.redis_address import Address
    from ak_guard.budgets.redis_client import Client, Command

_CLOSED: Final = "the connection to Redis was closed"


class Line:
    """Send commands in the order they come, many in one round trip, each of them once. Belongs to one event loop."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._waiting: list[tuple[Command, asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None
        self._open: AsyncGenerator[Client] | None = None
        self._client: Client | None = None
        #: What the store's clock is ahead of the caller's, in seconds, as the last answer showed.
        self.ahead: float = 0.0
        #: Brings what is owed to other subjects.
        self.settling: asyncio.Task[None] | None = None

    def send(self, *command: str | int) -> asyncio.Future[Any]:
        """The answer to come; `BudgetError` where there is none, and then the command may have been done or not."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, done))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return done

    def run_script(self, script: Script, keys: Sequence[str], *arguments: str | int) -> asyncio.Future[Any]:
        """The script's answer to come, like `send`."""
        return self.send("EVALSHA", script.name, len(keys), *keys, *arguments)

    async def client(self) -> Client:
        """The client, opened now if it is not."""
        if self._client is None:
            # An open generator is closed by its event loop, when that ends or when nobody holds it any more: the only
            # place where connections can be closed at all.
            self._open = _opened(self._address)
            self._client = await anext(self._open)
        return self._client

    async def aclose(self) -> None:
        """Wait for what is under way and close the connections. The next command opens them again."""
        for task in (self.settling, self._task):
            if task is not None:
                await asyncio.wait([task])
        opened, self._open, self._client = self._open, None, None
        if opened is not None:
            await opened.aclose()

    async def _run(self) -> None:
        failure: BaseException | None = None
        batch: list[tuple[Command, asyncio.Future[Any]]] = []
        try:
            client = await self.client()
            while self._waiting:
                batch, self._waiting = self._waiting[: client.together], self._waiting[client.together :]
                answers = await _exchange(client, [command for command, _ in batch])
                for (_, done), answer in zip(batch, answers, strict=True):
                    _tell(done, answer)
        except BaseException as error:
            failure = error
            if not isinstance(error, Exception):
                raise
        finally:
            self._task = None
            if failure is not None:
                # Everybody who waits is told now: what failed for one will not succeed for the next.
                failed, self._waiting = [*batch, *self._waiting], []
                for _, done in failed:
                    _tell(done, failure)


async def _opened(address: Address) -> AsyncGenerator[Client]:
    client = connect(address)
    try:
        yield client
    finally:
        await client.aclose()


async def _exchange(client: Client, commands: list[Command]) -> list[Any]:
    answers = await client.exchange(commands)
    # A server that was restarted knows no script. It has done nothing, so these may be sent again, with the text.
    unknown = [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:
        again = await client.exchange([("EVAL", TEXTS[str(commands[at][1])], *commands[at][2:]) for at in unknown])
        for at, answer in zip(unknown, again, strict=True):
            answers[at] = answer
    return answers


def _tell(done: asyncio.Future[Any], answer: Any) -> None:
    if done.done():
        return
    if isinstance(answer, Exception):
        # The driver's text may hold addresses and parameters; only its kind is told.
        failure = BudgetError(f"the store of budgets failed ({type(answer).__name__})")
        failure.__cause__ = answer
        done.set_exception(failure)
    elif isinstance(answer, BaseException):
        done.set_exception(BudgetError(_CLOSED))
    else:
        done.set_result(answer)
