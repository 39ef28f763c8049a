"""``AIChatAgent``: hooks to override, and delegation to the parts of a chat."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from typing_extensions import TypeVar

from agents import work_clock
from agents.agent import Agent
from agents.chat import protocol
from agents.chat.ai_sdk_v4 import DIALECTS, Dialect
from agents.chat.delivery import Delivery
from agents.chat.events import Events
from agents.chat.recovery import Recovery
from agents.chat.remembered import Remembered
from agents.chat.requests import Requests
from agents.chat.resume import Resume
from agents.chat.tools import Tools
from agents.chat.transcript import Transcript
from agents.chat.transcript_rules import Message, approve_tool, trailing_users
from agents.chat.turn_options import ChatOptions, ChatResponse, SavedTurn
from agents.chat.turn_order import Concurrency, Turn, concurrency_of
from agents.chat.turn_store import TurnStore
from agents.chat.turns import Turns, current_turn
from agents.jobs import new_id
from agents.work_clock import not_before
from durable import Request, Response

if TYPE_CHECKING:
    from agents.connection import Connection
    from durable import DurableObjectState, WebSocket

Env = TypeVar("Env", default=Any)
State = TypeVar("State", default=Any)
Messages = Sequence[Message]

GET_MESSAGES = "get-messages"
# So often it is looked after a turn that runs. A drain that cuts one off tells nobody;
# so much later the next owner does.
LOOK_SECONDS = 5.0
# What ``chat_recovery = True`` stands for.
RECOVERIES = 5


class AIChatAgent(Agent[Env, State], Generic[Env, State]):
    """An agent behind the stock ``useAgentChat``: override ``on_chat_message``.

    A turn goes on when its author leaves; its stream is resumed in any tab, on any
    node. One turn runs at a time.
    """

    # What a message does that comes while a turn runs: queue, latest, merge, drop,
    # reject, interrupt, rollback, debounce, or ("debounce", seconds).
    message_concurrency: ClassVar[Any] = "queue"
    # The oldest messages beyond so many are deleted; None: none is.
    max_persisted_messages: ClassVar[int | None] = None
    # ``messages`` has so many, the newest.
    messages_in_memory: ClassVar[int] = 200
    # Whether a turn that was cut off with its owner is run again, and how often at
    # most (True: 5 times). Otherwise what it said is kept, and it has been aborted.
    chat_recovery: ClassVar[bool | int] = False

    # The major version of the AI SDK that its pages have: 4 for those of June 2025
    # (``agents/ai-react``), 5 for all since.
    ai_sdk: ClassVar[int] = 5

    chat_concurrency: ClassVar[Concurrency] = Concurrency()
    chat_dialect: ClassVar[Dialect] = DIALECTS[5]
    chat_recovery_budget: ClassVar[int] = 0

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.chat_concurrency = concurrency_of(cls.message_concurrency)
        if cls.ai_sdk not in DIALECTS:
            raise ValueError(f"ai_sdk is 4 or 5, not {cls.ai_sdk!r}")
        cls.chat_dialect = DIALECTS[cls.ai_sdk]
        again = cls.chat_recovery
        cls.chat_recovery_budget = RECOVERIES if again is True else int(again)

    def __init__(self, ctx: DurableObjectState, env: Env) -> None:
        super().__init__(ctx, env)
        storage = ctx.storage
        self._delivery = Delivery(self)
        sent = self.chat_dialect.message
        self._transcript = Transcript(storage, self.messages_in_memory, sent)
        self._turn_store = TurnStore(storage)
        self._remembered = Remembered(storage)
        kept = (self._transcript, self._turn_store, self._delivery, self._remembered)
        self._turns = Turns(self, *kept)
        self._recovery = Recovery(self, *kept)
        self._tools = Tools(
            self, self._transcript, self._turns, self._delivery, self._remembered
        )
        self._requests = Requests(
            self,
            self._transcript,
            self._turn_store,
            self._turns,
            self._tools,
            self._delivery,
        )
        self._resume = Resume(
            storage,
            self._transcript,
            self._turn_store,
            self._turns,
            self._delivery,
            self._tools,
        )
        self._events = Events(storage, self._turn_store, self._turns)
        self.frame_types = {
            protocol.REQUEST: self._requests.asked,
            protocol.CANCEL: self._requests.cancelled,
            protocol.CLEAR: self._requests.cleared,
            protocol.MESSAGES: self._requests.sent,
            protocol.RESUME_REQUEST: self._resume.requested,
            protocol.RESUME_ACK: self._resume.acknowledged,
            protocol.TOOL_RESULT: self._tools.answered,
            protocol.TOOL_APPROVAL: self._tools.approved,
        }
        self._work.join(self._next_look)
        if type(self).on_start is Agent.on_start:
            # Else _start is under way, and does this first.
            ctx.block_concurrency_while(self._start)

    # --- hooks

    # With ``options``, with ``on_finish`` and ``options``, or without, as the class
    # likes: a checker accepts all.
    on_chat_message: Callable[..., Any]

    def on_chat_message(self, options: ChatOptions) -> Any:  # type: ignore[no-redef]
        """Answer ``self.messages``; what it returns, or yields, is the answer.

        Text, chunks of a UI message stream (see ``agents.chat.ui_stream``), an async
        iterator of both, or a Response. None: nothing is said.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no on_chat_message to answer with"
        )

    def on_chat_response(self, response: ChatResponse) -> Any:
        """A turn has ended, and its answer is stored."""

    # --- for the agent's own code

    @property
    def messages(self) -> list[Message]:
        """The newest messages, the oldest first: up to ``messages_in_memory``."""
        return self._transcript.messages

    async def list_messages(self) -> list[Message]:
        """All messages, the oldest first."""
        return list(await self._transcript.read_all())

    async def persist_messages(self, messages: Messages) -> None:
        """Store messages by their ids, and tell all clients; nothing is deleted.

        Raises:
            ValueRefused: one isn't JSON.
        """
        await self._requests.persist(messages)

    async def save_messages(
        self, messages: Messages | Callable[[list[Message]], Any]
    ) -> SavedTurn:
        """Store messages, and answer them in a turn; returns when that has ended.

        ``messages`` may be a function of the present ones.

        Raises:
            RuntimeError: inside of ``on_chat_message``, whose end this would wait for.
        """
        _refuse_inside("save_messages")
        given: Any = messages
        if callable(messages):
            given = await self.run_hook(messages, list(self.messages))
        await self.persist_messages(given)
        return await self._own_turn(Turn(new_id(), message_ids=trailing_users(given)))

    async def continue_last_turn(self, body: dict[str, Any] | None = None) -> SavedTurn:
        """Let the last answer go on in another turn; returns when that has ended.

        Raises:
            RuntimeError: inside of ``on_chat_message``, whose end this would wait for.
        """
        _refuse_inside("continue_last_turn")
        if self._transcript.last_answer() is None:
            return SavedTurn("", "skipped")
        return await self._own_turn(Turn(new_id(), continuation=True, body=body))

    def abort_request(self, request_id: str, reason: str | None = None) -> bool:
        """Stop a turn, keep what it said; False if it neither runs nor waits."""
        turn = self._turns.order.find(request_id)
        if turn is not None:
            self._turns.abort(turn, reason)
        return turn is not None

    def abort_all_requests(self, reason: str | None = None) -> None:
        """Stop the turn that runs, and those that wait."""
        for turn in reversed([*self._turns.order]):
            self._turns.abort(turn, reason)

    async def clear_messages(self) -> None:
        """Stop all turns, and forget everything that was said."""
        await self._requests.cleared(None)

    async def approve_tool_call(self, call_id: str, approved: bool) -> bool:
        """Answer a tool call that waits for approval, and let the answer go on.

        False if it doesn't wait (any more). For approvals that come by other ways than
        the chat.
        """
        if not await self._tools.change(call_id, lambda p: approve_tool(p, approved)):
            return False
        await self._tools.owe()
        return True

    def chat_events(self, request: Request) -> Response:
        """Answer with the stream that runs, as Server-Sent Events; 204 if none does.

        With ``Last-Event-ID`` the stream of that event goes on after it, also if it
        has ended.
        """
        return self._events.answer(request)

    async def destroy(self) -> None:
        """Stop all turns, delete all that is stored, close every socket."""
        self._tools.forget()
        self._turns.forget()
        await super().destroy()

    # --- events, from the agent's floor

    async def fetch(self, request: Request) -> Response:
        """Deliver a request; ``…/get-messages`` is answered with the history."""
        if request.socket_port is None and request.path.endswith(f"/{GET_MESSAGES}"):
            return Response(
                self._history(), headers={"Content-Type": "application/json"}
            )
        return await super().fetch(request)

    def before_greeting(self, connection: Connection) -> None:
        """A client has connected: it hears of a stream before all else."""
        self._resume.connected(connection)

    def websocket_restored(self, websocket: WebSocket) -> Any:
        """Say the state, the history and the end of the last turn again."""
        super().websocket_restored(websocket)
        connection = self._connections.of(websocket)
        if connection in self._recovery.told:
            # It was connected when that was found out.
            self._recovery.told.discard(connection)
            return None
        return self._resume.restored(connection)

    # --- for the parts of the chat

    def call_chat_handler(self, options: ChatOptions) -> Any:
        """Call ``on_chat_message`` with what it takes."""
        names = list(inspect.signature(self.on_chat_message).parameters)
        if not names:
            return self.on_chat_message()
        if len(names) > 1:
            return self.on_chat_message(_on_finish, options)
        if names[0] == "on_finish":
            return self.on_chat_message(_on_finish)
        return self.on_chat_message(options)

    async def chat_goes_on(self) -> None:
        """There is something to do: if this owner is lost, the next one is woken."""
        await self._work.wake_by(not_before(work_clock.now() + LOOK_SECONDS))

    # --- inside

    async def _start(self) -> None:
        await self._transcript.load()
        await self._turn_store.load()
        await self._remembered.load()
        await self._recovery.settle()
        if type(self).on_start is not Agent.on_start:
            await super()._start()
        await self._recovery.run_again(self._turns)
        self._tools.look()

    async def _own_turn(self, turn: Turn) -> SavedTurn:
        order = self._turns.order
        if not order.admit(turn, self.chat_concurrency, 0).accepted:
            return SavedTurn(turn.id, "skipped")
        await self._turns.accept(turn)
        return SavedTurn(turn.id, await self._turns.until_ended(turn))

    async def _next_look(self) -> int | None:
        if not len(self._turns.order):
            return None
        return not_before(work_clock.now() + LOOK_SECONDS)

    async def _history(self) -> AsyncIterator[bytes]:
        opening = b"["
        async for page in self._transcript.raw_pages():
            if page:
                yield opening + b",".join(page)
                opening = b","
        yield b"[]" if opening == b"[" else b"]"


def _refuse_inside(what: str) -> None:
    if current_turn.get() is not None:
        raise RuntimeError(
            f"{what}() inside of on_chat_message would wait for its own end: use "
            "on_chat_response, a schedule or the queue"
        )


def _on_finish(*_: Any) -> None:
    """Cloudflare's callback: the answer is stored without it."""
