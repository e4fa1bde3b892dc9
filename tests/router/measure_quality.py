"""Which signals of the judge fire on answers of a real model that are right, and on wrong ones.

    python -m tests.router.measure_quality [--model smollm2] [--max-tokens 48]

asks questions whose answers are known, sees which are right, and prints for each signal how many
of the right answers it would send up (false alarms) and how many of the wrong ones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from typing import Any

import click
import llm

from llm_tiered.router.quality import judge

# Prompt, and what a right answer holds.
QUESTIONS = (
    ("What is the capital of France?", "paris"),
    ("What is the capital of Japan?", "tokyo"),
    ("What is the capital of Italy?", "rome"),
    ("What colour is the sky on a clear day?", "blue"),
    ("How many days are in a week?", r"7|seven"),
    ("What is the opposite of hot?", "cold"),
    ("Which animal barks: a cat or a dog?", "dog"),
    ("What do bees make?", "honey"),
    ("What is frozen water called?", "ice"),
    ("Which planet do we live on?", "earth"),
    ("Who wrote Romeo and Juliet?", "shakespeare"),
    ("What is the largest ocean?", "pacific"),
    ("How many legs does a spider have?", r"\b8\b|eight"),
    ("What is the chemical symbol of gold?", r"\bau\b"),
    ("What is 2+2?", r"\b4\b|four"),
    ("What is 17 times 23?", r"\b391\b"),
    ("What is 144 divided by 12?", r"\b12\b|twelve"),
    ("Spell 'banana' backwards.", "ananab"),
    ("How many letters r are in 'strawberry'?", r"\b3\b|three"),
    ("Which year did the Berlin Wall fall?", "1989"),
    ("What is the square root of 169?", r"\b13\b|thirteen"),
    ("Who was the 16th president of the United States?", "lincoln"),
    ("What is the capital of Burkina Faso?", "ouagadougou"),
    ("Which notes make up the tritone substitution of G7?", r"d(b|\u266d|-flat| flat)7"),
    ("What is the boiling point of nitrogen in kelvin?", r"\b77"),
    ("Which element has the atomic number 74?", "tungsten|wolfram"),
    ("What is the derivative of x**3?", r"3 ?x(\^|\*\*|\u00b2)"),
    ("Translate 'good morning' into Welsh.", "bore da"),
    ("Who proved Fermat's last theorem?", "wiles"),
    ("What is the twelfth prime number?", r"\b37\b"),
)


async def main() -> None:
    """Ask, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--json", action="store_true", help="print each answer as well")
    given = parser.parse_args()
    model = llm.get_async_model(given.model)
    asked = [
        model.prompt(prompt, temperature=0, max_tokens=given.max_tokens) for prompt, _ in QUESTIONS
    ]
    texts = await asyncio.gather(*(response.text() for response in asked))
    rows: list[dict[str, Any]] = []
    for (prompt, expected), response, text in zip(QUESTIONS, asked, texts, strict=True):
        facts: Any = response.response_json or {}
        verdict = judge(text, facts, None)
        rows.append(
            {
                "prompt": prompt,
                "answer": text,
                "right": bool(re.search(expected, text, re.IGNORECASE)),
                "signal": verdict and verdict.reason,
                "mean": facts.get("mean_logprob"),
                "decile": facts.get("decile_logprob"),
            }
        )
    if given.json:
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    for right in (True, False):
        some = [row for row in rows if row["right"] is right]
        fired = [row["signal"] for row in some if row["signal"]]
        click.echo(f"{'right' if right else 'wrong'}: {len(fired)} of {len(some)} would go up")
        for kind in sorted({re.sub(r"\(.*|after.*", "", reason).strip() for reason in fired}):
            click.echo(f"  {sum(reason.startswith(kind) for reason in fired)} {kind}")


if __name__ == "__main__":
    asyncio.run(main())
