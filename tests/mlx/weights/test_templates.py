"""Which chat template of a folder is in force, and that the model is loaded with that one."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.mlx.weights.templates import (
    CONFIG,
    MORE_TEMPLATES,
    OLD_FILE,
    TEMPLATE_FILE,
    chat_templates,
    template_has_tools,
    tokenizer_settings,
)
from tests.chat_templates import PHI3_TEMPLATE, QWEN2_TEMPLATE
from tests.mlx.models import local_model
from tests.tiny_models import build

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mlx.scripted import Scripts

pytest_plugins = ("tests.mlx.scripted",)

TOOLS, PLAIN = QWEN2_TEMPLATE, PHI3_TEMPLATE
TAGGED = "{{ tools }}<tool_call>\\n<function=a>"
BOTH = [{"name": "default", "template": PLAIN}, {"name": "tool_use", "template": TOOLS}]
CALL = '<tool_call>\n{"name": "double", "arguments": {"number": 2}}\n</tool_call>'


def in_json(template: Any) -> str:
    """Return a JSON file with the template."""
    return json.dumps({"chat_template": template})


MORE = f"{MORE_TEMPLATES}/tool_use.jinja"
FOLDERS: dict[str, tuple[dict[str, str], bool]] = {
    "no template": ({}, False),
    "a file": ({TEMPLATE_FILE: TOOLS}, True),
    "a file without tools": ({TEMPLATE_FILE: PLAIN}, False),
    "the file wins": ({TEMPLATE_FILE: PLAIN, CONFIG: in_json(TOOLS)}, False),
    "the file wins with tools": ({TEMPLATE_FILE: TOOLS, CONFIG: in_json(PLAIN)}, True),
    "config": ({CONFIG: in_json(TOOLS)}, True),
    "config without tools": ({CONFIG: in_json(PLAIN)}, False),
    "config without a template": ({CONFIG: "{}"}, False),
    "other text in the config": ({CONFIG: json.dumps({"note": TOOLS})}, False),
    "a list": ({CONFIG: in_json(BOTH)}, True),
    "a list without a default": ({CONFIG: in_json(BOTH[1:])}, True),
    "a list of one": ({CONFIG: in_json([{**BOTH[0], "template": TOOLS}])}, True),
    "a list of one without tools": ({CONFIG: in_json(BOTH[:1])}, False),
    "another name": ({CONFIG: in_json([{"name": "rag", "template": TOOLS}])}, False),
    "tools in the default alone": (
        {CONFIG: in_json([{**BOTH[0], "template": TOOLS}, {**BOTH[1], "template": PLAIN}])},
        False,
    ),
    "a file for tools": ({TEMPLATE_FILE: PLAIN, MORE: TOOLS}, True),
    "a file for tools without them": ({TEMPLATE_FILE: TOOLS, MORE: PLAIN}, False),
    "files win over a list": ({TEMPLATE_FILE: PLAIN, CONFIG: in_json(BOTH)}, False),
    "old file": ({OLD_FILE: in_json(TOOLS)}, True),
    "old file, and a config": ({OLD_FILE: in_json(TOOLS), CONFIG: in_json(PLAIN)}, False),
    "tags": ({TEMPLATE_FILE: TAGGED}, True),
    "another format": ({TEMPLATE_FILE: "{{ tools }}[TOOL_CALLS]"}, False),
    "not JSON": ({CONFIG: TOOLS}, False),
    "not an object": ({CONFIG: "[1]"}, False),
    "a number": ({CONFIG: in_json(1)}, False),
    "a broken list": ({CONFIG: in_json([1, {}, {"name": "default", "template": None}])}, False),
}


def test_tools_of_the_template_in_force(tmp_path: Path) -> None:
    """Whether a model supports tools is what the template says that would be used for them."""
    wrong = []
    for number, (case, (files, expected)) in enumerate(FOLDERS.items()):
        folder = tmp_path / str(number)
        (folder / MORE_TEMPLATES).mkdir(parents=True)
        for name, text in files.items():
            (folder / name).write_text(text)
        if template_has_tools(folder) is not expected:
            wrong.append(case)
    assert wrong == []


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model without a template."""
    folder = build("qwen2", tmp_path_factory.mktemp("templates"), layers=1, context=2048)
    (folder / TEMPLATE_FILE).unlink()
    return folder


