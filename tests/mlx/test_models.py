"""Local models as users see them, through llm's API and command line."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import llm
import pytest
from click.testing import CliRunner
from llm.cli import cli

from llm_tiered.errors import EmptyAnswer, PromptTooLong, RequestError
from tests.tiny_models import Family, build

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mlx.scripted import Scripts

pytest_plugins = ("tests.mlx.scripted",)

FAMILIES: tuple[Family, ...] = ("phi3", "qwen2", "qwen3")
QWEN = "mlx/models-qwen2"
SHORT_CONTEXT = 96
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model folders by id: some never end their turn, others do. Read only."""
    root = tmp_path_factory.mktemp("models")
    folders = {f"models-{family}": build(family, root / family) for family in FAMILIES}
    folders["models-short"] = build("qwen3", root / "short", context=SHORT_CONTEXT)
    limit_tokenizer(root / "short", SHORT_CONTEXT)
    folders["models-terse"] = build("phi3", root / "terse", eos_bias=44.0)
    folders["models-silent"] = build("phi3", root / "silent", eos_bias=1000.0)
    folders["models-lively"] = build("qwen2", root / "lively")
    generation = {"do_sample": True, "temperature": 1.0}
    (root / "lively" / "generation_config.json").write_text(json.dumps(generation))

    return folders


def limit_tokenizer(folder: Path, tokens: int) -> None:
    """Set the tokenizer's maximum length, as many repositories do."""
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": tokens}))


@pytest.fixture(autouse=True)
def _registered(folders: dict[str, Path], config_file: Path) -> None:
    """Register the models in the config."""
    models = [{"id": name, "path": str(path)} for name, path in folders.items()]
    config_file.write_text(json.dumps({"models": models}))


def ask(name: str, prompt: str = "Hello", **options: Any) -> llm.Response:
    """Prompt a model and wait for the complete answer."""
    response = llm.get_model(name).prompt(prompt, **options)
    response.text()
    return response


def details(response: llm.Response | llm.AsyncResponse) -> dict[str, Any]:
    """The details of an answer that are logged beside its text."""
    assert response.response_json
    return response.response_json


def run(*arguments: str, stdin: str | None = None) -> str:
    """Run llm and return its output."""
    result = CliRunner().invoke(cli, arguments, input=stdin, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def turns() -> list[dict[str, Any]]:
    """The logged turns, oldest first."""
    rows: list[dict[str, Any]] = json.loads(run("logs", "--json", "-n", "0"))
    return rows


def reference(folder: Path, chat: list[dict[str, str]]) -> tuple[str, int]:
    """Mlx-lm's own answer at temperature 0, and the number of tokens in the prompt."""
    import mlx_lm

    model, tokenizer = mlx_lm.load(str(folder))[:2]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True)
    text = mlx_lm.generate(model, tokenizer, prompt, max_tokens=GREEDY["max_tokens"])
    return text, len(prompt)


def message(role: str, content: str) -> dict[str, str]:
    """A message as chat templates expect it."""
    return {"role": role, "content": content}


@pytest.mark.parametrize("family", FAMILIES)
def test_answer_streams(family: Family) -> None:
    """An answer arrives in several pieces that add up to its text."""
    response = llm.get_model(f"mlx/models-{family}").prompt("Hello", **GREEDY)
    pieces = list(response)
    assert len(pieces) > 3
    assert "".join(pieces) == response.text()


def test_answer_without_streaming() -> None:
    """Without streaming, the answer is the same."""
    response = llm.get_model(QWEN).prompt("Hello", stream=False, **GREEDY)
    assert response.text() == ask(QWEN, **GREEDY).text()


@pytest.mark.parametrize("family", FAMILIES)
async def test_sync_and_async_agree(family: Family) -> None:
    """Both kinds of model give the same text, usage and details."""
    name = f"mlx/models-{family}"
    response = llm.get_async_model(name).prompt("Hello", **GREEDY)
    pieces = [piece async for piece in response]
    expected = ask(name, **GREEDY)
    assert len(pieces) > 3
    assert "".join(pieces) == expected.text()
    assert await response.usage() == expected.usage()
    assert details(response)["finish_reason"] == details(expected)["finish_reason"]


