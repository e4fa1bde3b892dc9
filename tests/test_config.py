"""The config file and the environment: what holds, and what a mistake is answered with."""

from __future__ import annotations

import os
import tempfile
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llm
import pytest
import yaml

from llm_tiered import config
from llm_tiered.config import Config, Settings, Span, Tier
from llm_tiered.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL = "{name: small, complexity: 1-4, model: phi}"
MEDIUM = "{name: medium, complexity: 5-7, model: qwen}"
CLOUD = "{name: cloud, complexity: 8-10, model: gemini/gemini-flash-latest}"


def _tiers(*tiers: str) -> str:
    return f"tiers: [{', '.join(tiers)}]"


def _spans(settings: Settings) -> list[str]:
    return [str(tier.complexity) for tier in settings.tiers]


def _touch(path: Path) -> None:
    """Make the file a second older, so that its time has changed for sure."""
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - 10**9))


# The defaults and the example


def test_no_file_gives_the_defaults() -> None:
    """Without a file, everything is a default and nothing has another source."""
    assert config.load() == Settings(Config(), None, {})


def test_default_tiers() -> None:
    """Out of the box there is a small, a medium and a cloud tier."""
    assert [
        (tier.name, str(tier.complexity), tier.model, tier.local) for tier in Config().tiers
    ] == [
        ("small", "1-4", "mlx/Phi-3.5-mini-instruct-4bit", True),
        ("medium", "5-7", "mlx/Qwen2.5-7B-Instruct-4bit", True),
        ("cloud", "8-10", "gemini/gemini-flash-latest", False),
    ]


def test_example_file_equals_the_defaults(config_file: Path) -> None:
    """The example file, put in place as it is, changes nothing."""
    example = files("llm_tiered").joinpath("config_example.yaml").read_text("utf-8")
    config_file.write_text(example, "utf-8")
    assert config.load().config == Config()


def test_example_file_shows_every_key() -> None:
    """The example file has every key there is, in the order of the code."""
    example = files("llm_tiered").joinpath("config_example.yaml").read_text("utf-8")
    assert list(yaml.safe_load(example)) == list(Config.model_fields)


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "---\n"])
def test_empty_file_gives_the_defaults(config_file: Path, text: str) -> None:
    """A file that says nothing changes nothing."""
    config_file.write_text(text)
    assert config.load() == Settings()


def test_byte_order_mark_does_not_matter(config_file: Path) -> None:
    """A file that an editor saved with a byte order mark is read like any other."""
    config_file.write_text("fallback: local\n", "utf-8-sig")
    assert config.load().config.fallback == "local"


# What the file says


def test_users_tasks_are_added_to_the_defaults(config_file: Path) -> None:
    """A task of the user's is added, or changes one that is there; the others stay."""
    config_file.write_text("tasks: {haiku: 2, tutorial_generation: 9}")
    expected = config.DEFAULT_TASKS | {"haiku": 2, "tutorial_generation": 9}
    assert config.load().config.tasks == expected


def test_tiers_are_sorted_by_complexity(config_file: Path) -> None:
    """The order of the tiers in the file does not matter."""
    config_file.write_text(_tiers(CLOUD, SMALL, MEDIUM))
    assert [tier.name for tier in config.load().tiers] == ["small", "medium", "cloud"]


def test_tier_of_one_number(config_file: Path) -> None:
    """A range may be a single number."""
    config_file.write_text(
        _tiers(
            "{name: all, complexity: 1 - 9, model: phi}", "{name: top, complexity: 10, model: x}"
        )
    )
    assert _spans(config.load()) == ["1-9", "10"]


def test_memory_limit_is_in_bytes(config_file: Path) -> None:
    """A memory limit is written with its unit and read as bytes."""
    config_file.write_text("memory_limit: 12GB")
    assert config.load().config.memory_limit == 12_000_000_000


