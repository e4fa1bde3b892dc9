"""Keys are kept out of messages, and everything else stays in them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from llm_tiered.redaction import HIDDEN, redact
from llm_tiered.router.keys import known_keys
from tests.cli.commands import invoke
from tests.router.services import CLAUDE, FLASH, GPT, LOCAL, SERVER, model

if TYPE_CHECKING:
    from pathlib import Path

# Keys of nobody, in the forms of their providers.
KEYS = {
    "google": "AIza" + "SyA0123456789_abcdefghij-ABCDEFGHIJ",
    "google, new": "AQ." + "Ab8RN6Ksecret-0123456789_abcdefghij",
    "openai": "sk-" + "proj-Zm9vYmFy0123456789abcdefghijkl",
    "anthropic": "sk-ant-" + "api03-Zm9vYmFy0123456789_abcdefgh-AA",
    "other": "Zm9vYmFyMDEyMzQ1Njc4OQ",
    "with signs": "p4ss/w+rd=&%é!\"'0123",
}
# A sentence with a key, whole or not, in which `{}` stands for it.
PLACES = (
    "Incorrect API key provided: {}.",
    '"{}" is no key',
    "https://service.example/v1?key={}&alt=sse failed",
    "Illegal header value b'{}'",
    "x-api-key: {}",
    "authorization: Bearer {} was refused",
    "{}",
)


def test_known_keys_are_hidden() -> None:
    """A known key is hidden in any place, also as URLs, JSON and Python spell it."""
    shown = []
    for key in KEYS.values():
        for spelled in {
            key,
            quote(key, safe=""),
            quote(key),
            json.dumps(key)[1:-1],
            repr(key)[1:-1],
        }:
            for place in PLACES:
                text = redact(place.format(spelled), KEYS.values())
                if spelled in text or HIDDEN not in text or key[:12] in text or key[-12:] in text:
                    shown.append((place, spelled, text))
    assert shown == []


def test_keys_are_known_by_their_form() -> None:
    """A key of a well-known form is hidden even if nothing declares it to be one."""
    for name in ("google", "google, new", "openai", "anthropic"):
        for place in PLACES:
            assert redact(place.format(KEYS[name])) == place.format(HIDDEN), (name, place)


@pytest.mark.parametrize(
    "text",
    [
        "GET https://service.example/?api_key={}",
        "GET https://service.example/?alt=sse&access_token={}",
        "headers: {{'x-api-key': '{}'}}",
        "x-goog-api-key: {}",
        "Client(api_key='{}')",
        "authorization: Bearer {}",
    ],
)
@pytest.mark.parametrize("key", ["Zm9vYmFyMDEyMzQ1", "0a1b2c3d4e5f6071"])
def test_keys_are_known_by_their_names(text: str, key: str) -> None:
    """What is sent under the name of a key is one, whatever it looks like."""
    assert redact(text.format(key)) == text.format(HIDDEN)


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ("sk-pr***************ijkl", KEYS["openai"]),
        ("sk-proj-**********", KEYS["openai"]),
        ("Zm9v****Njc4OQ", KEYS["other"]),
        ("Zm9v…c4OQ", KEYS["other"]),
        ("Zm9vYmFy...", KEYS["other"]),
        ("...c4OQ", KEYS["other"]),
        ("Zm9vYmFyMDEy", KEYS["other"]),
        ("YmFyMDEyMzQ1Njc4", KEYS["other"]),
    ],
)
def test_parts_of_keys_are_hidden(said: str, key: str) -> None:
    """What a service repeats of a key is hidden, too."""
    assert redact(f"the key {said} is wrong", [key]) == f"the key {HIDDEN} is wrong"


ORDINARY = (
    "AIza is how Google's keys begin; this is none: AIzaShort",
    "a risk-adjusted, task-specific model: sk-learn 1.5.2, sk-something-else-entirely",
    "https://hf-mirror.com/models/2, hf_transfer 0.1.4, gsk_short, faq.example-service1.com",
    "Bearer authentication required; the bearer-token is missing",
    "The model is overloaded... please try again *** later ***",
    "models/gemini-flash-latest is not found, see https://example.com/v1?alt=sse&page=2",
    "{'error': {'type': 'x-api-key missing'}}, x-api-key: header is required, api_key=None",
    "a test of none, null and 1 against http://localhost:8080",
    "the monkey turned the keyboard; tokens=12, key words, keys: 3",
)


def test_ordinary_text_is_left_alone() -> None:
    """No word is mangled, not even if a stored key is that word, a letter or nothing."""
    keys = ["x", "a", "1", "12", "none", "test", "null", "key", "", None, " "]
    assert [redact(text, keys) for text in ORDINARY] == list(ORDINARY)


def test_passwords_in_urls_are_hidden() -> None:
    """The user and password of a proxy or server are hidden, but not its name and port."""
    text = "407 for http://user:pa55word@proxy:8080, then https://:token@service.example/v1"
    hidden = f"407 for http://{HIDDEN}@proxy:8080, then https://{HIDDEN}@service.example/v1"
    assert redact(text) == hidden
    for plain in ("http://localhost:8080/a@b", "https://service.example:443/?q=a:b@c"):
        assert redact(plain) == plain


def test_short_keys_are_hidden_as_words() -> None:
    """A short key is hidden where it stands alone, but not within other words."""
    keys = ["hunter2", "s3cr", "password"]
    text = "hunter2 is wrong, s3cr too; password 'password' of hunter2000 and s3crets"
    hidden = f"{HIDDEN} is wrong, {HIDDEN} too; {HIDDEN} '{HIDDEN}' of hunter2000 and s3crets"
    assert redact(text, keys) == hidden


def test_known_keys(user_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All stored keys are known, the explicit one, and those in the variables of the models."""
    stored = {"gemini": "stored-gemini", "work": "stored-work", "// Note": "a note"}
    (user_path / "keys.json").write_text(json.dumps(stored))
    monkeypatch.setenv("LLM_GEMINI_KEY", "from-variable")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "of-anthropic")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    own = model("own", "own", key="set-by-a-program")
    keys = known_keys([FLASH, CLAUDE, GPT, SERVER, LOCAL, own], "explicit")
    expected = {
        "stored-gemini",
        "stored-work",
        "explicit",
        "from-variable",
        "of-anthropic",
        "set-by-a-program",
    }
    assert set(keys) == expected
    assert known_keys([], "work") == ["stored-gemini", "stored-work"]