@pytest.mark.parametrize("family", FAMILIES)
def test_system_prompt_reaches_the_template(family: Family, folders: dict[str, Path]) -> None:
    """The model reads the system prompt and the question in its family's format."""
    response = ask(f"mlx/models-{family}", "Hello", system="Be brief.", **GREEDY)
    chat = [message("system", "Be brief."), message("user", "Hello")]
    expected = reference(folders[f"models-{family}"], chat)
    assert (response.text(), response.usage().input) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_conversation_reaches_the_template(family: Family, folders: dict[str, Path]) -> None:
    """The model reads the earlier turns of a conversation, including its own."""
    conversation = llm.get_model(f"mlx/models-{family}").conversation()
    first = conversation.prompt("Hello", system="Be brief.", **GREEDY).text()
    response = conversation.prompt("And then?", **GREEDY)
    chat = [
        message("system", "Be brief."),
        message("user", "Hello"),
        message("assistant", first),
        message("user", "And then?"),
    ]
    text, count = reference(folders[f"models-{family}"], chat)
    assert (response.text(), response.usage().input) == (text, count)


def test_max_tokens_ends_the_answer() -> None:
    """An answer that reaches max_tokens has the finish reason "length"."""
    response = ask(QWEN, max_tokens=7)
    assert response.usage().output == 7
    assert details(response)["finish_reason"] == "length"


def test_model_ends_the_answer() -> None:
    """An answer whose turn the model ends has the finish reason "stop"."""
    response = ask("mlx/models-terse", **{**GREEDY, "max_tokens": 200})
    assert response.text()
    assert response.usage().output in range(2, 200)
    assert details(response)["finish_reason"] == "stop"


def test_phi_ends_its_turn() -> None:
    """Phi's <|end|> ends the answer without being part of it, even if it is not an EOS id."""
    response = llm.get_model("mlx/models-silent").prompt("What is a scale?", **GREEDY)
    with pytest.raises(EmptyAnswer, match="answered with nothing"):
        response.text()
    assert response.output_tokens == 1
    assert details(response)["finish_reason"] == "stop"


@pytest.mark.parametrize("seed", [0, 7, 2**63])
def test_seed_repeats_an_answer(seed: int) -> None:
    """The same seed gives the same answer, whatever ran in between; 0 is a seed like any other."""
    options: dict[str, Any] = {"temperature": 1, "max_tokens": 20}
    first = ask(QWEN, seed=seed, **options).text()
    other = ask(QWEN, seed=seed + 1, **options).text()
    assert ask(QWEN, seed=seed, **options).text() == first
    assert other != first


def test_answers_without_a_seed_differ() -> None:
    """Without a seed, answers differ at temperature 1."""
    assert len({ask(QWEN, temperature=1, max_tokens=20).text() for _ in range(3)}) == 3


@pytest.mark.parametrize("option", [{"top_p": 0.001}, {"min_p": 1}])
def test_sampling_options(option: dict[str, Any]) -> None:
    """top_p and min_p can leave only the most likely token, even at temperature 1."""
    response = ask(QWEN, temperature=1, max_tokens=12, **option)
    assert response.text() == ask(QWEN, **GREEDY).text()


def test_recommended_temperature() -> None:
    """The temperature of generation_config.json applies unless the request has its own."""
    name = "mlx/models-lively"
    assert ask(name, max_tokens=20).text() != ask(name, max_tokens=20).text()
    assert ask(name, **GREEDY).text() == ask(QWEN, **GREEDY).text()


def stops_of(pieces: list[str]) -> dict[str, str | list[str]]:
    """Stop strings for an answer that arrived in these pieces."""
    text = "".join(pieces)
    return {
        "inside": pieces[4],
        "across tokens": pieces[4][-1] + pieces[5][0],
        "at the start": text[:2],
        "at the end": text[-2:],
        "a list": ["never there", pieces[6], pieces[3]],
        "a JSON list": json.dumps([pieces[6], pieces[3]]),
        "the first of two that overlap": [pieces[4] + pieces[5] + "…", pieces[5]],
    }


