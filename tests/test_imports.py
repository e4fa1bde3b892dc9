"""What is imported when, and by whom."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import llm_tiered

ROOT = Path(llm_tiered.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

HEAVY = {
    *("mlx", "mlx_lm", "transformers", "tokenizers", "huggingface_hub", "llguidance", "numpy"),
    *("datasette", "httpx", "httpx2", "tqdm", "yaml", "ruamel", "filelock", "sqlite_utils"),
}

# Each may import what stands here of the package, and nothing else of it.
ALLOWED = {
    "errors": set[str](),
    "terms": set[str](),
    "options": {"terms"},
    "config_file": {"errors"},
    "user_models": {"config_file", "errors", "mlx.catalog"},
    "schema": {"mlx.catalog", "terms", "user_models"},
    "config": {"config_file", "errors", "mlx.catalog", "schema", "terms", "user_models"},
    "routing": {"config", "errors", "estimator", "mlx.catalog"},
    "chain": {"config", "errors", "mlx.catalog", "routing"},
    "failures": {"chain", "errors"},
}

# Each may import nothing of the package that stands here.
FORBIDDEN = {
    "mlx": {"chain", "cli", "config", "failures", "log", "nested", "readiness", "registry"}
    | {"routed", "routing", "tiered"},
    "log": {"chain", "cli", "mlx", "registry", "tiered"},
    "nested": {"cli", "registry", "tiered"},
    "readiness": {"cli", "registry", "tiered"},
    "routed": {"cli", "registry", "tiered"},
    "drivers": {"cli", "tiered"},
    "tiered": {"cli"},
    "budget": {"chain", "cli", "mlx", "routed", "registry", "tiered"},
    "judge": {"chain", "cli", "log", "routed", "registry", "tiered"},
    "estimator": {"chain", "cli", "mlx", "routed", "registry", "routing", "tiered"},
    "dashboard": {"chain", "cli", "mlx", "routed", "registry", "tiered"},
    "registry": {"cli"},
    "batch": {"bench", "cli"},
    "bench": {"batch", "cli"},
}


def _name(module: Path) -> str:
    """The module's dotted name inside the package; that of the package itself is empty."""
    parts = module.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {_name(module) for module in MODULES}


def _imports(module: Path, nodes: list[ast.AST]) -> set[str]:
    """What the nodes import, by absolute name."""
    package = ["llm_tiered", *module.relative_to(ROOT).parent.parts]
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{source}.{alias.name}" for alias in node.names} | {source}
    return found


def _own_imports(module: Path) -> set[str]:
    """The package's modules that a module imports anywhere, for types too."""
    tree = ast.parse(module.read_text("utf-8"))
    imported = {name.removeprefix("llm_tiered.") for name in _imports(module, list(ast.walk(tree)))}
    # A package is imported with its modules; what was meant is the module.
    return {
        name
        for name in imported & NAMES
        if not any(other.startswith(f"{name}.") for other in imported & NAMES)
    }


def _run_on_import(tree: ast.AST) -> list[ast.AST]:
    """The nodes that run when the module is imported: no functions, nothing for types only."""
    found: list[ast.AST] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        found += [node, *_run_on_import(node)]
    return found


def _within(name: str, area: str) -> bool:
    return name == area or name.startswith(f"{area}.")


@cache
def _modules_after(user_path: Path, plugins: str, code: str) -> frozenset[str]:
    """The modules that a fresh Python has imported after the code."""
    environment = os.environ | {"LLM_USER_PATH": str(user_path), "LLM_LOAD_PLUGINS": plugins}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys\nprint(json.dumps([*sys.modules]))"],
        env=environment,
        cwd=user_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return frozenset(json.loads(done.stdout.splitlines()[-1]))


