"""Why a model can't answer a prompt, as far as that is known before it is tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

import llm
from llm.parts import AttachmentPart

from ..config.addresses import runs_in_ollamas_cloud
from ..endpoints.models import AsyncServerModel, ServerModel
from ..errors import ModelUnavailable, RequestError
from ..mlx.models import LocalModel
from ..paths import keys_path

if TYPE_CHECKING:
    from llm.models import Attachment, _BaseModel

    from ..config.sections import Config
    from ..config.terms import Place


def check(inner: _BaseModel, prompt: llm.Prompt, settings: Config, key: str | None) -> None:
    """Raise if it is known that the model can't answer this prompt on this machine now.

    Raises RequestError if it lacks a capability that the prompt needs, ModelUnavailable if it can't
    run or its server failed just now, llm.NeedsKeyException if there is no API key.
    """
    _check_capabilities(inner, prompt)
    if isinstance(inner, LocalModel):
        inner.check(allow_cpu=settings.allow_cpu)
        return
    try:
        inner.get_key(key)
    except ValueError as error:
        fix = "correct it, or remove it"
        raise ModelUnavailable(f"{keys_path()} is not JSON: {error}", fix=fix) from error
    if isinstance(inner, (ServerModel, AsyncServerModel)):
        inner.check()


def may_block(inner: _BaseModel | None) -> bool:
    """Return whether the check of a local model may take a while."""
    return not isinstance(inner, LocalModel) or inner.check_may_block()


def check_place(inner: _BaseModel, place: Place) -> None:
    """Raise ModelUnavailable if a model is known to run farther away than the config says."""
    if place != "cloud" and runs_in_ollamas_cloud(inner.model_id):
        raise ModelUnavailable(
            f"Ollama runs {inner.model_id} in its own cloud, but the config says place: {place}",
            fix="place: cloud in the config",
        )


def _check_capabilities(inner: _BaseModel, prompt: llm.Prompt) -> None:
    if prompt.schema and not inner.supports_schema:
        raise RequestError("can't do schemas")
    server_side = [tool for tool in prompt.tools if isinstance(tool, llm.ServerSideTool)]
    if len(server_side) < len(prompt.tools) and not inner.supports_tools:
        raise RequestError("can't do tools")
    for tool in server_side:
        if not _has(inner, tool):
            raise RequestError(f"has no server-side tool {type(tool).__name__}")
    for attachment in _attachments(prompt):
        if not inner.attachment_types:
            fix = "images: true in the tier, if its model reads them"
            of_server = isinstance(inner, (ServerModel, AsyncServerModel))
            raise RequestError("can't read attachments", fix=fix if of_server else None)
        kind = _type(attachment)
        if kind not in inner.attachment_types:
            raise RequestError(f"can't read attachments of type {kind}")


def _has(inner: _BaseModel, tool: llm.ServerSideTool) -> bool:
    """Whether llm would pass the tool to the model; the base class allows only itself."""
    return any(
        type(tool) is kind if kind is llm.ServerSideTool else isinstance(tool, kind)
        for kind in inner.supported_server_side_tools
    )


def _type(attachment: Attachment) -> str:
    """The attachment's media type. llm asks the server of a URL for it if it has to."""
    name = attachment.path or attachment.url or "without a name"
    try:
        kind: str | None = attachment.resolve_type()
    except Exception as error:
        raise RequestError(f"can't read the attachment {name}: {error}") from error
    if kind is None:
        raise RequestError(
            f"can't read the attachment {name}: the file is missing, or llm does not know its type"
        )
    return kind


def has_attachments(prompt: llm.Prompt) -> bool:
    """Return whether there is anything in the conversation whose type has to be found out."""
    return bool(_attachments(prompt))


def _attachments(prompt: llm.Prompt) -> list[Attachment]:
    """The attachments of the whole conversation, since the model is sent all of them again."""
    return [
        part.attachment
        for message in prompt.messages
        for part in message.parts
        if isinstance(part, AttachmentPart) and part.attachment
    ]
