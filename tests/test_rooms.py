"""The structure of the package: what each room may import, and what starting llm imports."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import llm_tiered

ROOT = Path(llm_tiered.__file__).parent
TESTS = Path(__file__).parent

HEAVY = {
    *("mlx", "mlx_lm", "transformers", "tokenizers", "huggingface_hub", "llguidance", "numpy"),
    *("datasette", "httpx", "httpx2", "tqdm", "yaml", "ruamel", "filelock", "sqlite_utils"),
    *("genai_prices", "jsonschema", "tabulate", "dask", "distributed"),
}
SERVING = {"starlette", "uvicorn", "prometheus_client", "openai", "anyio"}
MODEL_LIBRARIES = {
    *("mlx", "mlx_lm", "llguidance", "transformers", "tokenizers", "huggingface_hub"),
}

# The modules at the bottom, lowest first: each may import those before it.
LEAVES = (
    *("errors", "atomic", "wording", "paths", "patterns", "schema_drafts", "json_schema"),
    *("fast_json", "command_line", "forks", "redaction"),
    *(
        "strict_http",
        "gemini",
        "openai_plugin",
        "endings",
        "instructions",
        "passage",
        "svg",
        "logprobs",
    ),
)

# What each other room may import: itself, the leaves, and these rooms and modules.
ROOMS = {
    "mlx": set[str](),
    "config": {"mlx.catalog"},
    "log": {"config.price", "config.terms"},
    "costs": {"config.price", "config.terms", "log"},
    "costs.comparison": {"config", "log"},
    "cache": {"log"},
    "estimator": {"config.terms", "log"},
    "endpoints": {"config"},
    "hooks": {"config.terms", "estimator"},
    "rules": {"config.rules", "config.terms"},
    "router": {
        *("cache", "config", "costs", "endpoints", "estimator", "hooks", "log", "mlx", "rules"),
    },
    "cluster": {"config", "mlx"},
    "batch": {
        *("cluster", "config", "costs", "endpoints", "log", "mlx.mailbox", "mlx.process", "router"),
    },
    "server": {"config", "costs", "log", "mlx.process.lease", "router"},
    "evaluation": {"batch", "config", "costs", "endpoints", "estimator", "log", "router"},
    "compare": {"config", "costs", "evaluation", "router"},
    "replay": {
        *("config", "costs", "estimator", "evaluation", "hooks", "log", "router", "rules"),
    },
    "bench": {"config", "mlx", "router"},
    "dashboard": {"config.price", "costs", "log"},
    "plugin": {"config", "mlx", "router"},
    "cli": {
        *("batch", "bench", "cluster", "compare", "config", "costs", "endpoints", "estimator"),
        *("evaluation", "log", "mlx", "replay", "router", "rules", "server"),
    },
    "": {"cli", "plugin"},
}

# The packages whose `__init__` is public or an entry point; all others are empty.
SPEAKING = {"", "cli", "dashboard", "estimator"}

# All that is imported to register the models and the commands.
REGISTERED = {
    *("llm_tiered", "llm_tiered.cli", "llm_tiered.errors", "llm_tiered.plugin"),
    *("llm_tiered.config", "llm_tiered.config.file", "llm_tiered.config.local_models"),
    *("llm_tiered.config.terms", "llm_tiered.mlx", "llm_tiered.mlx.catalog"),
    *("llm_tiered.mlx.models", "llm_tiered.mlx.options", "llm_tiered.paths", "llm_tiered.router"),
    *("llm_tiered.router.model", "llm_tiered.router.options"),
}

# What a prompt may need, but that is only imported once it does: each takes a millisecond or more.
NEEDED_LATER = (
    *("cache", "costs", "json_schema", "log.messages", "mlx.weights.store", "router.budget"),
    *("router.failures", "router.quality", "router.switching", "rules.conditions"),
)


def _name(module: Path) -> str:
    """The module's dotted name inside the package; that of the package itself is empty."""
    parts = module.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted(ROOT.rglob("*.py"))}


@cache
def _tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text("utf-8"))


def _imports(name: str, nodes: list[ast.AST]) -> set[str]:
    """The absolute names that these nodes of a module import."""
    package = ["llm_tiered", *MODULES[name].relative_to(ROOT).parent.parts]
    imported = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            imported |= {f"{source}.{alias.name}" for alias in node.names} | {source}
    return imported


@cache
def _own_imports(name: str) -> frozenset[str]:
    """The package's modules that a module imports anywhere, also inside functions and for types."""
    imported = _imports(name, list(ast.walk(_tree(name))))
    own = {each.removeprefix("llm_tiered.") for each in imported} & set(MODULES)
    # `from .log import record` imports the package `log`, but means its module.
    packages = {each.rpartition(".")[0] for each in own}
    return frozenset(own - packages - {name})