def _llm(*arguments: str) -> str:
    """Code that runs llm's command line in its own process."""
    return (
        "from click.testing import CliRunner\n"
        "from llm.cli import cli\n"
        f"result = CliRunner().invoke(cli, {list(arguments)})\n"
        "assert result.exit_code == 0, result.output\n"
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty user directory for the processes of this module."""
    return tmp_path_factory.mktemp("llm")


def _added(home: Path, code: str) -> set[str]:
    """The modules that are imported on top of what llm and llm-gemini need for the same."""
    without = _modules_after(home, "llm-gemini", code)
    return set(_modules_after(home, "llm-gemini,llm-tiered", code) - without)


# What starting llm costs


def test_import_of_the_package_is_light(home: Path) -> None:
    """Importing the package imports none of its other modules, and nothing heavy."""
    with_it = _modules_after(home, "", "import llm, llm_tiered")
    added = with_it - _modules_after(home, "", "import llm")
    assert added == {"llm_tiered"}


def test_help_is_light(home: Path) -> None:
    """`llm --help` imports the group of our commands, and none of our models."""
    added = _added(home, _llm("--help"))
    assert added == {"llm_tiered", "llm_tiered.cli", "llm_tiered.errors"}


@pytest.mark.parametrize("arguments", [["models", "list"], ["tiered", "--help"]])
def test_listing_imports_nothing_heavy(home: Path, arguments: list[str]) -> None:
    """Registering the models imports nothing heavy that was not there anyway."""
    before = _modules_after(home, "llm-gemini", _llm("models", "list"))
    after = _modules_after(home, "llm-gemini,llm-tiered", _llm(*arguments))
    assert "llm_tiered" in after
    assert {name.partition(".")[0] for name in after - before} & HEAVY == set()


REGISTERED = {
    *("llm_tiered", "llm_tiered.cli", "llm_tiered.errors", "llm_tiered.router.registry"),
    *(
        "llm_tiered.router.model",
        "llm_tiered.router.options",
        "llm_tiered.config.terms",
        "llm_tiered.config.file",
    ),
    *("llm_tiered.mlx", "llm_tiered.mlx.catalog", "llm_tiered.mlx.models"),
    "llm_tiered.mlx.options",
}


def test_registering_imports_what_is_registered(home: Path) -> None:
    """The models are there; engine, chain and config come with the first prompt."""
    assert _added(home, _llm("aliases", "list")) == REGISTERED


def test_config_without_models_is_not_understood_to_register(tmp_path: Path) -> None:
    """A config file that adds no models costs the start of llm no more than its reading."""
    path = tmp_path / "tiered" / "config.yaml"
    path.parent.mkdir()
    path.write_text("# models:\ndefault_complexity: 3\n", "utf-8")
    assert _added(tmp_path, _llm("aliases", "list")) == REGISTERED


@pytest.mark.parametrize("arguments", [["--help"], ["models", "list"], ["tiered", "--help"]])
def test_registering_writes_no_file(home: Path, arguments: list[str]) -> None:
    """Registering leaves the user directory as it was."""
    _modules_after(home, "llm-gemini,llm-tiered", _llm(*arguments))
    assert list(home.rglob("*")) == []


# Imports point one way


@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_heavy_modules_are_imported_inside_functions(module: Path) -> None:
    """No module imports a heavy one as it is imported itself."""
    imported = _imports(module, _run_on_import(ast.parse(module.read_text("utf-8"))))
    assert {name for name in imported if name.partition(".")[0] in HEAVY} == set()


@pytest.mark.parametrize("name", ALLOWED)
def test_core_imports_only_what_is_below_it(name: str) -> None:
    """The core points one way: chain to routing to config to errors."""
    assert _own_imports(ROOT / f"{name}.py") <= ALLOWED[name]


@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_no_module_imports_what_is_above_it(module: Path) -> None:
    """The engine knows nothing of tiers, the log nothing of mlx, only hooks know the commands."""
    imported = _own_imports(module)
    areas = {
        area for name, above in FORBIDDEN.items() if _within(_name(module), name) for area in above
    }
    assert {name for name in imported for area in areas if _within(name, area)} == set()


@pytest.mark.parametrize(
    "module", [path for path in MODULES if path.parent.name == "mlx"], ids=_name
)
def test_mlx_imports_errors_and_itself_only(module: Path) -> None:
    """Of the package, the engine knows the errors and its own modules."""
    others = {name for name in _own_imports(module) if not _within(name, "mlx")}
    assert others <= {"errors"}


@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_only_mlx_imports_mlx(module: Path) -> None:
    """The libraries that run models are imported in one folder, and where it is measured."""
    if _within(_name(module), "mlx") or _within(_name(module), "bench"):
        return
    imported = _imports(module, list(ast.walk(ast.parse(module.read_text("utf-8")))))
    engines = {"mlx", "mlx_lm", "llguidance", "transformers", "huggingface_hub"}
    assert {name for name in imported if name.partition(".")[0] in engines} == set()


def test_the_reader_of_imports_reads() -> None:
    """The tests above see relative imports as they are meant."""
    assert _own_imports(ROOT / "mlx" / "store.py") >= {"errors", "mlx.hub", "mlx.device"}
    assert _own_imports(ROOT / "drivers.py") >= {"chain", "nested", "log.api", "routed", "registry"}
    assert _own_imports(ROOT / "__init__.py") == {"registry", "cli"}
