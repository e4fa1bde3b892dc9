"""Whatever is guessed, an answer is what the model would have said token by token."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import pytest

from llm_tiered.bench.schemas import SCHEMAS
from llm_tiered.mlx.engine import solo
from llm_tiered.mlx.engine.pass_costs import PassCosts
from llm_tiered.mlx.engine.passes import Passes
from llm_tiered.mlx.engine.sequence import RunningSequence
from llm_tiered.mlx.tokens.sampling import make_sampler
from llm_tiered.mlx.tokens.structured import Constraint
from tests.mlx.engine.client import Answer, Call, make_request
from tests.tiny_models import Family, build

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from llm_tiered.mlx.engine.engine import Engine

FAMILIES: tuple[Family, ...] = ("qwen2", "qwen3_next")
ALL_FAMILIES: tuple[Family, ...] = (
    *("phi3", "qwen2", "qwen3"),
    *("qwen3_next", "qwen3_5", "gemma3_text"),
)
WORDS = ("scale", "note", "chord", "the", "of", "a", "major", "minor", "play", "and")
PARTS: tuple[dict[str, Any], ...] = (
    {"enum": [f"the {word} of the {other}" for word in WORDS[:3] for other in WORDS[:3]]},
    {"type": "array", "items": {"enum": list(WORDS)}, "minItems": 3, "maxItems": 6},
    {"type": "string", "maxLength": 20},
    {"type": "integer", "minimum": 1, "maximum": 999},
    {"type": "boolean"},
)
# The rows of a model that knows the last token only, as probabilities of the next one.
CHAIN = [[0.7, 0.2, 0.1, 0.0], [0.25, 0.25, 0.25, 0.25], [0.0, 0.5, 0.5, 0.0], [0.9, 0.0, 0.0, 0.1]]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model of each family."""
    folder = tmp_path_factory.mktemp("speculation") / request.param
    return build(request.param, folder, context=4096, eos_bias=3.0)


def ask(engine: Engine, folder: Path, *turns: str, **fields: Any) -> Answer:
    """Return a model's answer to the last turn."""
    return Call(make_request(folder, *turns, **fields), engine).submit().answer()


def without(engine: Engine, folder: Path, *turns: str, **fields: Any) -> tuple[Answer, list[int]]:
    """Return the answer and the tokens of a model that gets one token at a time."""
    tokens: list[int] = []
    push = RunningSequence.push

    def record(sequence: RunningSequence, token: int, *args: Any) -> Any:
        tokens.append(token)
        return push(sequence, token, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Constraint, "forced", lambda _: [])
        patch.setattr(RunningSequence, "push", record)
        fields = {"seed": 0} | fields | {"prompt_lookup": False, "draft": None}
        return ask(engine, folder, *turns, **fields), tokens


class Oracle:
    """Guesses of an answer, most of them right."""

    def __init__(self, answer: Sequence[int], draw: random.Random) -> None:
        self._left = list(answer)
        self._draw = draw

    def add(self, sampled: Sequence[int], forced: Sequence[int] = ()) -> None:
        """Go on after these tokens."""
        del self._left[: len(sampled) + len(forced)]

    def count(self, certain: int) -> int:
        """Return how many tokens to guess."""
        return self._draw.choice([0, 1, 3, 7])

    def guess(self, certain: int, most: int) -> list[int]:
        """Return the next tokens, now and then a wrong one."""
        count = min(self.count(certain), most)
        return [self._wrong(token) for token in self._left[:count]]

    def _wrong(self, token: int) -> int:
        return token if self._draw.random() < 0.8 else token ^ 1


def question(draw: random.Random) -> str:
    """Return a question whose words come again and again."""
    return " ".join(draw.choice(WORDS[:6]) for _ in range(draw.randint(5, 120)))


def fields(draw: random.Random) -> dict[str, Any]:
    """Return the fields of a request with or without schema, penalty, stop string and seed."""
    names = [" ".join(draw.choices(WORDS, k=3)) for _ in range(draw.randint(1, 3))]
    schema = {
        "type": "object",
        "properties": {name: draw.choice(PARTS) for name in names},
        "required": sorted(set(names)),
        "additionalProperties": False,
    }
    made: dict[str, Any] = {"max_tokens": draw.choice([1, 9, 40, 60])}
    sampling = {"temperature": 0.0}
    if draw.random() < 0.5:
        made["schema"] = schema
    if draw.random() < 0.4:
        made["seed"], sampling["temperature"] = draw.randrange(99), draw.choice([0.3, 1.0])
    if draw.random() < 0.3:
        sampling |= {"repetition_penalty": 1.2}
    if draw.random() < 0.2:
        made["stop"] = (draw.choice(WORDS),)
    return made | {"sampling": sampling}