@pytest.mark.parametrize("name", ["small", "cloud"])
def test_tier_by_name(name: str) -> None:
    """A tier is found by its name."""
    tier = Settings().tier(name)
    assert tier is not None
    assert tier.name == name


def test_no_tier_of_that_name() -> None:
    """A tier that is not there is None."""
    assert Settings().tier("huge") is None


def test_settings_can_not_be_changed() -> None:
    """Settings are shared by all requests, so nobody can write to them."""
    with pytest.raises(ValueError, match="frozen"):
        config.load().config.local_only = True


@pytest.mark.parametrize(
    ("in_file", "force", "expected"),
    [
        (False, None, False),
        (False, False, False),
        (False, True, True),
        (True, None, True),
        (True, False, True),
        (True, True, True),
    ],
)
def test_local_only_is_never_taken_back(in_file: bool, force: bool | None, expected: bool) -> None:
    """The file and the environment can each keep requests here; neither can loosen that."""
    assert Settings(Config(local_only=in_file), force).local_only is expected


# Names of models


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("phi", "mlx/Phi-3.5-mini-instruct-4bit"),
        ("qwen3", "mlx/Qwen3-8B-4bit"),
        ("smollm2", "mlx/SmolLM2-135M-Instruct"),
        ("mlx/Qwen3-4B-4bit", "mlx/Qwen3-4B-4bit"),
        ("gemini-flash-latest", "gemini-flash-latest"),
        ("mine", "mlx/my-model"),
        ("mlx/my-model", "mlx/my-model"),
        ("my-model", "mlx/my-model"),
    ],
)
def test_aliases_in_tiers_become_ids(config_file: Path, name: str, expected: str) -> None:
    """A tier may name its model as the catalog or the config's own models do."""
    config_file.write_text(
        _tiers(f"{{name: all, complexity: 1-10, model: {name}}}")
        + "\nmodels: [{id: my-model, repo: me/my-model, aliases: [mine]}]"
    )
    assert config.load().tiers[0].model == expected


def test_tier_and_llm_agree_on_an_alias(config_file: Path) -> None:
    """An alias that the config takes from the catalog means the same to a tier and to llm."""
    config_file.write_text(
        _tiers("{name: all, complexity: 1-10, model: phi}")
        + "\nmodels: [{id: mlx/mine, repo: me/mine, aliases: [phi]}]"
    )
    assert config.load().tiers[0].model == llm.get_model("phi").model_id


@pytest.mark.parametrize(
    ("id_", "expected"), [("my-model", "mlx/my-model"), ("mlx/my-model", "mlx/my-model")]
)
def test_users_model_has_the_prefix(config_file: Path, id_: str, expected: str) -> None:
    """The id of a model of the user's begins with mlx/, whether or not it is written so."""
    config_file.write_text(f"models: [{{id: {id_}, repo: me/my-model}}]")
    assert config.load().config.models[0].id == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("my-model", "{folder}/my-model"),
        ("../my-model", "{folder}/../my-model"),
        ("~/models/my-model", "{home}/models/my-model"),
        ("/models/my-model", "/models/my-model"),
    ],
)
def test_path_of_a_model(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, path: str, expected: str
) -> None:
    """A path is relative to the config's folder, and ~ is the home directory."""
    monkeypatch.setenv("HOME", "/home/somebody")
    config_file.write_text(f"models: [{{id: my-model, path: {path}}}]")
    wanted = Path(expected.format(folder=config_file.parent, home="/home/somebody"))
    assert config.load().config.models[0].path == wanted
    assert config.declared_models()[0].path == wanted


# Mistakes in the file

