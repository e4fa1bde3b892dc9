"""A prompt on the command line, as for `llm prompt`: its options, and llm's prompt from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import llm

from ..errors import RequestError
from .options import Command, read_options, read_schema, schema_option, tiered_option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..router.model import TieredModel

_OPTIONS = (
    click.argument("prompt", required=False),
    click.option("-s", "--system", help="System prompt"),
    tiered_option,
    schema_option,
    click.option("fragments", "-f", "--fragment", multiple=True, help="Fragment to send along"),
    click.option(
        "system_fragments",
        *("--sf", "--system-fragment"),
        multiple=True,
        help="Fragment for the system prompt",
    ),
    click.option("template", "-t", "--template", multiple=True, help="Template to use"),
    click.option(
        "attachments",
        "-a",
        "--attachment",
        type=click.Path(exists=True, dir_okay=False),
        multiple=True,
        help="File to attach",
    ),
    click.option("tools", "-T", "--tool", multiple=True, help="Tool that the model may call"),
    click.option(
        "functions", "--functions", multiple=True, help="The same, as Python code or a file"
    ),
)


def prompt_options(command: Command) -> Command:
    """The options of `llm prompt` that a decision depends on; `read_prompt` takes their values."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_prompt(  # noqa: PLR0913 - the options of `llm prompt`
    model: TieredModel,
    *,
    prompt: str | None,
    system: str | None,
    options: tuple[tuple[str, str], ...],
    schema: str | None,
    fragments: tuple[str, ...],
    system_fragments: tuple[str, ...],
    template: tuple[str, ...],
    attachments: tuple[str, ...],
    tools: tuple[str, ...],
    functions: tuple[str, ...],
) -> llm.Prompt:
    """Return the prompt that `llm prompt` would make of these. Raises RequestError."""
    from llm.cli import _apply_template, _gather_tools, _merge_template_options

    read_as = read_schema(schema)
    attached = [llm.Attachment(path=path) for path in attachments]
    for each in map(_template, template):
        fragments = (*(each.fragments or ()), *fragments)
        system_fragments = (*(each.system_fragments or ()), *system_fragments)
        tools = (*(each.tools or ()), *tools)
        options = tuple(_merge_template_options(each, options))
        read_as = each.schema_object or read_as
        prompt, system = _apply_template(each, prompt, {}, system)
    resolved = _resolved(fragments)
    return llm.Prompt(
        prompt or "",
        model=model,
        system=system,
        schema=read_as,
        fragments=[each for each in resolved if not isinstance(each, llm.Attachment)],
        system_fragments=_resolved(system_fragments),
        attachments=[*attached, *(each for each in resolved if isinstance(each, llm.Attachment))],
        tools=_gather_tools(list(tools), list(functions), model=model),
        options=model.Options(**read_options(model, options)),
    )


def _template(name: str) -> Any:
    from llm.cli import LoadTemplateError, load_template

    try:
        return load_template(name)
    except LoadTemplateError as error:
        raise RequestError(str(error)) from None


def _resolved(names: Iterable[str]) -> list[Any]:
    """The fragments and attachments of these names: aliases, files, URLs or what a plugin reads."""
    from ..log.fragments import database

    names = list(names)
    if not names:
        return []
    from llm.cli import FragmentNotFound, resolve_fragments

    try:
        with database() as known:
            return resolve_fragments(known, names, allow_attachments=True)
    except FragmentNotFound as error:
        raise RequestError(str(error)) from None
