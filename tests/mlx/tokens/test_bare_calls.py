"""Tool calls whose first marker a model forgot, as Qwen3-Coder often does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chat_templates import CODER_TEMPLATE
from tests.mlx.models import local_model
from tests.tiny_models import build

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mlx.scripted import Scripts

pytest_plugins = ("tests.mlx.scripted",)

CALL = "<function=add>\n<parameter=number>\n1\n</parameter>\n</function>"

MADE = {
    CALL: "Done.",
    f"{CALL}\n</tool_call>": "Done.",
    f"I add it.\n{CALL}\n</tool_call>": "I add it.\nDone.",
    f"<tool_call>\n{CALL}\n</tool_call>\n": "Done.",
}
TEXTS = (
    "Write `<function=add>` first.",
    "Write <function=add> and </tool_call> then.",
    "<function=subtract>\n</function>",
    "<function=ad",
)


def test_calls_without_the_first_marker(tmp_path: Path, scripts: Scripts) -> None:
    """A call of one of the tools is made if it is whole, or returned; anything else stays text."""
    folder = build("qwen3", tmp_path / "qwen3", layers=1, context=2048)
    (folder / "chat_template.jinja").write_text(CODER_TEMPLATE)
    model = local_model(folder, "mlx/bare-calls")
    numbers: list[int] = []

    def add(number: int) -> str:
        numbers.append(number)
        return "added"

    for said, expected in MADE.items():
        scripts.say(said)
        scripts.say("Done.")
        assert model.chain("Add 1.", tools=[add]).text() == expected
    scripts.say(CALL.replace("1", "one </tool_call>"))
    scripts.say(CALL)
    scripts.say("Done.")
    assert model.chain("Add 1.", tools=[add]).text() == "Done."
    assert numbers == [1] * 5
    for said in TEXTS:
        scripts.say(said)
        assert model.chain("How?", tools=[add]).text() == said
        scripts.say(said)
        assert model.prompt("How?").text() == said
    scripts.say(CALL)
    assert model.prompt("How?").text() == CALL
    assert numbers == [1] * 5
