"""What should not leave by accident is found by its known forms and its check digits."""

from __future__ import annotations

import time

from llm_tiered.rules.secrets import secrets_in

# Made up, in the forms that the services document; in pieces, so that no scanner stumbles on them.
KEYS = (
    *("AKIA" + "A1" * 8, "AIza" + "b2" * 17 + "b", "sk-" + "proj-a1b2" * 3, "sk-ant-" + "a1" * 12),
    *("ghp_" + "a1" * 18, "github_pat_" + "A1" * 20, "gsk_" + "a1" * 20, "hf_" + "a1" * 17),
    *("glpat-" + "a1" * 10, "npm_" + "a1" * 18, "xoxb-" + "1" * 12, "sk_live_" + "a1" * 12),
    *("eyJ" + "hbGciOiJIUzI1" + ".eyJ" + "zdWIiOiIxMjM0" + ".c2ln",),
    *("-----BEGIN " + "RSA PRIVATE KEY-----", "-----BEGIN " + "PRIVATE KEY-----"),
    "postgres://app:" + "hunter22@db.example/shop",
)
CARDS = ("4111 1111 1111 1111", "5555-5555-5555-4444", "378282246310005", "6011111111111117")
IBANS = (
    *("DE89 3704 0044 0532 0130 00", "gb29nwbk60161331926819", "NO93 8601 1117 947"),
    *("MT84MALT011000012345MTLCAST001S", "FR14 2004 1010 0505 0001 3M02 606"),
)
HARMLESS = (
    *("", "sk-learn is a library", "the risk-management-department-of-the-bank", "hf_transfer"),
    *("http://localhost:8080/a@b", "mail to me@example.org", "BEGIN PRIVATE KEY is a header"),
    *("ISBN 9783161484100", "1700000000000", "3.14159265358979323846", "0000 0000 0000 0000"),
    *("4111 1111 1111 1112", "41111111111111111111111111", "+49 30 1234567890123"),
    *("DE89 3704 0044 0532 0130 01", "DE89 3704 0044 0532 0130", "XX89370400440532013000"),
    *("123e4567-e89b-12d3-a456-426614174000", "commit 7256550a9f3c2e1d4b5a69788796a5b4c3d2e1f0"),
)


def test_what_is_found() -> None:
    """Each is found alone, within a sentence, and as nothing else."""
    wrong = {}
    for kind, examples in (("keys", KEYS), ("cards", CARDS), ("ibans", IBANS)):
        for example in examples:
            for text in (
                example,
                f"Please use {example}, thanks",
                f"it is\n{example}\nand not",
            ):
                if secrets_in(text) != {kind}:
                    wrong[text] = secrets_in(text)
    assert wrong == {}


def test_what_is_not_found() -> None:
    """Words, numbers and codes of other kinds, and those whose check digits are wrong."""
    assert {text: kinds for text in HARMLESS if (kinds := secrets_in(text))} == {}


def test_each_wrong_digit_is_noticed() -> None:
    """A card number or IBAN with any one digit changed is not valid."""
    missed = []
    for example in (*CARDS, *IBANS):
        for place, character in enumerate(example):
            other = str((int(character) + 1) % 10) if character.isdecimal() else character
            if other != character and secrets_in(example[:place] + other + example[place + 1 :]):
                missed.append((example, place))
    assert missed == []


def test_no_text_takes_long() -> None:
    """Texts that begin like secrets again and again are read in linear time."""
    started = time.monotonic()
    for piece in ("-sk", "eyJ-", "ghp_-", "SG.", "a://b:c", "-----BEGIN A ", "DE12 ", "4111 1112 "):
        secrets_in(piece * (20_000 // len(piece)))
    assert time.monotonic() - started < 2