MISTAKES = [
    ("teirs: []", ["teirs: unknown key", "did you mean 'tiers'"]),
    ("zebra: red", ["zebra: unknown key", *Config.model_fields]),
    (
        _tiers(SMALL, MEDIUM, CLOUD.replace("}", ", optoins: {}}")),
        ["tiers[2].optoins: unknown key", "did you mean 'options'"],
    ),
    (
        _tiers(SMALL, MEDIUM, CLOUD.replace("}", ", colour: red}")),
        ["tiers[2].colour: unknown key", *Tier.model_fields],
    ),
    (
        "models: [{id: x, repo: a/b, alias: [x]}]",
        ["models[0].alias: unknown key", "did you mean 'aliases'"],
    ),
    (
        "models: [{id: x, repo: a/b, colour: red}]",
        ["models[0].colour: unknown key", *config.UserModel.model_fields],
    ),
    (_tiers(SMALL, MEDIUM, "{name: cloud, complexity: 8-10}"), ["tiers[2]", "'model' is missing"]),
    (_tiers(SMALL, MEDIUM, "{name: cloud, model: x}"), ["tiers[2]", "'complexity' is missing"]),
    ("models: [{repo: a/b}]", ["models[0]", "'id' is missing"]),
    ("tiers: []", ["tiers:", "complexity 1;", "each of 1-10"]),
    ("tiers: small", ["tiers:", "'small'"]),
    (
        _tiers(SMALL.replace("1-4", "1-5"), MEDIUM, CLOUD),
        ["tiers:", "complexity 5", "small and medium"],
    ),
    (_tiers(SMALL.replace("1-4", "1-3"), MEDIUM, CLOUD), ["tiers:", "complexity 4", "1-10"]),
    (_tiers(SMALL, MEDIUM), ["tiers:", "complexity 8", "1-10"]),
    *[
        (
            _tiers(SMALL.replace("1-4", span), MEDIUM, CLOUD),
            ["tiers[0].complexity", repr(span), "such as '1-4' within 1-10"],
        )
        for span in ("0-4", "4-1", "1-11", "low", "1-4-7", "1.5-4")
    ],
    (
        _tiers(SMALL, MEDIUM.replace("name: medium", "name: small"), CLOUD),
        ["tiers:", "same name", "small, small, cloud"],
    ),
    (_tiers(SMALL.replace("small", "Small"), MEDIUM, CLOUD), ["tiers[0].name", "'Small'", "a-z"]),
    ("memory_limit: lots", ["memory_limit", "'lots'", "GB"]),
    ("memory_limit: 12 parsecs", ["memory_limit", "'12 parsecs'", "GB"]),
    ("memory_limit: -5", ["memory_limit", "-5", "GB"]),
    ("memory_limit: 0", ["memory_limit", "0"]),
    ("tasks: {haiku: 11}", ["tasks", "haiku", "found 11", "1 to 10"]),
    ("tasks: {haiku: 0}", ["tasks", "haiku", "found 0", "1 to 10"]),
    ("tasks: {haiku: hard}", ["tasks.haiku", "found 'hard'", "integer"]),
    ("tasks: [haiku]", ["tasks", "found ['haiku']", "dictionary"]),
    ("default_complexity: 11", ["default_complexity", "found 11", "10"]),
    ("default_complexity: 0", ["default_complexity", "found 0", "1"]),
    ("fallback: maybe", ["fallback", "found 'maybe'", "'any', 'local' or 'none'"]),
    ("local_only: perhaps", ["local_only", "found 'perhaps'", "boolean"]),
    ("models: [{id: x}]", ["models[0]", "either 'repo' or 'path'"]),
    ("models: [{id: x, repo: a/b, path: c}]", ["models[0]", "either 'repo' or 'path'"]),
    ("models: [{id: x, repo: b}]", ["models[0].repo", "found 'b'", "/"]),
    ("models: [{id: '', repo: a/b}]", ["models[0].id", "found ''", "at least 1 character"]),
    ("models: [{id: x, path: ~nobody-of-that-name/x}]", ["models[0].path", "~nobody-of-that-name"]),
    ("models: [x]", ["models[0]", "found 'x'"]),
    ("1: 2", ["1", "keys should be strings"]),
    ("- tiers", ["found list", "keys and values"]),
    ("tiers", ["found str", "keys and values"]),
    ("fallback: any\ntiers: [", ["line 2, column 9", "YAML"]),
    ("fallback: any\na: b: c", ["line 2, column 5", "YAML", "not allowed here"]),
    ("fallback: \t\x00", ["YAML"]),
    ("models:\n- {id: 2024-13-01, repo: a/b}", ["YAML", "month"]),
]


