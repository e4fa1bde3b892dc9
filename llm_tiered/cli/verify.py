"""`llm tiered verify`: a check of each part that an answer needs."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

import click
import llm

from .. import gemini
from ..config.settings import Settings, load_settings
from ..errors import DamagedModel, EmptyAnswer, NotRunning, TieredError
from ..log.database import PATIENCE
from ..mlx import device
from ..mlx.models import MlxModel
from ..mlx.process.lease import has_engines
from ..mlx.process.start import StartError, Starting
from ..mlx.weights import store
from ..paths import config_path, engine_folder, log_path
from ..router import names, stored_options
from ..router.candidates import order
from ..router.decision import DecisionInput, decide
from ..router.failures import explain
from ..router.inner import inner_options, left_out
from ..router.options import TieredOptions
from ..router.request import TieredRequest
from ..wording import moment
from . import endpoints, questions
from .findings import Finding
from .lookup import gemini_key_source, tiered_model
from .output import echo_json, json_option
from .ps import describe_engine, engine_facts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..router.candidates import Candidate
    from ..router.model import TieredModel

QUESTION = "Say hello in three words."

# Seconds for which an engine stays that is only started to try it, and for a server's answer.
SOON = 1.0
ANSWER_WITHIN = 5.0


@click.command("verify")
@click.option("--generate", is_flag=True, help="Also ask each available tier for a short answer")
@json_option
@click.pass_context
def command(context: click.Context, generate: bool, json_: bool) -> None:
    """Check the config, MLX, the models and servers, llm-gemini, the key, the log and the engine.

    Exits with 1 if a part that the config needs is broken, or if no model can answer a prompt.
    """
    findings = []
    for finding in check(generate=generate):
        findings.append(finding)
        if not json_:
            fix = f" → {finding.fix}" if finding.fix else ""
            click.echo(f"{finding.state:4}  {finding.part}: {finding.detail}{fix}")
    if json_:
        echo_json([asdict(finding) for finding in findings])
    if any(finding.state == "fail" for finding in findings):
        context.exit(1)


def check(*, generate: bool) -> Iterator[Finding]:
    """Yield one finding for each part, quick checks first."""
    try:
        model = tiered_model()
        settings = load_settings()
        candidates = _candidates(settings)
    except TieredError as error:
        yield Finding("plugin and config", "fail", error.message, error.fix)
        return
    yield Finding("plugin", "ok", "llm knows the model 'tiered'")
    path = config_path()
    yield Finding("config", "ok", f"{path}" if path.exists() else "no file; using the defaults")
    yield _names(model, settings)
    yield _device()
    yield _gemini(model)
    yield _log()
    yield _engine(settings)
    yield from _servers()
    ready = False
    for candidate in candidates:
        tier = settings.tier(candidate.tier)
        served = tier if tier and tier.server else None
        reached = endpoints.reached(served) if served else []
        yield from (each.finding for each in reached)
        if reached and all(each.finding.state != "ok" for each in reached):
            is_slow = any(each.is_slow for each in reached)
            ready = ready or is_slow
            if not (is_slow and generate):
                continue
        finding = _candidate(model, candidate)
        ready = ready or finding.state == "ok"
        yield finding
        if generate and finding.state == "ok" and finding.fix is None:
            said = _generate(model, candidate)
            yield said
            if served and said.state == "ok":
                yield from endpoints.abilities(model, candidate, served)
    if not ready:
        yield Finding("chain", "fail", "no model can answer a prompt")


def _candidates(settings: Settings) -> list[Candidate]:
    """Each tier's model and the embedded one, in the order of the tiers."""
    by_tier: dict[str, Candidate] = {}
    kept = stored_options.kept(TieredOptions())
    for tier in settings.tiers:
        request = DecisionInput(tier=tier.name, kept=kept, fallback="any")
        decision = decide(request, settings)
        for candidate in order(decision, settings):
            by_tier.setdefault(candidate.tier, candidate)
    names = [tier.name for tier in settings.tiers if tier.name in by_tier]
    return [by_tier.pop(name) for name in names] + list(by_tier.values())


def _names(model: TieredModel, settings: Settings) -> Finding:
    conflicts = "; ".join(map(str, names.conflicts(model.registry, settings)))
    if conflicts:
        return Finding("names", "warn", conflicts, "llm aliases set NAME MODEL")
    return Finding("names", "ok", "no other plugin has the same names for its models")


def _device() -> Finding:
    try:
        here = device.detect()
    except TieredError as error:
        return Finding("MLX", "warn", error.message, error.fix)
    return Finding("MLX", "ok", f"runs on {here.kind} ({here.name})")