@pytest.mark.parametrize("case", stops_of(["ab"] * 8))
def test_stop_ends_the_answer(case: str) -> None:
    """An answer ends before the first stop string, wherever that is."""
    pieces = list(llm.get_model(QWEN).prompt("Hello", **GREEDY))
    stop = stops_of(pieces)[case]
    if isinstance(stop, str):
        stop = json.loads(stop) if stop.startswith("[") else [stop]
    text = "".join(pieces)
    response = ask(QWEN, stop=stops_of(pieces)[case], **GREEDY)
    assert response.text() == text[: min(text.index(it) for it in stop if it in text)]
    assert details(response)["finish_reason"] == "stop"
    assert response.usage().output


def test_stop_string_that_does_not_occur() -> None:
    """Text that only begins like a stop string is part of the answer, even at its end."""
    expected = ask(QWEN, **GREEDY)
    response = ask(QWEN, stop=[expected.text()[-3:] + "…", "never there"], **GREEDY)
    assert response.text() == expected.text()
    assert details(response)["finish_reason"] == "length"


def test_stop_may_look_like_json() -> None:
    """A stop string that starts like a JSON list but is not one is taken literally."""
    assert ask(QWEN, stop="[1", **GREEDY).text() == ask(QWEN, **GREEDY).text()


async def test_prompt_longer_than_the_context() -> None:
    """A prompt longer than the context is refused with both counts, and the next one works."""
    count = ask(QWEN, "one two " * 50, max_tokens=1).usage().input
    assert count is not None
    with pytest.raises(PromptTooLong, match=rf"\b\d+ tokens.*\b{SHORT_CONTEXT}\b") as refused:
        ask("mlx/models-short", "one two " * 50)
    with pytest.raises(PromptTooLong) as refused_async:
        await llm.get_async_model("mlx/models-short").prompt("one two " * 50).text()
    assert str(refused_async.value) == str(refused.value)
    assert ask("mlx/models-short", **GREEDY).text()


def test_long_prompt_causes_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A prompt that is too long is only an error: transformers does not warn as well."""
    # Its records don't propagate to the root logger.
    transformers = logging.getLogger("transformers")
    transformers.addHandler(caplog.handler)
    try:
        with pytest.raises(PromptTooLong):
            ask("mlx/models-short", "one two " * 50)
    finally:
        transformers.removeHandler(caplog.handler)
    assert caplog.messages == []


def test_context_limits_the_answer() -> None:
    """An answer ends with the context, however large max_tokens is."""
    response = ask("mlx/models-short", max_tokens=10_000)
    usage = response.usage()
    assert usage.input is not None
    assert usage.output == SHORT_CONTEXT - usage.input
    assert details(response)["finish_reason"] == "length"


def test_empty_prompt() -> None:
    """An empty prompt is refused."""
    with pytest.raises(RequestError, match="the prompt is empty"):
        ask(QWEN, "")


def test_system_prompt_alone(folders: dict[str, Path]) -> None:
    """A system prompt without a prompt is what the model is asked."""
    asked = reference(folders["models-qwen2"], [message("user", "Say hello.")])[0]
    assert ask(QWEN, "", system="Say hello.", **GREEDY).text() == asked


def test_details_of_an_answer() -> None:
    """response_json has an answer's finish reason, speeds, memory, log-probabilities and passes."""
    facts = details(ask(QWEN, **GREEDY))
    assert set(facts) == {"finish_reason", "prompt_tps", "generation_tps", "peak_memory"} | {
        "mean_logprob",
        "lowest_logprob",
        "decile_logprob",
        "passes",
    }
    assert facts["lowest_logprob"] <= facts["decile_logprob"] <= facts["mean_logprob"] <= 0
    assert facts["passes"] == GREEDY["max_tokens"]
    assert facts["prompt_tps"] > 0
    assert facts["generation_tps"] > 0
    assert isinstance(facts["peak_memory"], int)
    assert facts["peak_memory"] > 500_000


