"""Who is waiting for a response: whether that is somebody who logs it.

Neither llm's commands nor `log_to_db` leave a sign other than being on the stack.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from llm.models import _BaseResponse


class LlmCommand(NamedTuple):
    """The `llm prompt` or `llm chat` that is running in this process.

    It logs the responses of `model` in `conversation`, unless `no_log` is set, and with `log` even
    while logging is off. `database` replaces the usual log.
    """

    conversation: Any
    model: Any
    database: str | None
    no_log: bool
    log: bool

    def logs(self, response: _BaseResponse) -> bool:
        """Whether the command asked for this response itself, so that it also logs it."""
        own = response.model is self.model and response.conversation is self.conversation
        return own and self.conversation is not None


def llm_command() -> LlmCommand | None:
    """Return the command of llm that is running, also for the threads of its tools, or None."""
    llm_cli: Any = sys.modules.get("llm.cli")
    if llm_cli is None:
        return None
    # Their hashes would be worked out from all that is in the code.
    prompt, chat = (command.callback.__code__ for command in (llm_cli.prompt, llm_cli.chat))
    for thread in dict.fromkeys((threading.current_thread(), threading.main_thread())):
        for frame in _stack(thread):
            if frame.f_code is prompt or frame.f_code is chat:
                said = frame.f_locals
                return LlmCommand(
                    said.get("conversation"),
                    said.get("model"),
                    said.get("database"),
                    bool(said.get("no_log")),
                    bool(said.get("log")),
                )
    return None


def being_logged(thread: threading.Thread | None = None) -> list[Any]:
    """Return the responses that a thread, this one by default, is in the middle of logging.

    It has an open transaction then. A response that has not been read is run by `log_to_db`, which
    asks for its duration.
    """
    from llm.logs import LogStore

    return [
        frame.f_locals.get("response")
        for frame in _stack(thread or threading.current_thread())
        if frame.f_code is LogStore.log.__code__
    ]


def _stack(thread: threading.Thread) -> Iterator[FrameType]:
    # The frames of all threads take longer than one's own, and a batch asks with each row.
    is_own = thread.ident == threading.get_ident()
    frame = sys._getframe() if is_own else sys._current_frames().get(thread.ident or 0)
    while frame:
        yield frame
        frame = frame.f_back