def test_keys_in_headers() -> None:
    """Headers of the user's own models are secret where their names say so."""
    secret = model("custom/gpt", None)
    secret.headers = {
        "X-Auth": "open-sesame-1",
        "Authorization": "Basic c2VzYW1l",
        "X-Title": "llm",
    }
    assert {"open-sesame-1", "c2VzYW1l"} <= set(known_keys([secret]))
    assert not {"Basic", "llm"} & set(known_keys([secret]))


def test_note_of_llm_is_no_key(user_path: Path) -> None:
    """The note in the file of keys, and keys that are phrases, hide no words."""
    invoke("keys", "set", "gemini", "--value", "AQ.key-of-nobody-0123")
    keys = [*known_keys(), "a pass phrase of ordinary words"]
    text = "Request had invalid authentication credentials. Do not share! ordinary words"
    assert redact(f"{text}: AQ.key-of-nobody-0123", keys) == f"{text}: {HIDDEN}"


@pytest.mark.parametrize("content", ["{", "[]", '{"gemini": 1}', "\ud83d"])
def test_damaged_file_of_keys(user_path: Path, content: str) -> None:
    """A damaged file of keys does not hide an error behind another."""
    (user_path / "keys.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    assert known_keys([FLASH], "explicit") == ["explicit"]
