"""Thoughts of models that have no tokens for the markers around them, as Phi-4-mini-reasoning."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.chat_templates import PHI3_TEMPLATE
from tests.mlx.models import local_model
from tests.mlx.tokens.thoughts import Events, events
from tests.tiny_models import build

if TYPE_CHECKING:
    from pathlib import Path

    import llm

    from tests.mlx.scripted import Scripts

pytest_plugins = ("tests.mlx.scripted",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model without such tokens, whose template does not mention them."""
    return build("phi3", tmp_path_factory.mktemp("spelled") / "phi3", layers=1)


@pytest.fixture(scope="module")
def model(folder: Path) -> llm.Model:
    """The model, as llm sees it."""
    return local_model(folder, "mlx/spelled")


SPELLED: dict[str, tuple[str, Events]] = {
    "reasoning and an answer": (
        "<think>\nOkay, he greets.\n</think>\n\nHi!",
        [("reasoning", "Okay, he greets.\n"), ("text", "Hi!")],
    ),
    "white space before": (
        "\n <think>\nSo.</think>Hi!",
        [("text", "\n "), ("reasoning", "So."), ("text", "Hi!")],
    ),
    "nothing to think about": ("<think>\n</think>Hi!", [("text", "Hi!")]),
    "mentioned in the answer": (
        "<think>\nSo.</think>A <think>\n or </think>.",
        [("reasoning", "So."), ("text", "A <think>\n or </think>.")],
    ),
    "not at the beginning": ("A:\n<think>\nB</think>", [("text", "A:\n<think>\nB</think>")]),
    "not a line": ("<think>, a tag", [("text", "<think>, a tag")]),
    "nothing else": ("<think>", [("text", "<think>")]),
    "cut off": ("<think>\nSo </th", [("reasoning", "So </th")]),
}


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("case", SPELLED)
def test_markers_without_tokens(case: str, pieces: int, model: llm.Model, scripts: Scripts) -> None:
    """A model without tokens for the markers spells them, in any tokens, and still thinks."""
    text, expected = SPELLED[case]
    scripts.say(*(text[start : start + pieces] for start in range(0, len(text), pieces)))
    assert events(model) == expected


@pytest.mark.parametrize(
    ("opening", "expected"),
    [
        ("<think>\n", [("reasoning", "He greets."), ("text", "Hi!")]),
        ("<think>\n\n</think>\n\n", [("text", "He greets.</think>Hi!")]),
    ],
)
def test_template_opens_thoughts_without_tokens(
    opening: str,
    expected: Events,
    folder: Path,
    tmp_path: Path,
    scripts: Scripts,
) -> None:
    """A template can open the thoughts of such a model, or close them at once."""
    shutil.copytree(folder, tmp_path / "spelled")
    template = PHI3_TEMPLATE + "{{- '" + opening.replace("\n", "\\n") + "' }}"
    (tmp_path / "spelled" / "chat_template.jinja").write_text(template)
    scripts.say("He greets.</", "think>Hi!")
    model = local_model(tmp_path / "spelled", f"mlx/spelled-{len(opening)}")
    assert events(model) == expected
    assert scripts.prompts[-1].endswith(opening)
    scripts.say('{"a":1}')
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}
    assert events(model, schema=schema, thinking=1) == [("text", '{"a":1}')]
