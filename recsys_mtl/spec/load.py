"""Load the two files of a product, with every problem of both reported in one go."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from recsys_mtl.errors import ConfigError, Problem
from recsys_mtl.spec.feature_spec import FeatureSpec
from recsys_mtl.spec.interpolate import environment_overrides, interpolate
from recsys_mtl.spec.layout import Layout, compile_layout
from recsys_mtl.spec.parse import keys_at, parse
from recsys_mtl.spec.pipeline import Pipeline
from recsys_mtl.spec.pipeline_rules import check_pipeline
from recsys_mtl.spec.rules import check_spec, located
from recsys_mtl.spec.suggest import did_you_mean
from recsys_mtl.spec.yaml_nodes import Document, read_yaml


@dataclass(frozen=True)
class Loaded:
    """A pipeline file with its feature spec."""

    pipeline: Pipeline
    spec: FeatureSpec
    pipeline_path: Path
    spec_path: Path
    origins: dict[str, str] = field(default_factory=dict)
    """Dotted path of each overridden value to the flag or variable that set it."""

    @cached_property
    def layout(self) -> Layout:
        """Inputs and tasks of the pipeline's source."""
        return compile_layout(self.spec, self.pipeline.data.source)

    @property
    def home(self) -> Path:
        """Folder of all artifacts."""
        return Path(self.pipeline.home)


def load_feature_spec(path: Path) -> FeatureSpec:
    """Load and check a feature spec.

    Raises:
        ConfigError: with all problems, each at its line.
    """
    document = read_yaml(path)
    spec, problems = parse(document, FeatureSpec)
    problems += check_spec(document)
    if spec is None or problems:
        raise ConfigError(_in_file_order(problems))
    return spec


def load_pipeline(path: Path, overrides: Sequence[str] = ()) -> Loaded:
    """Load and check a pipeline file and the feature spec that it names.

    Args:
        path: the pipeline file.
        overrides: `a.b=c` from the command line; they win over the environment
            (`RECSYS_SET_A__B=c`), which wins over the file.

    Raises:
        ConfigError: with all problems of both files.
    """
    document = read_yaml(path)
    origins, problems = _override(document, overrides)
    problems += interpolate(document)
    pipeline, faults = parse(document, Pipeline)
    problems += faults
    spec_path = path.parent / str(document.values.get("spec", ""))
    spec = None
    try:
        spec = load_feature_spec(spec_path)
    except ConfigError as error:
        problems += error.problems
    if pipeline is not None and spec is not None:
        problems += located(document, check_pipeline(pipeline, spec))
    if pipeline is None or spec is None or problems:
        raise ConfigError(_in_file_order(problems))
    return Loaded(pipeline, spec, path, spec_path, origins)


def load_schedule(path: Path) -> Pipeline:
    """A pipeline file alone, its `${NAME}` unresolved: enough to schedule it elsewhere.

    Raises:
        ConfigError: with all problems.
    """
    pipeline, problems = parse(read_yaml(path), Pipeline)
    if pipeline is None:
        raise ConfigError(problems)
    return pipeline


def _in_file_order(problems: list[Problem]) -> list[Problem]:
    def key(problem: Problem) -> tuple[str, int]:
        file, _, rest = problem.where.partition(":")
        line = rest.split(":")[0]
        return file, int(line) if line.isdigit() else 0

    return sorted(problems, key=key)


def _override(document: Document, flags: Sequence[str]) -> tuple[dict[str, str], list[Problem]]:
    """Apply overrides to the document's values; environment first, so that flags win."""
    origins: dict[str, str] = {}
    problems: list[Problem] = []
    entries = [(k, v, name) for k, (v, name) in environment_overrides().items()]
    for flag in flags:
        dotted, equals, text = flag.partition("=")
        if not equals:
            problems.append(Problem(f"--set {flag}", "no '=' found", "Write --set a.b=value."))
            continue
        entries.append((dotted, text, f"--set {flag}"))
    for dotted, text, origin in entries:
        problem = _set(document, dotted, text, origin)
        if problem is None:
            origins[dotted] = origin
        else:
            problems.append(problem)
    return origins, problems


def _set(document: Document, dotted: str, text: str, origin: str) -> Problem | None:
    *parents, last = dotted.split(".")
    here: Any = document.values
    for depth, part in enumerate([*parents, last]):
        known = keys_at(Pipeline, document, tuple(parents[:depth]))
        if known and part not in known:
            return Problem(origin, f"unknown key {part!r}{did_you_mean(part, known)}", "", "S002")
        if depth == len(parents):
            break
        if not isinstance(here.get(part), dict):
            here[part] = {}
        here = here[part]
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return Problem(origin, f"{text!r} is not a YAML value", "Quote it.", "S001")
    if last == "kind" and here.get("kind") != value:
        here.clear()  # Options of another kind do not apply.
    here[last] = value
    return None
