"""Where the models of tiers run, and what the config may say about them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.config.file import parse
from llm_tiered.config.price import ConfigPrice
from llm_tiered.config.settings import load_settings, settings_of
from llm_tiered.config.tiers import Tier
from llm_tiered.errors import ConfigError
from tests.tiers import CLOUD, SMALL, tiers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SERVER = "server: 'http://gpu-box:8000/v1'"

# What a tier says beside its name and complexity, with the place that its model then has.
PLACES = [
    ("model: phi", "here"),
    ("model: mlx/anything", "here"),
    ("model: phi, place: here", "here"),
    ("model: gemini/gemini-flash-latest", "cloud"),
    ("model: llama3.2", "cloud"),
    ("model: llama3.2, place: here", "here"),
    ("model: llama3.2, place: own", "own"),
    ("model: llama3.2, place: ", "cloud"),
    ("model: 'glm-4.6:cloud'", "cloud"),
    (f"model: phi, {SERVER}", "cloud"),
    (f"model: phi, {SERVER}, place: own", "own"),
    ("model: m, server: 'http://localhost:8000/v1/'", "here"),
    ("model: m, server: 'http://LOCALHOST:8000'", "here"),
    ("model: m, server: 'http://model.localhost:8000'", "here"),
    ("model: m, server: 'https://127.3.2.1:8000/v1'", "here"),
    ("model: m, server: 'http://[::1]:8000/v1'", "here"),
    ("model: m, server: 'http://[::ffff:127.0.0.1]:8000/v1'", "here"),
    ("model: m, server: 'http://[::ffff:10.0.0.1]:8000/v1'", "cloud"),
    ("model: m, server: 'unix:///run/model.sock'", "here"),
    ("model: m, server: ['unix:///run/a.sock', 'http://127.0.0.1:1']", "here"),
    ("model: m, server: ['unix:///run/a.sock', 'http://gpu-box:1']", "cloud"),
    ("model: m, server: 'http://127.0.0.1:8000', place: own", "own"),  # a tunnel
    ("model: m, server: 'http://192.168.1.7:8000/v1'", "cloud"),
    ("model: m, server: 'http://127.1:8000/v1'", "cloud"),
    ("model: m, server: 'http://localhost.example.com/v1'", "cloud"),
    ("model: 'gpt-oss:120b-cloud', server: 'http://127.0.0.1:11434/v1'", "cloud"),
]

MISTAKES = [
    (f"model: tiered, {SERVER}", ["can't be tiered itself"]),
    ("model: phi, place: own", ["found place: own, but mlx/Phi-3.5", "on this machine"]),
    ("model: mlx/x, place: cloud", ["found place: cloud, but mlx/x runs on this machine"]),
    ("model: m, place: there", ["tiers[1].place: found 'there', expected here, own or cloud"]),
    (f"model: m, {SERVER}, place: here", ["place: here, but http://gpu-box:8000/v1 is not known"]),
    ("model: m, server: 'http://127.1', place: here", ["http://127.1 is not known"]),
    ("model: 'x:120b-cloud', place: here", ["Ollama runs x:120b-cloud in its own cloud"]),
    ("model: 'x:cloud', server: 'http://[::1]', place: own", ["Ollama runs x:cloud"]),
    ("model: m, server: gpu-box", ["tiers[1].server", "did you mean http://gpu-box?"]),
    ("model: m, server: 'gpu-box:80/v1'", ["no scheme; did you mean http://gpu-box:80/v1?"]),
    ("model: m, server: 'localhost:80'", ["no scheme; did you mean http://localhost:80?"]),
    ("model: m, server: 'ftp://gpu-box'", ["found 'ftp://gpu-box'", "such as http://gpu-box"]),
    ("model: m, server: 'http://'", ["found 'http://'", "such as http://gpu-box"]),
    ("model: m, server: 'http://a b'", ["found 'http://a b'", "such as http://gpu-box"]),
    ("model: m, server: 'http://a:99999'", ["found 'http://a:99999': port out of range"]),
    ("model: m, server: 'http://a:x'", ["found 'http://a:x': port could not be cast"]),
    ("model: m, server: 'http://[::1'", ["found 'http://[::1': invalid IPv6 URL"]),
    ("model: m, server: 'http://a/v1?key=1'", ["found more after 'http://a/v1', expected"]),
    ("model: m, server: 'http://a..b'", ["found 'http://a..b'", "such as http://gpu-box"]),
    ('model: m, server: "http://a\\x01b"', ["found 'http://a\\x01b'"]),
    ("model: m, server: 'http://0.0.0.0:8000/v1'", ["for this machine write 127.0.0.1"]),
    ("model: m, server: 'http://a/v1/chat/completions'", ["address before that: http://a/v1"]),
    ("model: m, server: 'unix://run/a.sock'", ["a path such as unix:///run/model.sock"]),
    ("model: m, server: []", ["found [], expected an address"]),
    ("model: m, server: 5", ["found 5, expected an address"]),
    ("model: m, server: ['http://a', 'http://a/']", ["http://a is in the list twice"]),
    ("model: m, key: a", ["found key, which needs server"]),
    ("model: m, concurrency: 2", ["found concurrency, which needs server"]),
    (f"model: m, {SERVER}, concurrency: 0", ["tiers[1].concurrency: found 0", "equal to 1"]),
    (f"model: m, {SERVER}, concurrency: lots", ["found 'lots', expected a whole number from 1"]),
    (f"model: m, {SERVER}, key: ''", ["tiers[1].key: found ''"]),
    ("model: m, price: 5", ["tiers[1].price: found 5, expected {input: 0.10, output: 0.40}"]),
    ("model: m, price: {input: 1}", ["price: found {'input': 1}", "output: 0.40"]),
    ("model: m, price: {input: 1, output: x}", ["'output': 'x'", "dollars per million tokens"]),
    ("model: m, price: {input: 1, output: true}", ["'output': True"]),
    ("model: m, price: {input: 1, output: -1}", ["'output': -1"]),
    ("model: m, price: {input: 1, output: .nan}", ["'output': nan"]),
    ("model: m, price: {input: 1, output: .inf}", ["'output': inf"]),
    ("model: m, price_per_hour: lots", ["price_per_hour: found 'lots', expected dollars"]),
    ("model: m, price_per_hour: -1", ["price_per_hour: found -1"]),
    ("model: m, price: {input: 1, output: 1}, price_per_hour: 1", ["expected only one of them"]),
]


def _document(rest: str) -> str:
    small = SMALL.replace("1-4", "1-3")
    return tiers(small, f"{{name: medium, complexity: 4-7, {rest}}}", CLOUD)


def _config(config_file: Path, rest: str) -> Mapping[str, Any]:
    config_file.write_text(_document(rest), "utf-8")
    return parse(config_file)


def test_places(config_file: Path) -> None:
    """A tier has the place that the config says, or else the usual one of such a model."""
    found = []
    for rest, _ in PLACES:
        tier = settings_of(_config(config_file, rest), "it").tier("medium")
        assert tier
        found.append((rest, tier.place))
    assert found == PLACES


def test_mistakes(config_file: Path) -> None:
    """Each mistake names the file and says what is wrong."""
    wrong = []
    for rest, parts in MISTAKES:
        with pytest.raises(ConfigError) as caught:
            settings_of(_config(config_file, rest), "it")
        message = str(caught.value)
        if not message.startswith("it: tiers[1]") or any(part not in message for part in parts):
            wrong.append((rest, parts, message))
    assert wrong == []


def test_a_password_in_an_address_is_not_repeated(config_file: Path) -> None:
    """The error says what to do instead, without the password."""
    addresses = ["http://me:sesame@box/v1", "me:sesame@box", "http://me:sesame@box:99999"]
    for address in (*addresses, "ftp://me:sesame@box", "http://me:sesame@a b", "http://sesame@"):
        config_file.write_text(_document(f"model: m, server: '{address}'"), "utf-8")
        with pytest.raises(ConfigError, match="llm keys set") as caught:
            load_settings()
        assert "sesame" not in str(caught.value)


def test_the_model_of_a_server_has_an_id_of_its_own(config_file: Path) -> None:
    """Two tiers on one server are two models, and an alias in llm means nothing to a server."""
    text = tiers(
        SMALL,
        "{name: medium, complexity: 5-7, model: qwen, server: 'http://[::1]:8000/v1'}",
        "{name: big, complexity: 8-10, model: org/qwen, server: 'http://[::1]:8000/v1'}",
    )
    config_file.write_text(text, "utf-8")
    ids = [tier.model_id for tier in load_settings().tiers]
    assert ids == ["mlx/Phi-3.5-mini-instruct-4bit", "server/medium/qwen", "server/big/org/qwen"]


def test_prices(config_file: Path) -> None:
    """A price is per million tokens, or per hour."""
    by_token, by_hour = (
        settings_of(_config(config_file, f"model: m, {rest}"), "it").tier("medium")
        for rest in ("price: {input: 0.1, output: '1e-2'}", "price_per_hour: 1.20")
    )
    assert by_token
    assert by_token.answer_price == ConfigPrice(Decimal("0.1"), Decimal("0.01"))
    assert by_hour
    assert by_hour.answer_price == ConfigPrice(hour=Decimal("1.2"))


def test_what_the_config_says_is_what_is_written() -> None:
    """A tier that is written and read again is the same, and nothing is added to it."""
    said = {
        "name": "big",
        "complexity": "8-10",
        "model": "m",
        "server": ["http://a", "http://b"],
        "place": "own",
        "price": {"input": "0.10", "output": "0.40"},
        "concurrency": 64,
        "options": {},
        "escalate": False,
    }
    assert Tier.model_validate(said).model_dump(mode="json") == said
    del said["place"]
    assert Tier.model_validate(said).model_dump(mode="json") == said


def test_model_of_another_machine_that_serves_tiered() -> None:
    """`llm tiered serve` elsewhere has models with the same names; they do not run here."""
    tier = Tier.model_validate(
        {"name": "big", "complexity": "1-10", "model": "mlx/x", "server": "http://studio:8000"}
    )
    assert (tier.model_id, tier.place) == ("server/big/mlx/x", "cloud")