USED: dict[str, dict[str, Any]] = {
    "list": {CONFIG: BOTH},
    "list of one": {CONFIG: [{**BOTH[0], "template": TOOLS}]},
    "list without a default": {CONFIG: BOTH[1:]},
    "file for tools": {TEMPLATE_FILE: PLAIN, MORE: TOOLS},
    "old file": {OLD_FILE: TOOLS},
    "old file with a list": {OLD_FILE: BOTH},
}


@pytest.mark.parametrize("case", USED)
def test_model_uses_its_template_for_tools(
    case: str, model_folder: Path, tmp_path: Path, scripts: Scripts
) -> None:
    """A model that says it supports tools calls them, wherever its template for them is."""
    folder = shutil.copytree(model_folder, tmp_path / "model")
    (folder / MORE_TEMPLATES).mkdir()
    config = json.loads((folder / CONFIG).read_text())
    for name, template in USED[case].items():
        text = template if name.endswith("jinja") else json.dumps({"chat_template": template})
        if name == CONFIG:
            text = json.dumps({**config, "chat_template": template})
        (folder / name).write_text(text)
    model = local_model(folder, f"mlx/templates-{case.replace(' ', '-')}")
    assert model.supports_tools

    def double(number: int) -> int:
        return 2 * number

    for text in (CALL, "4.", "You're welcome."):
        scripts.say(text)
    conversation = model.conversation()
    assert conversation.chain("2 * 2?", tools=[double]).text() == "4."
    assert conversation.prompt("Thank you.").text() == "You're welcome."
    # Without tools, too, the earlier call and its result are in the prompt.
    for prompt in scripts.prompts[1:]:
        assert CALL in prompt
        assert "<tool_response>\n4\n</tool_response>" in prompt


def test_model_without_tools_uses_its_default(
    model_folder: Path, tmp_path: Path, scripts: Scripts
) -> None:
    """A chat without tools is rendered by the default template."""
    folder = shutil.copytree(model_folder, tmp_path / "model")
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, "chat_template": BOTH}))
    scripts.say("Hi!")
    assert local_model(folder, "mlx/templates-default").prompt("Hello").text() == "Hi!"
    assert scripts.prompts == ["<|user|>\nHello<|end|>\n<|assistant|>\n"]


def test_settings_of_the_tokenizer(tmp_path: Path) -> None:
    """mlx_lm finds the format of calls itself, except in one of several templates."""
    assert tokenizer_settings(tmp_path) == {}
    (tmp_path / CONFIG).write_text(in_json(TOOLS))
    assert tokenizer_settings(tmp_path) == {"chat_template": TOOLS}
    for template, parser in ((TOOLS, "json_tools"), (TAGGED, "qwen3_coder")):
        (tmp_path / CONFIG).write_text(in_json([BOTH[0], {**BOTH[1], "template": template}]))
        assert tokenizer_settings(tmp_path) == {
            "chat_template": chat_templates(tmp_path),
            "tool_parser_type": parser,
        }
    (tmp_path / CONFIG).write_text(in_json([BOTH[0], {"name": "rag", "template": PLAIN}]))
    assert tokenizer_settings(tmp_path) == {"chat_template": chat_templates(tmp_path)}


def test_unreadable_template(tmp_path: Path) -> None:
    """A template that is not UTF-8 has no tools."""
    (tmp_path / TEMPLATE_FILE).write_bytes(b"\xff" + TOOLS.encode())
    assert not template_has_tools(tmp_path)


def test_tools_of_a_folder_that_changes(model_folder: Path, tmp_path: Path) -> None:
    """A model supports tools as soon as its template does."""
    folder = shutil.copytree(model_folder, tmp_path / "model")
    model = local_model(folder, "mlx/templates-changing")
    assert not model.supports_tools
    (folder / TEMPLATE_FILE).write_text(TOOLS)
    assert model.supports_tools