@pytest.mark.parametrize(("text", "words"), MISTAKES)
def test_mistake_is_told_in_one_line(config_file: Path, text: str, words: list[str]) -> None:
    """A mistake gives one line: the file, the key, what was found, what is allowed."""
    config_file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load()
    message = str(caught.value)
    assert message.startswith(f"{config_file}: ")
    assert len(message.splitlines()) == 1
    said = message.removeprefix(f"{config_file}: ")
    assert [word for word in words if word not in said] == []


def test_every_mistake_has_its_line(config_file: Path) -> None:
    """Several mistakes are told at once, each in its line with the file."""
    config_file.write_text("fallback: maybe\nteirs: []\ndefault_complexity: 11")
    with pytest.raises(ConfigError) as caught:
        config.load()
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{config_file}: ") for line in lines)


def test_file_that_is_no_utf8(config_file: Path) -> None:
    """A file in another encoding is told as such."""
    config_file.write_bytes("fallback: any # größer".encode("latin-1"))
    with pytest.raises(ConfigError, match="no UTF-8") as caught:
        config.load()
    assert str(config_file) in str(caught.value)


def test_folder_in_the_place_of_the_file(config_file: Path) -> None:
    """A folder of that name can't be read, and is named."""
    config_file.mkdir()
    with pytest.raises(ConfigError, match="can't be read: Is a directory") as caught:
        config.load()
    assert str(config_file) in str(caught.value)
    assert config.declared_models() == ()


def test_file_in_the_place_of_the_folder(config_file: Path) -> None:
    """A file where the folder belongs is told as a mistake of the config."""
    config_file.parent.rmdir()
    config_file.parent.write_text("")
    with pytest.raises(ConfigError, match="can't be read: Not a directory") as caught:
        config.load()
    assert str(config_file) in str(caught.value)
    assert config.declared_models() == ()


@pytest.fixture(params=["file", "folder"])
def locked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A config file that can't be read: it, or its folder, is somebody else's."""
    # pytest's own folders are closed to others, and root may read everything: this one is open,
    # and the test gives root's rights up for its duration.
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.setenv("LLM_USER_PATH", name)
        path = config.config_path()
        path.parent.mkdir()
        path.write_text("models: [{id: x, repo: a/b}]")
        closed = path if request.param == "file" else path.parent
        was_root = os.geteuid() == 0
        Path(name).chmod(0o755)
        closed.chmod(0)
        if was_root:
            os.seteuid(65534)
        try:
            yield path
        finally:
            if was_root:
                os.seteuid(0)
            closed.chmod(0o700)


def test_file_that_may_not_be_read(locked: Path) -> None:
    """A file without permission is told as a mistake of the config."""
    with pytest.raises(ConfigError, match="can't be read: Permission denied") as caught:
        config.load()
    assert str(locked) in str(caught.value)


@pytest.mark.usefixtures("locked")
def test_file_that_may_not_be_read_declares_no_models() -> None:
    """A file without permission does not stop llm from starting."""
    assert config.declared_models() == ()


@pytest.mark.parametrize("text", [text for text, _ in MISTAKES])
def test_mistake_leaves_declared_models_working(config_file: Path, text: str) -> None:
    """Whatever the file says, the models can be asked for without an error."""
    config_file.write_text(text)
    assert isinstance(config.declared_models(), tuple)


def test_mistake_elsewhere_keeps_the_models(config_file: Path) -> None:
    """A mistake in another section does not take the user's models away."""
    config_file.write_text("fallback: maybe\nmodels: [{id: x, repo: a/b}]")
    assert [model.id for model in config.declared_models()] == ["mlx/x"]


