"""What the rules of the config can know about a request: llm's prompt → the facts."""

from __future__ import annotations

import json
import mimetypes
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import click
from llm.parts import AttachmentPart, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from llm.utils import Fragment

from .. import instructions
from ..rules.conditions import AttachedFile, RuleFacts
from .inner import last_user_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import time

    import llm
    from llm.models import Attachment, _BaseConversation
    from llm.parts import Part

    from ..config.rules import Rule


class Circumstances(NamedTuple):
    """What a request's messages don't tell: the names in it, and the time of day.

    `fragments` are the names of this message's fragments, `all_fragments` those of the
    conversation, `templates` the names after `llm -t`.
    """

    now: time
    fragments: Sequence[str] = ()
    all_fragments: Sequence[str] = ()
    templates: Sequence[str] = ()


def facts_of(
    prompt: llm.Prompt, conversation: _BaseConversation | None, rules: Sequence[Rule]
) -> RuleFacts:
    """Return what the rules can know about a request; names and types only if a rule asks.

    No server is asked for the type of an attachment.
    """
    asked = {name for rule in rules for name in rule.on_request}
    named = "fragments" in asked
    earlier = [each.prompt for each in conversation.responses] if conversation and named else []
    circumstances = Circumstances(
        now=datetime.now().time(),
        fragments=_names([prompt]) if named else (),
        all_fragments=_names([prompt, *earlier]) if named else (),
        templates=_templates() if "template" in asked else (),
    )
    return facts_in(prompt, circumstances, rules)


def facts_in(prompt: llm.Prompt, circumstances: Circumstances, rules: Sequence[Rule]) -> RuleFacts:
    """Return what the rules can know about a request that may have been made long ago."""
    typed = any("attachments" in rule.on_request for rule in rules)
    messages = instructions.as_sent(prompt)
    parts = [part for message in messages for part in message.parts]
    attached = [file for part in parts for file in _attachments(part)]
    return RuleFacts(
        text=last_user_text(prompt),
        sent=[text for part in parts for text in _texts(part) if text],
        system=instructions.in_force(messages),
        attached=[*map(_file, prompt.attachments)] if typed else (),
        all_attached=[*map(_file, attached)] if typed else (),
        tools=[tool.name for tool in prompt.tools],
        schema=bool(prompt.schema),
        **circumstances._asdict(),
    )


def _texts(part: Part) -> Iterator[str]:
    """The texts of a part of a message that a model is sent."""
    if isinstance(part, (TextPart, ReasoningPart)):
        yield part.text
    elif isinstance(part, ToolResultPart):
        yield part.output
        yield part.exception or ""
    elif isinstance(part, ToolCallPart):
        yield json.dumps(part.arguments, ensure_ascii=False, default=str)


def _attachments(part: Part) -> Sequence[Attachment]:
    if isinstance(part, AttachmentPart) and part.attachment:
        return [part.attachment]
    return part.attachments if isinstance(part, ToolResultPart) else []


def _file(attachment: Attachment) -> AttachedFile:
    """The attachment's media type; that of a URL is a guess, unless the user gives it."""
    if attachment.type:
        return AttachedFile(attachment.type)
    if attachment.url and not attachment.path:
        return AttachedFile(mimetypes.guess_type(attachment.url)[0] or "", certain=False)
    try:
        kind = attachment.resolve_type()
    except Exception:  # a missing file, or what a library says of a damaged one
        kind = None
    return AttachedFile(kind or "", certain=kind is not None)


def _names(prompts: Iterable[llm.Prompt]) -> list[str]:
    """The sources of fragments (paths, URLs and the like), and the aliases that the user gave."""
    from ..log.fragments import aliases

    known = {
        each.id(): each.source
        for prompt in prompts
        for each in (*(prompt.fragments or ()), *(prompt.system_fragments or ()))
        if isinstance(each, Fragment)
    }
    return [*filter(None, known.values()), *aliases(known)] if known else []


def _templates() -> tuple[str, ...]:
    """The names after `llm -t`; llm tells a model nothing about them."""
    context = click.get_current_context(silent=True)
    names = context.params.get("template") if context else None
    return (names,) if isinstance(names, str) else tuple(names or ())