def test_same_answers(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random prompts get the same text, tokens and log-probabilities, also in the turn after."""
    guessed = kept = 0
    for number in range(8):
        draw = random.Random(number)
        turns, options = [question(draw)], fields(draw)
        for _ in range(2):
            expected, tokens = without(engine, folder, *turns, **options)
            oracle = Oracle(tokens, draw)
            monkeypatch.setattr(solo, "LookupGuesses", lambda *_, oracle=oracle, **__: oracle)
            answer = ask(engine, folder, *turns, **options)
            assert answer.matches(expected), (number, options)
            assert answer.done.finish_reason == expected.done.finish_reason
            guessed, kept = guessed + answer.done.guessed_tokens, kept + answer.done.kept_tokens
            turns += [answer.text, question(draw)]
    assert guessed > kept > guessed / 2 > 50


def test_usual_schemas(engine: Engine, tmp_path: Path) -> None:
    """Models of all families say the same under usual schemas, whatever is forced and guessed."""
    passes = tokens = 0
    for number, family in enumerate(ALL_FAMILIES):
        draw = random.Random(200 + number)
        folder = build(family, tmp_path / family, seed=number, context=4096)
        for what in draw.sample(sorted(SCHEMAS), 2):
            options = {"schema": SCHEMAS[what], "max_tokens": 40, "seed": draw.randrange(99)}
            options["sampling"] = {"temperature": draw.choice([0.0, 1.0])}
            prompt = f"{question(draw)} As JSON: {what}."
            answer = ask(engine, folder, prompt, prompt_lookup=True, **options)
            expected = without(engine, folder, prompt, **options)[0]
            assert answer.matches(expected), (family, what, options)
            passes, tokens = passes + answer.done.passes, tokens + answer.done.generation_tokens
    assert passes < 0.7 * tokens


def test_another_request_joins(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer with guesses that goes on in a batch with another one is the same."""
    draw = random.Random(5)
    turns = [question(draw)]
    expected, tokens = without(engine, folder, *turns, max_tokens=150)
    monkeypatch.setattr(solo, "LookupGuesses", lambda *_, **__: Oracle(tokens, draw))
    first = Call(make_request(folder, *turns, max_tokens=150), engine).submit()
    first.wait_for_text()
    second = ask(engine, folder, "Hello", max_tokens=9)
    monkeypatch.undo()
    assert expected.text.endswith(first.answer().text)
    assert second.text == without(engine, folder, "Hello", max_tokens=9)[0].text


def test_prompt_lookup(engine: Engine, tmp_path: Path) -> None:
    """Guesses from the prompt change nothing, in thoughts and under schemas too."""
    folder = build("qwen3", tmp_path / "qwen3", context=4096)
    guessed = 0
    for number in range(4):
        draw = random.Random(number)
        turns = [question(draw)]
        options: dict[str, Any] = {"thinking": True, "max_tokens": 60}
        options |= {"schema": PARTS[number]} if number % 2 else {}
        answer = ask(engine, folder, *turns, prompt_lookup=True, **options)
        assert answer.matches(without(engine, folder, *turns, **options)[0])
        guessed += answer.done.guessed_tokens
    assert guessed


def test_draft_models(engine: Engine, folder: Path, tmp_path: Path) -> None:
    """A draft model changes nothing either, under schemas and penalties too."""
    draft = build("qwen2", tmp_path / "draft", layers=1, context=4096)
    guessed = kept = 0
    for number in range(5):
        draw = random.Random(100 + number)
        turns, options = [question(draw)], fields(draw)
        answer = ask(engine, folder, *turns, draft=("draft", draft), **options)
        assert answer.matches(without(engine, folder, *turns, **options)[0]), (number, options)
        itself = ask(engine, folder, *turns, draft=(folder.name, folder), **options).done
        guessed, kept = guessed + itself.guessed_tokens, kept + itself.kept_tokens
        assert itself.passes <= answer.done.passes
    # The other model's cache can't be trimmed, so it does without.
    assert kept > guessed / 4 > 0 or folder.name == "qwen3_next"


class Chain:
    """A model whose next token depends on the last one only, and guesses that are often wrong."""

    def __init__(self, guesses: Sequence[int]) -> None:
        self._logits = mx.log(mx.array(CHAIN))
        self._guesses = list(guesses)
        self.passes = 0

    def __call__(self, tokens: Any, cache: Any) -> Any:
        """Return the logits after each token."""
        self.passes += 1
        return self._logits[tokens]

    def add(self, sampled: Sequence[int], forced: Sequence[int] = ()) -> None:
        """Take note of nothing: the guesses are always the same."""

    def count(self, certain: int) -> int:
        """Return the number of guesses."""
        return len(self._guesses)

    def guess(self, certain: int, most: int) -> list[int]:
        """Return the guesses."""
        return self._guesses[:most]


def test_distribution() -> None:
    """Guesses don't change how often a token follows another at temperature 1."""
    mx.random.seed(7)
    model = Chain([0, 0, 1])
    tokens = [0]
    passes = Passes(
        model,
        [],
        tokens,
        limit=6_000,
        ends=(),
        sampler=make_sampler({"temperature": 1.0}),
        penalties=(),
        constraint=None,
        guesses=model,
        costs=PassCosts(),
    )
    for step in passes.steps():
        tokens += step.tokens
    assert model.passes < 0.7 * len(tokens)
    pairs = Counter(pairwise(tokens))
    for one, row in enumerate(CHAIN):
        count = sum(pairs[one, other] for other in range(4))
        # Four standard deviations, and the seed is always the same.
        assert [pairs[one, other] / count for other in range(4)] == pytest.approx(
            row, abs=4 * (0.25 / count) ** 0.5
        )


def test_json_is_whole(engine: Engine, folder: Path) -> None:
    """An answer at temperature 1 fits its schema, whatever is guessed."""
    schema = {"type": "array", "items": PARTS[0], "minItems": 3, "maxItems": 3}
    request: dict[str, Any] = {"schema": schema, "max_tokens": 400, "prompt_lookup": True}
    prompt = json.dumps(PARTS[0]["enum"])
    done = [ask(engine, folder, prompt, sampling={"temperature": 1.0}, **request) for _ in range(2)]
    assert all(len(json.loads(answer.text)) == 3 for answer in done)