def test_wrong_model_leaves_the_others(config_file: Path) -> None:
    """A model that is described wrongly is left out; those beside it are there."""
    config_file.write_text("models: [{id: x, repo: a/b}, {id: y}, nonsense, {id: z, path: z}]")
    assert [model.id for model in config.declared_models()] == ["mlx/x", "mlx/z"]


def test_mistake_is_told_every_time(config_file: Path) -> None:
    """A file that is wrong stays wrong until it is changed."""
    config_file.write_text("fallback: maybe")
    for _ in range(2):
        with pytest.raises(ConfigError, match="maybe"):
            config.load()
    config_file.write_text("fallback: local")
    assert config.load().config.fallback == "local"


# The environment


@pytest.mark.parametrize(
    ("small", "medium", "expected"),
    [
        ("2", None, ["1-2", "3-7", "8-10"]),
        (" 2 ", "", ["1-2", "3-7", "8-10"]),
        (None, "8", ["1-4", "5-8", "9-10"]),
        ("6", "9", ["1-6", "7-9", "10"]),
        ("8", "9", ["1-8", "9", "10"]),
        ("0", None, ["none", "1-7", "8-10"]),
        ("7", None, ["1-7", "none", "8-10"]),
        ("8", None, ["1-8", "none", "9-10"]),
        (None, "4", ["1-4", "none", "5-10"]),
        (None, "10", ["1-4", "5-10", "none"]),
        ("0", "0", ["none", "none", "1-10"]),
    ],
)
def test_thresholds_move_the_tiers(
    monkeypatch: pytest.MonkeyPatch, small: str | None, medium: str | None, expected: list[str]
) -> None:
    """The two variables move the ends of small and medium; a tier may end up empty."""
    if small is not None:
        monkeypatch.setenv("COMPLEXITY_SMALL", small)
    if medium is not None:
        monkeypatch.setenv("COMPLEXITY_MEDIUM", medium)
    assert _spans(config.load()) == expected


NUMBERS = [None, *map(str, range(11))]


@pytest.mark.parametrize(("small", "medium"), list(product(NUMBERS, NUMBERS)))
def test_thresholds_leave_each_number_in_one_tier(
    monkeypatch: pytest.MonkeyPatch, small: str | None, medium: str | None
) -> None:
    """Whatever the thresholds are, each complexity belongs to one tier, or it is an error."""
    for name, value in (("COMPLEXITY_SMALL", small), ("COMPLEXITY_MEDIUM", medium)):
        if value is not None:
            monkeypatch.setenv(name, value)
    if medium is not None and int(medium) < int(small or 4):
        with pytest.raises(ConfigError, match=f"COMPLEXITY_MEDIUM: found '{medium}'"):
            config.load()
        return
    tiers = config.load().tiers
    owners = [[tier.name for tier in tiers if tier.covers(number)] for number in range(1, 11)]
    assert [owner for owner in owners if len(owner) != 1] == []


@pytest.mark.parametrize(
    ("variable", "text", "allowed"),
    [
        ("COMPLEXITY_SMALL", "11", "0 to 10"),
        ("COMPLEXITY_SMALL", "-1", "0 to 10"),
        ("COMPLEXITY_SMALL", "many", "0 to 10"),
        ("COMPLEXITY_SMALL", "4.5", "0 to 10"),
        ("COMPLEXITY_MEDIUM", "11", "4 to 10"),
        ("COMPLEXITY_MEDIUM", "3", "4 to 10"),
    ],
)
def test_wrong_threshold(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, allowed: str
) -> None:
    """A threshold that can't be is told with the variable, what was found and the range."""
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigError) as caught:
        config.load()
    assert str(caught.value) == f"{variable}: found {text!r}, expected {allowed}"


