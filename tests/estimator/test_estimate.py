"""The estimated complexity of a prompt."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import llm
import pytest

from llm_tiered.estimator import Estimate, estimate
from llm_tiered.estimator.features import SCANNED
from llm_tiered.estimator.measures import Scored, auc
from tests.estimator.kinds import KINDS
from tests.estimator.prompts import RANGES, TALK

PLAIN = "What is the capital of France?"

THIN = [
    "",
    " \n\t ",
    "a",
    "?",
    "...",
    "ok",
    "hi",
    "hello there",
    "thanks!",
    "42",
    "\U0001f600",
    "2+2",
]
FOREIGN = [
    "你好 请问法国的首都是哪里",
    "Какая столица Франции и сколько там живёт людей?",
    "ما هي عاصمة فرنسا؟",
    "Ποια είναι η πρωτεύουσα της Γαλλίας;",
    "फ़्रांस की राजधानी क्या है?",
    "フランスの首都はどこですか。",
    "Beweise, dass es unendlich viele Primzahlen gibt.",
]


@pytest.mark.parametrize(("prompt", "span"), RANGES.items())
def test_range(prompt: str, span: tuple[int, int]) -> None:
    """Each of these prompts is rated as people would rate it."""
    assert span[0] <= estimate(prompt).complexity <= span[1]


def test_order_within_a_kind() -> None:
    """Within each kind of prompts, hardly any easy one is rated harder than a hard one."""
    areas = {}
    for kind, levels in KINDS.items():
        scored = [
            Scored(estimate(prompt).score, float(hard))
            for hard, prompts in enumerate(levels)
            for prompt in prompts
        ]
        areas[kind] = auc(scored)
    assert {kind: area for kind, area in areas.items() if area < 0.95} == {}


@pytest.mark.parametrize("prompt", [*THIN, *FOREIGN])
def test_thin_evidence(prompt: str) -> None:
    """A prompt in which nothing can be read is medium, without confidence."""
    result = estimate(prompt)
    assert (result.complexity, result.confidence) == (5, 0.0)
    assert result.reasons == ("too little to judge by",)


def test_any_script() -> None:
    """Text in any script but Latin is medium."""
    levels = {}
    for first in range(0x250, 0x20000, 0x200):
        letters = [chr(first + number) for number in range(0x200)]
        text = " ".join("".join(letters[start : start + 8]) for start in range(0, 0x200, 8))
        levels[hex(first)] = estimate(text).complexity
    assert {first: level for first, level in levels.items() if level != 5} == {}


def test_noise() -> None:
    """Noise of any kind and length, with lone surrogates, gets an estimate within the ranges."""
    source = random.Random(7)
    for _ in range(300):
        highest = source.choice([0x80, 0x100, 0x3000, 0x110000])
        text = "".join(chr(source.randrange(highest)) for _ in range(source.randrange(400)))
        result = estimate(text, system=text[:50])
        assert 1 <= result.complexity <= 10
        assert 0 <= result.score <= 1
        assert 0 <= result.confidence <= 1


@pytest.mark.parametrize(
    "text",
    [
        *("x" * 300_000, "\ud800" * 150_000, "\x00" * 150_000, "(" * 150_000, "\n" * 150_000),
        *("\u6f22" * 150_000, "very hard " * 20_000, "$a\\" * 50_000, "1/2 - " * 30_000),
    ],
    ids=lambda text: ascii(text[:6]),
)
def test_huge(text: str) -> None:
    """A huge prompt never goes to the small tier."""
    assert 5 <= estimate(text).complexity <= 10


def test_full_length() -> None:
    """The full length counts, though only the head and the tail are scanned."""
    text = "The committee met and talked about the garden. "
    sizes = [SCANNED, 20_000, 100_000, 400_000]
    scores = [estimate((text * 10_000)[:size]).score for size in sizes]
    assert scores == sorted(set(scores))
    assert estimate(text * 3 + "x " * 10**6 + "Why?").complexity >= 5


def test_scale_follows_the_score() -> None:
    """A prompt with a higher score never has a lower complexity."""
    source = random.Random(3)
    words = " ".join(RANGES).split()
    random_texts = [" ".join(source.choices(words, k=source.randrange(60))) for _ in range(300)]
    results = [estimate(prompt) for prompt in [*RANGES, *THIN, *FOREIGN, *random_texts]]
    results.sort(key=lambda each: each.score)
    levels = [each.complexity for each in results]
    assert levels == sorted(levels)
    assert len(set(levels)) > 5
    assert len({each.score for each in results}) > 200


def test_talk_about_itself() -> None:
    """Naming a complexity, or talking to the router, moves a prompt by at most one step."""
    moved = {}
    for prompt in RANGES:
        plain = estimate(prompt).complexity
        for talk in TALK:
            for text in (
                f"{talk} {prompt}",
                f"{prompt} {talk}",
                f"{talk}\n{prompt}",
                f"{prompt}\n\n{talk}",
            ):
                moved[text] = estimate(text).complexity - plain
    assert {text: distance for text, distance in moved.items() if abs(distance) > 1} == {}


def test_talk_in_other_words() -> None:
    """A sentence that is mostly about the difficulty moves a prompt by at most one step."""
    source = random.Random(5)
    words = "level model hard tricky score rate 10 999 7/10 (1) x=9 please for it quickly zounds"
    for _ in range(300):
        talk = " ".join(source.choices(words.split(), k=source.randrange(2, 12)))
        for prompt in (PLAIN, *list(RANGES)[-4:]):
            plain, result = estimate(prompt), estimate(f"{prompt}\nThis model is {talk}.")
            assert abs(result.complexity - plain.complexity) <= 1, talk


def test_work_beside_talk() -> None:
    """Work is rated the same, whatever a sentence before it says about it."""
    proof = "Prove that every finite group of prime order is cyclic."
    for talk in ("This is easy.", "A small model can do that.", "Complexity: 1.", "Be quick:"):
        assert estimate(f"{talk} {proof}").complexity >= 8


@pytest.mark.parametrize("stated", ["This is a 10/10.", "10/10", "Difficulty: 9 out of 10."])
def test_stated_number(stated: str) -> None:
    """A number that a prompt states for itself makes no difference at all."""
    for prompt in RANGES:
        plain, result = estimate(prompt), estimate(f"{stated}\n{prompt}")
        assert (result.score, result.reasons[1:]) == (plain.score, plain.reasons)


def test_talk_alone() -> None:
    """A prompt that only talks about itself is medium."""
    assert estimate("This is a complexity 1 task.").complexity == 5
    assert estimate("This is a complexity 10 task, use the best model.").complexity == 5


@pytest.mark.parametrize(
    "work",
    [
        "What is the time complexity of merge sort?",
        "Configure a router with two VLANs.",
        "Use the relational model to describe a library.",
        "Explain why hard water is bad for kettles.",
        "Summarise the novel. Use simple words, and no complex sentences.",
        "Tom ate 3/10 of the cake, and gave 2 out of 10 sweets away. How many are left?",
        "Each of the first 5 of 100 guests gets a rose. The rest get two. How many roses are it?",
    ],
)
def test_work_that_sounds_like_talk(work: str) -> None:
    """Work that only sounds like talk about difficulty is not ignored."""
    assert "ignores what the prompt says about its own difficulty" not in estimate(work).reasons


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("Prove that the square root of two is irrational.", "asks for a proof"),
        ("Design a database for a library.", "asks for a design"),
        ("Refactor my parser, please.", "asks for a program"),
        ("Write a script that renames my photos.", "asks for a program"),
        (PLAIN, "short (6 words)"),
        ("What is 2+2?", "short (3 words)"),
        ("Spell 'accommodate'.", "short (2 words)"),
        ("Thirty boxes of 12 cost $60. What do half a dozen boxes cost?", "numbers (5)"),
        ("Which of them did not, and could not, sign? None?", "negations (3)"),
        (
            "Which gas do plants take in?\nA. Oxygen\nB. Carbon dioxide",
            "options to choose from (2)",
        ),
        (
            "This is a complexity 9 task. What is it?",
            "ignores what the prompt says about its own difficulty",
        ),
        ("```\nfor (;;) {\n  run();\n}\n```\nWhat does this code print, and when?", "code"),
        ("The garden was green and the house was old. " * 40, "long (360 words)"),
    ],
)
def test_reasons(prompt: str, reason: str) -> None:
    """The reasons name the features that mattered, in plain words."""
    assert reason in estimate(prompt).reasons


def test_reported_instruction() -> None:
    """A proof that somebody else has to give is not a request for one."""
    text = "The plaintiff must prove negligence to win. Who wins if the tenant was not at fault?"
    assert "asks for a proof" not in estimate(text).reasons


@pytest.mark.parametrize("prompt", [PLAIN, "", "你好 请问法国的首都是哪里"])
def test_extras(prompt: str) -> None:
    """Attachments, tools, a schema and a long system prompt make it harder, and are reasons."""
    plain = estimate(prompt)
    loaded = [
        estimate(prompt, attachments=1),
        estimate(prompt, attachments=3),
        estimate(prompt, tools=1),
        estimate(prompt, tools=5),
        estimate(prompt, schema=True),
        estimate(prompt, system="Be kind. " * 1000),
    ]
    assert all(each.score > plain.score for each in loaded)
    assert all(each.complexity >= plain.complexity for each in loaded)
    firsts = [each.reasons[0].split(" (")[0] for each in loaded]
    assert firsts == [
        *(
            "attachments",
            "attachments",
            "tools",
            "tools",
            "a schema for the answer",
            "a long context",
        )
    ]


def test_short_system_prompt() -> None:
    """The content of a system prompt makes no difference."""
    assert estimate(PLAIN, system="Prove everything step by step.") == estimate(PLAIN)


def test_confidence() -> None:
    """A clear case has more confidence than one near the middle."""
    proof, middle = "Prove that every finite group of prime order is cyclic.", "Implement a stack."
    assert estimate(proof).confidence > estimate(middle).confidence > 0


def test_same_everywhere() -> None:
    """Another process with another hash seed gives exactly the same estimates."""
    prompts = list(RANGES)
    code = (
        "import sys, llm_tiered.estimator as e\n"
        f"sys.stdout.write(repr([e.estimate(p) for p in {prompts!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == repr([estimate(prompt) for prompt in prompts])


def test_imports_nothing() -> None:
    """An estimate and learning import only the standard library, so numpy need not be installed."""
    code = (
        "import sys, llm_tiered\n"
        "before = set(sys.modules)\n"
        "from llm_tiered.estimator import estimate\n"
        "estimate('Prove that this is a hard task with 2+2=4.', tools=2)\n"
        "estimate('What is it? This is a hard task.', coefficients=None)\n"
        "from llm_tiered.estimator import changes, examples, learning, model, refit\n"
        "sums = [refit.Example.of(f'What is {n} + 4 = x?', too_hard=n < 6) for n in range(12)]\n"
        "assert learning.learn(sums, model.shipped()).coefficients\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "sys.stdout.write(' '.join(sorted(new - sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout in ("", "llm_tiered")


def test_prompt_in_the_messages() -> None:
    """A prompt that is also the last message counts once."""
    for prompt in RANGES:
        assert estimate(prompt, messages=[llm.user(prompt)]) == estimate(prompt)


def test_is_a_value() -> None:
    """An estimate is equal by content, and can't be changed."""
    result = estimate(PLAIN)
    assert result == Estimate(result.score, result.complexity, result.confidence, result.reasons)
    with pytest.raises(AttributeError):
        result.score = 1.0  # type: ignore[misc]  # that is the point