def _gemini(model: TieredModel) -> Finding:
    tiers = [tier for tier in load_settings().tiers if gemini.is_gemini(tier.model)]
    if not tiers:
        return Finding("llm-gemini", "ok", "no tier needs it")
    try:
        for tier in tiers:
            model.registry.get(tier.model_id)
        source = gemini_key_source()
    except TieredError as error:
        return Finding("llm-gemini", "fail", error.message, error.fix)
    if source is None:
        return Finding("llm-gemini", "warn", "installed, but there is no API key", gemini.SET_KEY)
    return Finding("llm-gemini", "ok", f"installed, with an API key from {source}")


def _log() -> Finding:
    path = log_path()
    uri = path.absolute().as_uri() + "?mode=rw"
    try:
        if path.exists():
            with closing(sqlite3.connect(uri, uri=True, timeout=PATIENCE)) as database:
                # Writing a value that is there already shows that SQLite can write at all.
                [[version]] = database.execute("pragma user_version")
                database.execute(f"pragma user_version = {version}")
        elif not os.access(path.parent, os.W_OK):
            raise PermissionError(f"{path.parent} is read-only")
    except (sqlite3.Error, OSError) as error:
        locked = "locked" in str(error)
        fix = "try again in a moment" if locked else "correct its permissions, or move it away"
        return Finding("log", "fail", f"{path} can't be written to: {error}", fix)
    return Finding("log", "ok", f"{path} can be written to")


def _engine(settings: Settings) -> Finding:
    if not settings.config.keep_warm:
        return Finding("engine", "ok", "never used, because keep_warm is 0")
    if not has_engines():
        return Finding("engine", "ok", "none without MLX")
    facts = engine_facts()
    if facts is None:
        return _start_engine()
    detail = describe_engine(facts)
    if not facts["answers"]:
        return Finding("engine", "fail", "it runs, but does not answer", "llm tiered stop --now")
    if not facts["same_version"]:
        return Finding("engine", "warn", detail, "llm tiered stop")
    return Finding("engine", "ok", f"{detail}, log {facts['log']}")


def _start_engine() -> Finding:
    """Start an engine that ends soon, which shows that it can be started."""
    try:
        Starting(SOON).wait()
    except StartError as error:
        detail = f"it can't be started, so that each process loads models itself: {error}"
        return Finding("engine", "warn", detail, f"its log is in {engine_folder()}")
    return Finding("engine", "ok", "none runs, and one can be started")


def _servers() -> Iterator[Finding]:
    from ..server import instances
    from ..server.background import answers

    for server in instances.running():
        part = f"server {server.url}"
        by_hand = f"kill {server.pid}" if server.kind == "terminal" else "llm tiered stop --now"
        if not answers(server.url, ANSWER_WITHIN):
            yield Finding(part, "fail", "it runs, but does not answer", by_hand)
        elif server.version != version("llm-tiered"):
            detail = f"it has version {server.version}, and {version('llm-tiered')} is installed"
            yield Finding(part, "warn", detail, "end it, and start it again")
        else:
            yield Finding(part, "ok", f"process {server.pid} since {moment(server.started)}")


def _candidate(model: TieredModel, candidate: Candidate) -> Finding:
    part = f"{candidate.tier} ({candidate.model})"
    request = llm.Prompt(QUESTION, model=model)
    problem = TieredRequest(request, None, None).check(candidate, model.registry.get)
    if problem is None:
        inner = model.registry.get(candidate.model)
        if isinstance(inner, MlxModel) and store.locate(inner.spec) is None:
            fix = f"llm tiered download {candidate.model}"
            return Finding(part, "ok", "has to be downloaded first", fix)
        lacking = ", ".join(left_out(inner, candidate.options))
        without = f", without {lacking}: it has no such option" if lacking else ""
        return Finding(part, "ok", f"ready{without}")
    state: Literal["warn", "fail"] = "fail" if _broken(model, candidate) else "warn"
    return Finding(part, state, problem.reason, problem.fix)


def _broken(model: TieredModel, candidate: Candidate) -> bool:
    """Whether the model itself is broken, rather than not available on this machine."""
    try:
        inner = model.registry.get(candidate.model)
        inner_options(inner, candidate.options, {})
        if isinstance(inner, MlxModel):
            inner.check(allow_cpu=True)
    except (DamagedModel, ValueError):
        return True
    except NotRunning:
        return False
    except TieredError:
        return candidate.model not in model.registry
    return False


def _generate(model: TieredModel, candidate: Candidate) -> Finding:
    part = f"{candidate.tier} says"
    inner = model.registry.get(candidate.model)
    try:
        asked = {"max_tokens": 16, "thinking": False}
        options = inner_options(inner, candidate.options, asked)
        prompt = llm.Prompt(QUESTION, model=model)
        response = questions.answer(candidate, inner, prompt, options)
        text = " ".join(response.text().split()) or "nothing"
        return Finding(part, "ok", f"{text} (asked: {QUESTION})")
    except EmptyAnswer as error:
        # It works, but needs more than these few tokens.
        return Finding(part, "ok", error.message)
    except Exception as error:
        problem = explain(error, model=inner)
        return Finding(part, "fail", problem.reason, problem.fix)