def test_threshold_of_a_tier_that_is_not_there(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A threshold of a tier that the config does not have names the variable and the tier."""
    config_file.write_text(_tiers(SMALL.replace("small", "tiny"), MEDIUM, CLOUD))
    monkeypatch.setenv("COMPLEXITY_SMALL", "3")
    with pytest.raises(ConfigError, match="COMPLEXITY_SMALL moves the end of the tier 'small'"):
        config.load()


def test_threshold_beats_the_file(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment moves the tiers of the file, and keeps their models."""
    config_file.write_text(_tiers(SMALL, MEDIUM.replace("5-7", "5-8"), CLOUD.replace("8-", "9-")))
    monkeypatch.setenv("COMPLEXITY_MEDIUM", "6")
    settings = config.load()
    assert _spans(settings) == ["1-4", "5-6", "7-10"]
    assert settings.tiers[1].model == "mlx/Qwen2.5-7B-Instruct-4bit"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[(text, True) for text in ("true", "TRUE", " True ", "1", "yes", "on")],
        *[(text, False) for text in ("false", "False", "0", "no", "off")],
        ("", None),
        ("  ", None),
    ],
)
def test_force_local_llm(monkeypatch: pytest.MonkeyPatch, text: str, expected: bool | None) -> None:
    """FORCE_LOCAL_LLM is true, false or, without a text, nothing; in any usual spelling."""
    monkeypatch.setenv("FORCE_LOCAL_LLM", text)
    assert config.load().force_local is expected


@pytest.mark.parametrize("text", ["maybe", "2", "local", "truee"])
def test_wrong_force_local_llm(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Another text is refused rather than guessed: it is about privacy."""
    monkeypatch.setenv("FORCE_LOCAL_LLM", text)
    with pytest.raises(ConfigError) as caught:
        config.load()
    assert str(caught.value) == f"FORCE_LOCAL_LLM: found {text!r}, expected true, false or nothing"


def test_sources(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value that is no default says whether the file or the environment set it."""
    config_file.write_text("fallback: local\n" + _tiers(SMALL, MEDIUM, CLOUD))
    assert config.load().sources == {"fallback": "config", "tiers": "config"}
    monkeypatch.setenv("COMPLEXITY_SMALL", "3")
    monkeypatch.setenv("FORCE_LOCAL_LLM", "false")
    assert config.load().sources == {
        "fallback": "config",
        "tiers": "environment",
        "force_local": "environment",
    }


# Reading it again


def test_unchanged_file_is_not_read_again(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing changes, the settings are those of the first time."""
    config_file.write_text("fallback: local")
    first = config.load()

    def read(*_: Any, **__: Any) -> str:
        raise AssertionError("the file was read again")

    monkeypatch.setattr(Path, "read_text", read)
    assert config.load() is first


def test_changed_file_is_read_again(config_file: Path) -> None:
    """A file that came, changed or went counts from the next request on."""
    config_file.write_text("default_complexity: 3")
    assert config.load().config.default_complexity == 3
    config_file.write_text("default_complexity: 4")
    _touch(config_file)
    assert config.load().config.default_complexity == 4
    config_file.unlink()
    assert config.load().config.default_complexity == 5


def test_changed_environment_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that changed counts from the next request on."""
    assert config.load().force_local is None
    monkeypatch.setenv("FORCE_LOCAL_LLM", "true")
    assert config.load().force_local is True
    monkeypatch.setenv("COMPLEXITY_SMALL", "3")
    assert _spans(config.load()) == ["1-3", "4-7", "8-10"]


def test_other_user_directory_has_its_own_config(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The config belongs to llm's user directory."""
    config_file.write_text("fallback: local")
    assert config.load().config.fallback == "local"
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path / "other"))
    assert config.load().config.fallback == "any"


def test_empty_span_covers_nothing() -> None:
    """A range that the environment emptied covers no complexity."""
    tier = Tier(name="small", complexity=Span(5, 4), model="phi")
    assert not any(tier.covers(complexity) for complexity in range(1, 11))