def _nodes_run_on_import(tree: ast.AST) -> list[ast.AST]:
    """The nodes that run when the module is imported: no functions, nothing for types only."""
    nodes: list[ast.AST] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        nodes += [node, *_nodes_run_on_import(node)]
    return nodes


def _within(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def _may_import(name: str) -> set[str]:
    """The rooms and modules that a module may import."""
    if name in LEAVES:
        return set(LEAVES[: LEAVES.index(name)])
    room = name if name in ROOMS else name.partition(".")[0]
    return {name.partition(".")[0], *LEAVES} | ROOMS[room]


# The rooms


def test_the_reader_of_imports_reads() -> None:
    """The tests below see relative imports, those inside functions and those for types."""
    assert _own_imports("mlx.weights.store") >= {"errors", "mlx.weights.hub", "mlx.device"}
    assert _own_imports("router.drivers") >= {"router.exchange", "router.inner", "log.writer"}
    assert _own_imports("router.options") == {"config.terms", "router.model_options"}
    assert _own_imports("") == {"cli", "plugin"}


def test_no_import_circles() -> None:
    """No module imports itself by way of others, not even for types or inside a function."""
    sorter = TopologicalSorter({name: _own_imports(name) for name in MODULES})
    try:
        sorter.prepare()
    except CycleError as error:
        pytest.fail(f"an import circle: {' <- '.join(error.args[1])}")


def test_rooms_import_only_what_is_below_them() -> None:
    """Imports point one way, from the commands down to the errors."""
    upward = {}
    for name in MODULES:
        allowed = _may_import(name)
        others = {
            each for each in _own_imports(name) if not any(_within(each, room) for room in allowed)
        }
        if others:
            upward[name] = others
    assert upward == {}


def test_packages_say_nothing() -> None:
    """The `__init__` of a package is empty, or holds its docstring, unless it is public."""
    packages = [name for name, path in MODULES.items() if path.name == "__init__.py"]
    speaking = set()
    for name in packages:
        body = _tree(name).body
        if body[1:] or (body and ast.get_docstring(_tree(name)) is None):
            speaking.add(name)
    assert speaking == SPEAKING


def test_heavy_modules_are_imported_inside_functions() -> None:
    """No module imports a heavy one when it is imported itself."""
    heavy = {}
    for name in MODULES:
        imported = _imports(name, _nodes_run_on_import(_tree(name)))
        if found := {each for each in imported if each.partition(".")[0] in HEAVY}:
            heavy[name] = found
    assert heavy == {}


def test_a_prompt_imports_what_it_needs() -> None:
    """A prompt to a model in the engine imports nothing that only some prompts need."""
    imported, new = set[str](), {"hooks", "mlx.prompt", "router.drivers"}
    while new:
        imported |= new
        nodes = [(name, _nodes_run_on_import(_tree(name))) for name in new]
        named = {each.removeprefix("llm_tiered.") for pair in nodes for each in _imports(*pair)}
        new = named & set(MODULES) - imported
    assert {name for name in imported if any(_within(name, each) for each in NEEDED_LATER)} == set()


def test_only_mlx_and_bench_import_model_libraries() -> None:
    """The libraries that run models are imported in one room, and where they are measured."""
    importing = {
        name
        for name in MODULES
        for each in _imports(name, list(ast.walk(_tree(name))))
        if each.partition(".")[0] in MODEL_LIBRARIES
    }
    assert {name for name in importing if name.partition(".")[0] not in ("mlx", "bench")} == set()


def test_files_are_short() -> None:
    """No file of the package or its tests has 400 lines or more."""
    files = [*MODULES.values(), *TESTS.rglob("*.py")]
    lengths = {str(path): len(path.read_text("utf-8").splitlines()) for path in files}
    assert {path: length for path, length in lengths.items() if length >= 400} == {}


# Names


def test_a_class_name_has_one_meaning() -> None:
    """No two classes of the package have the same name."""
    places: dict[str, list[str]] = {}
    for name in MODULES:
        for node in ast.walk(_tree(name)):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(name)
    assert {cls: modules for cls, modules in places.items() if len(modules) > 1} == {}


def test_modules_keep_their_names() -> None:
    """A module is imported under its own name, with the name of its room before it if need be."""
    aliases = {}
    for name in MODULES:
        for node in ast.walk(_tree(name)):
            for alias in node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else ():
                own = _imports(name, [node]) & {f"llm_tiered.{module}" for module in MODULES}
                module = next((each for each in own if each.endswith(f".{alias.name}")), None)
                if alias.asname and module:
                    aliases[f"{name}: {alias.asname}"] = module
    prefixed = {"_".join(module.split(".")[-2:]): module for module in aliases.values()}
    wrong = {
        place: module
        for place, module in aliases.items()
        if prefixed.get(place.partition(": ")[2]) != module
    }
    assert wrong == {}


# What only one module spells: how the record, Gemini's replies and llm's folder look.
SPELLED_ONCE = {
    r"""\$\.tiered|\[.tiered.\]|(?<!aliases\(\))\.get\(.tiered.\)""": "log.record",
    r"modelVersion|TokenCount|TokensDetails|promptFeedback|blockReason|finishReason": "gemini",
    r"user_dir": "paths",
    r"(from|import) jsonschema": "json_schema",
    r"get_close_matches\(": "wording",
}


def test_formats_are_spelled_once() -> None:
    """Each of these is written in one module, which the others ask."""
    elsewhere = {}
    for pattern, owner in SPELLED_ONCE.items():
        spelled = {name for name, path in MODULES.items() if re.search(pattern, path.read_text())}
        assert owner in spelled, pattern
        if others := spelled - {owner}:
            elsewhere[owner] = others
    assert elsewhere == {}


# What starting llm imports


def _modules_after(plugins: str, home: Path, steps: dict[str, str]) -> dict[str, set[str]]:
    """The modules that one fresh Python has imported after each piece of code."""
    report = "sys.stdout.write(json.dumps([*sys.modules]) + '\\n')"
    code = "\n".join(["import json, os, sys", *(f"{step}\n{report}" for step in steps.values())])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"LLM_USER_PATH": str(home), "LLM_LOAD_PLUGINS": plugins},
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    reports = [set(json.loads(line)) for line in done.stdout.splitlines()]
    return dict(zip(steps, reports, strict=True))