def test_command_line_logs_the_answer() -> None:
    """`llm -m` prints the answer and logs it with its options, usage and details."""
    options = ("-o", "max_tokens", "12", "-o", "temperature", "0")
    printed = run("-m", QWEN, *options, "Hello")
    expected = ask(QWEN, **GREEDY)
    assert printed == expected.text() + "\n"
    [turn] = turns()
    assert (turn["model"], turn["prompt"], turn["response"]) == (QWEN, "Hello", expected.text())
    assert turn["options_json"] == {"max_tokens": 12, "temperature": 0.0}
    assert (turn["input_tokens"], turn["output_tokens"]) == (expected.usage().input, 12)
    assert turn["response_json"]["finish_reason"] == "length"


def test_stop_strings_on_the_command_line() -> None:
    """`-o stop` accepts a string or a JSON list of strings."""
    first, second, *_ = llm.get_model(QWEN).prompt("Hello", **GREEDY)
    for stop in (second, json.dumps(["never there", second])):
        printed = run("-m", QWEN, "-o", "temperature", "0", "-o", "stop", stop, "Hello")
        assert printed == f"{first}\n"


def test_async_on_the_command_line() -> None:
    """`--async` prints and logs the same answer."""
    options = ("-o", "max_tokens", "12", "-o", "temperature", "0")
    printed = run("--async", "-m", QWEN, *options, "Hello")
    assert printed == ask(QWEN, **GREEDY).text() + "\n"
    assert [turn["model"] for turn in turns()] == [QWEN]


def test_continued_conversation(folders: dict[str, Path]) -> None:
    """With `-c` the same model reads the system prompt and the earlier turn again."""
    options = ("-o", "max_tokens", "12", "-o", "temperature", "0")
    first = run("-m", QWEN, "-s", "Be brief.", *options, "Hello").removesuffix("\n")
    second = run("-c", *options, "And then?").removesuffix("\n")
    chat = [
        message("system", "Be brief."),
        message("user", "Hello"),
        message("assistant", first),
        message("user", "And then?"),
    ]
    assert second == reference(folders["models-qwen2"], chat)[0]
    assert [turn["model"] for turn in turns()] == [QWEN, QWEN]
    assert len({turn["conversation_id"] for turn in turns()}) == 1


def test_new_system_prompt_of_a_later_turn(folders: dict[str, Path], scripts: Scripts) -> None:
    """`-c -s` changes the system prompt from then on; the turn after it reads little again."""
    for said in ([], ["-c"], ["-c", "-s", "Answer in French."], ["-c"]):
        scripts.say("Hi.")
        run("-m", QWEN, *(said or ["-s", "Be brief."]), "Hello")
    brief, french = ["Be brief" in prompt for prompt in scripts.prompts], scripts.prompts[2:]
    assert brief == [True, True, False, False]
    assert all(prompt.count("Answer in French.") == 1 for prompt in french)
    assert french[1].startswith(french[0].removesuffix("<|im_start|>assistant\n"))
    cached = [json.loads(turn["token_details"] or "{}").get("cached_tokens") for turn in turns()]
    assert cached[3] >= scripts.prompt_tokens[2] - 8


def test_chat() -> None:
    """`llm chat` answers and logs every turn in one conversation."""
    options = ("-o", "max_tokens", "12", "-o", "temperature", "0")
    printed = run("chat", "-m", QWEN, *options, stdin="Hello\nAnd then?\nexit\n")
    conversation = llm.get_model(QWEN).conversation()
    answers = [conversation.prompt(text, **GREEDY).text() for text in ("Hello", "And then?")]
    assert [turn["response"] for turn in turns()] == answers
    assert all(answer in printed for answer in answers)


def test_missing_folder(config_file: Path) -> None:
    """`llm -m` with a missing folder prints one line that names it, and logs nothing."""
    models = [{"id": "models-gone", "path": "/nowhere/at/all"}]
    config_file.write_text(json.dumps({"models": models}))
    result = CliRunner().invoke(cli, ["-m", "mlx/models-gone", "Hello"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert (
        result.stderr
        == "Error: mlx/models-gone: there is no folder /nowhere/at/all (check the path)\n"
    )
    assert turns() == []
