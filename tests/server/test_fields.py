"""The fields of a request: what they mean, which are ignored, and mistakes in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.server.body import parse
from llm_tiered.server.failure import ApiError
from llm_tiered.server.fields import Chat, read

if TYPE_CHECKING:
    from llm_tiered.server.fields import Asked
    from tests.server.conftest import Client
    from tests.toys import Toys

KNOWN = {"complexity", "temperature", "max_tokens", "cache", "local_only", "stop", "top_k"}
MESSAGES = [{"role": "user", "content": "Hello"}]
FUNCTION = {"type": "function", "function": {"name": "add"}}


def asked(headers: dict[str, str] | None = None, **body: Any) -> Asked:
    """What a body and headers ask for."""
    whole = {"model": "tiered", "messages": MESSAGES} | body
    return read(Chat(whole), list((headers or {}).items()), KNOWN)


def mistake(headers: dict[str, str] | None = None, **body: Any) -> str:
    """The param of the error for a body, and its message."""
    with pytest.raises(ApiError) as caught:
        asked(headers, **body)
    assert caught.value.status == 400
    return f"{caught.value.param}: {caught.value.message}"


def test_options() -> None:
    """Options come from the body, else from headers; nulls are no options."""
    given = asked(
        {"X-Tiered-Complexity": "3", "x-tiered-cache": "1"}, complexity=6, temperature=None
    )
    assert given.options == {"complexity": 6, "cache": "1"}
    assert given.ignored == []


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        ({"max_tokens": 3}, 3),
        ({"max_tokens": 3, "max_completion_tokens": 5}, 5),
        ({"max_completion_tokens": 0}, 0),
        ({"max_tokens": None}, None),
    ],
)
def test_limit(body: dict[str, Any], limit: int | None) -> None:
    """Both names of the limit are known, and the newer one holds."""
    assert asked(**body).options.get("max_tokens") == limit


def test_ignored() -> None:
    """Unknown fields are named, unless they ask for nothing."""
    given = asked(
        {"x-tiered-colour": "red", "x-request-id": "7"},
        user="me",
        store=False,
        logit_bias={},
        presence_penalty=0.5,
        frequency_penalty=0.0,
        seed=None,
        messages=[{"role": "user", "content": "Hello", "name": "me"}],
    )
    assert given.ignored == ["messages.name", "presence_penalty", "user", "x-tiered-colour"]


@pytest.mark.parametrize("value", [True, 1, "true", "1", "yes"])
@pytest.mark.parametrize(("name", "kept"), [("local_only", "here"), ("private", "own")])
def test_privacy(name: str, kept: str, value: Any) -> None:
    """Each field keeps a prompt, in the body or in the headers, whatever the other says."""
    assert asked(**{name: value}).kept == kept
    header = f"x-tiered-{name.replace('_', '-')}"
    assert asked({header: str(value)}, **{name: False}).kept == kept
    assert asked({header: "false"}, **{name: value}).kept == kept
    assert asked({header: "0"}, **{name: None}).kept is None


def test_the_stricter_field_holds() -> None:
    """What stays on this machine may not go to others of the user's, wherever that is said."""
    assert asked(local_only=True, private=True).kept == "here"
    assert asked({"x-tiered-local-only": "1"}, private=True).kept == "here"
    assert asked({"x-tiered-private": "1"}, local_only=True).kept == "here"


@pytest.mark.parametrize(
    "body",
    [
        {"localOnly": True},
        {"local-only": False},
        {"local": True},
        {"loca_only": True},
        {"locl_only": True},
        {"privat": True},
        {"privte": 1},
        {"privacy": "high"},
        {"PRIVATE": None},
        {"extra_body": {"local_only": True}},
        {"metadata": {"options": [{"private": True}]}},
        {"messages": [{"role": "user", "content": "Hello", "local_only": True}]},
        {"stream_options": {"private": True}},
        {"zdr": True},
        {"provider": {"data_collection": "deny"}},
        {"confidential": 1},
        {"noLog": True},
    ],
)
def test_no_privacy_field_is_dropped(body: dict[str, Any]) -> None:
    """What might be about privacy and is not understood is an error."""
    assert "privacy" in mistake(**body)


