"""The chat templates of a model folder: which one is in force, and whether it supports tools."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT, TOOL_USE = "default", "tool_use"

# In files of their own, templates win over those in the config. transformers leaves the last file
# to other kinds of models, but some folders have their only template there.
TEMPLATE_FILE = "chat_template.jinja"
MORE_TEMPLATES = "additional_chat_templates"
CONFIG = "tokenizer_config.json"
OLD_FILE = "chat_template.json"


def chat_templates(folder: Path) -> dict[str, str]:
    """Return the chat templates in force, by name; that of a model with only one is `default`."""
    files = {file.stem: file for file in (folder / MORE_TEMPLATES).glob("*.jinja")}
    if (folder / TEMPLATE_FILE).is_file():
        files[DEFAULT] = folder / TEMPLATE_FILE
    return (
        {name: _text(file) for name, file in files.items()}
        or _templates_in(folder / CONFIG)
        or _templates_in(folder / OLD_FILE)
    )


def template_has_tools(folder: Path) -> bool:
    """Whether the chat template for tools has tool calls in a format that we parse."""
    return _call_format(chat_templates(folder)) is not None


def tokenizer_settings(folder: Path) -> dict[str, Any]:
    """Return the settings with which mlx_lm's tokenizer uses these templates."""
    templates = chat_templates(folder)
    if templates.keys() <= {DEFAULT}:
        return {"chat_template": templates[DEFAULT]} if templates else {}
    # mlx_lm looks for the format of tool calls only in a model's single template.
    call_format = _call_format(templates)
    parser = {"tool_parser_type": call_format} if call_format else {}
    return {"chat_template": templates, **parser}


def _call_format(templates: dict[str, str]) -> str | None:
    """Return mlx_lm's name for the format of tool calls, or None."""
    text = templates.get(TOOL_USE) or templates.get(DEFAULT, "")
    if "<tool_call>" not in text:
        return None
    if any(f"<tool_call>{line_break}<function=" in text for line_break in ("\\n", "\n")):
        return "qwen3_coder"
    if "tool_call.name" not in text:
        return None
    return "glm47" if "<arg_key>" in text else "json_tools"


def _templates_in(file: Path) -> dict[str, str]:
    """Return the chat templates in a JSON file: one, or several by name."""
    try:
        config = json.loads(_text(file))
    except ValueError:
        return {}
    value = config.get("chat_template") if isinstance(config, dict) else None
    if isinstance(value, str):
        return {DEFAULT: value}
    if isinstance(value, list):
        value = {each.get("name"): each.get("template") for each in value if isinstance(each, dict)}
    named = value if isinstance(value, dict) else {}
    return {name: text for name, text in named.items() if isinstance(text, str)}


def _text(file: Path) -> str:
    """Return the text of a file, or nothing if it can't be read."""
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