def _llm(*arguments: str) -> str:
    """Code that runs llm's command line in its own process."""
    return (
        "from click.testing import CliRunner\n"
        "from llm.cli import cli\n"
        f"result = CliRunner().invoke(cli, {list(arguments)})\n"
        "assert result.exit_code == 0, result.output\n"
    )


@dataclass(frozen=True)
class Start:
    """The modules after each step of one process without the plugin, and of one with it."""

    plain: dict[str, set[str]]
    ours: dict[str, set[str]]
    files: set[str]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Two processes that do what starts llm, the lightest first; a config file adds no models."""
    folder = tmp_path_factory.mktemp("start")
    home, configured = folder / "home", folder / "configured"
    home.mkdir()
    (configured / "tiered").mkdir(parents=True)
    (configured / "tiered" / "config.yaml").write_text("# models:\ndefault_complexity: 3\n")
    steps = {
        "llm": "import llm",
        "package": "import llm_tiered",
        "help": _llm("--help"),
        "register": _llm("aliases", "list"),
        "config": f"os.environ['LLM_USER_PATH'] = {str(configured)!r}\n" + _llm("aliases", "list"),
        "list": f"os.environ['LLM_USER_PATH'] = {str(home)!r}\n" + _llm("models", "list"),
        "group": _llm("tiered", "--help"),
    }
    ours = _modules_after("llm-gemini,llm-tiered", home, steps)
    plain_steps = {name: steps[name] for name in ("llm", "help", "register", "list")}
    plain = _modules_after("llm-gemini", home, plain_steps)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return Start(plain, ours, files)


def test_import_of_the_package_is_light(start: Start) -> None:
    """Importing the package imports none of its other modules, and nothing heavy."""
    assert start.ours["package"] - start.ours["llm"] == {"llm_tiered"}


def test_help_is_light(start: Start) -> None:
    """`llm --help` imports the group of our commands, and none of our models."""
    added = start.ours["help"] - start.plain["help"]
    assert added == {"llm_tiered", "llm_tiered.cli"}


def test_registering_imports_what_is_registered(start: Start) -> None:
    """The models are there; engine, router and settings are imported with the first prompt."""
    assert start.ours["register"] - start.plain["register"] == REGISTERED


def test_config_without_models_is_not_parsed_to_register(start: Start) -> None:
    """A config file that adds no models costs the start of llm no more than reading it."""
    assert start.ours["config"] == start.ours["register"]


def test_listing_imports_nothing_heavy(start: Start) -> None:
    """Listing the models or our commands imports nothing heavy that was not there anyway."""
    added = (start.ours["list"] | start.ours["group"]) - start.plain["list"]
    assert {name.partition(".")[0] for name in added} & (HEAVY | SERVING) == set()


def test_registering_writes_no_file(start: Start) -> None:
    """None of these steps writes a file into the user directory."""
    assert start.files == {"configured/tiered/config.yaml"}