@pytest.mark.parametrize("body", [{"local_only": "perhaps"}, {"private": {}}])
def test_no_wrong_value_is_dropped(body: dict[str, Any]) -> None:
    """A field about privacy says yes or no."""
    assert "expected true or false" in mistake(**body)


@pytest.mark.parametrize(
    "name",
    ["x-tiered-localonly", "X-Tiered-Privat", "x-local-only", "x-tierd-private", "X-Tiered_Local"],
)
def test_no_privacy_header_is_dropped(name: str) -> None:
    """Nor is a header dropped that might be about privacy."""
    assert "privacy" in mistake({name: "1"})


@pytest.mark.parametrize(
    "body",
    [
        {"locale": "de", "location": {"city": "Rome"}, "provider": 1, "prompt_cache_key": "x"},
        {"prediction": {"type": "content"}, "parallel_tool_calls": False, "localtime": 1},
        {"tools": [FUNCTION | {"function": {"name": "private", "parameters": {}}}]},
        {"zdr": False, "provider": {"data_collection": "allow"}},
    ],
)
def test_other_fields_are_not_about_privacy(body: dict[str, Any]) -> None:
    """Fields with similar names, and names in tools, are what they are."""
    assert asked(**body).kept is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": 3}, "model"),
        ({"model": None}, "model"),
        ({"n": 2}, "n"),
        ({"n": "1"}, "n"),
        ({"n": 0}, "n"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": "2"}, "top_logprobs"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"stop": [3]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a"] * 65}, "stop"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": 3}}}},
            "response_format.json_schema.schema",
        ),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0]"),
        ({"tools": [FUNCTION, FUNCTION]}, "tools"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": 1}}}]},
            "tools[0].function.parameters",
        ),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "always"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "sub"}}}, "tool_choice"),
    ],
)
def test_mistakes(body: dict[str, Any], param: str) -> None:
    """A mistake is an error that names the field."""
    assert mistake(**body).startswith(f"{param}: ")


def test_empty_response_format() -> None:
    """Null and the form of text ask for no JSON."""
    assert asked(response_format=None).schema is None
    assert asked(response_format={"type": "text"}).schema is None


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b'{"a": NaN}', "NaN is not a number"),
        (b'{"local_only": true, "local_only": false}', "'local_only' is there twice"),
        (b'{"a": "\\ud800"}', "not valid Unicode"),
        (b'{"a": "\xff"}', "not valid Unicode"),
        (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_wrong_json(data: bytes, problem: str) -> None:
    """A body that is not one JSON object, read in one way only, is an error."""
    with pytest.raises(ApiError, match=problem):
        parse(data)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"complexity": 11}, "complexity"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"fallback": "some"}, "fallback"),
        ({"seed": -1}, "seed"),
        ({"tier": "medium"}, "tier"),
    ],
)
def test_wrong_options(client: Client, body: dict[str, Any], param: str) -> None:
    """An option with a wrong value is an error that names it."""
    response = client.post(**body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize("body", [{"tier": "huge"}, {"task": "cooking"}])
def test_unknown_names(client: Client, body: dict[str, Any]) -> None:
    """A tier or task that is not there is an error of the request."""
    assert client.error(model="tiered", **body)[:2] == (400, "invalid_request")


def test_fields_of_tiered(client: Client, toys: Toys) -> None:
    """The fields of `tiered` decide where a request goes; a local model has no use for them."""
    response = client.post(model="tiered", complexity=6, user="me")
    assert response.headers["x-tiered-model"] == "mlx/toy-medium"
    assert response.headers["x-tiered-reason"] == "complexity 6, and medium covers 5-7"
    assert response.headers["x-tiered-ignored"] == "user"
    by_header = client.post({"x-tiered-tier": "medium"}, model="tiered")
    assert by_header.headers["x-tiered-source"] == "tier"
    direct = client.post(model="mlx/toy-small", complexity=6, local_only=True)
    assert direct.headers["x-tiered-ignored"] == "complexity"
    assert "x-tiered-tier" not in direct.headers
