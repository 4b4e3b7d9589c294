"""Load the two files of a product, with every problem of both reported in one go."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from recsys_mtl.errors import ConfigError, Problem
from recsys_mtl.spec.feature_spec import FeatureSpec, TimeSplit
from recsys_mtl.spec.interpolate import environment_overrides, interpolate
from recsys_mtl.spec.label_rules import late_labels
from recsys_mtl.spec.layout import Layout, compile_layout
from recsys_mtl.spec.model_rules import interests_need_sequences
from recsys_mtl.spec.overrides import apply_overrides
from recsys_mtl.spec.parse import Parsed, parse
from recsys_mtl.spec.pipeline import Pipeline
from recsys_mtl.spec.pipeline_rules import check_pipeline
from recsys_mtl.spec.rules import check_spec
from recsys_mtl.spec.view import View, list_of, located
from recsys_mtl.spec.yaml_nodes import Document, read_yaml

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A pipeline file with its feature spec."""

    pipeline: Pipeline
    spec: FeatureSpec
    pipeline_path: Path
    spec_path: Path
    origins: dict[str, str] = field(default_factory=dict)
    """Dotted path of each overridden value to the flag or variable that set it."""
    warnings: tuple[Problem, ...] = ()
    """What the user may want to change; logged when loaded."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources that are trained together."""
        creatives = self.pipeline.creatives
        names = (self.pipeline.data.source, *((creatives.source,) if creatives else ()))
        return tuple(dict.fromkeys(names))

    @property
    def is_ad_level(self) -> bool:
        """Whether all rows are ad-level, so that there is nothing but a survival label."""
        creatives = self.pipeline.creatives
        return creatives is not None and creatives.source == self.pipeline.data.source

    @cached_property
    def layout(self) -> Layout:
        """Inputs and tasks of all sources that are trained together."""
        return compile_layout(self.spec, *self.sources)

    @property
    def home(self) -> Path:
        """Folder of all artifacts."""
        return Path(self.pipeline.home)


def load_feature_spec(path: Path) -> FeatureSpec:
    """Load and check a feature spec.

    Raises:
        ConfigError: with all problems, each at its line.
    """
    document, parsed, problems = _read_spec(path)
    if parsed.model is None or problems:
        raise ConfigError(_in_file_order(problems))
    spec = parsed.model
    if isinstance(spec.split, TimeSplit):
        for name in spec.sources:
            _warn(_late_labels(document, name, spec.split.embargo))
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
    origins, problems = apply_overrides(document, Pipeline, environment_overrides(), overrides)
    problems += document.problems + interpolate(document)
    parsed = parse(document, Pipeline)
    problems += parsed.problems
    spec_path = path.parent / str(parsed.values.get("spec", ""))
    spec: Parsed[FeatureSpec] | None = None
    if "spec" in parsed.values and not spec_path.is_file():
        text = f"no file {str(spec_path)!r}; the path is relative to the pipeline file"
        problems.append(Problem(document.where(("spec",)), text, "Correct it.", "P010"))
    elif "spec" in parsed.values:
        try:
            spec_document, spec, faults = _read_spec(spec_path)
            problems += faults
        except ConfigError as error:
            problems += error.problems
    problems += _policy_exists(document, parsed, path)
    view = View.of(spec) if spec is not None else None
    problems += located(document, check_pipeline(View.of(parsed), view))
    if parsed.model is None or spec is None or spec.model is None or problems:
        raise ConfigError(_in_file_order(problems))
    split = parsed.model.split or spec.model.split
    embargo = getattr(split, "embargo", None)
    source = parsed.model.data.source
    late = _late_labels(spec_document, source, embargo) if embargo else []
    sequences = len(spec.model.sequences_of(source))
    unused = located(document, list(interests_need_sequences(View.of(parsed), sequences)))
    warnings = tuple(_warn(late + unused))
    return Loaded(parsed.model, spec.model, path, spec_path, origins, warnings)


def load_schedule(path: Path) -> Pipeline:
    """A pipeline file alone, its `${NAME}` unresolved: enough to schedule it elsewhere.

    Raises:
        ConfigError: with all problems.
    """
    document = read_yaml(path)
    parsed = parse(document, Pipeline)
    problems = document.problems + parsed.problems + _policy_exists(document, parsed, path)
    problems += located(document, check_pipeline(View.of(parsed), None))
    if parsed.model is None or problems:
        raise ConfigError(_in_file_order(problems))
    return parsed.model


def _read_spec(path: Path) -> tuple[Document, Parsed[FeatureSpec], list[Problem]]:
    document = read_yaml(path)
    parsed = parse(document, FeatureSpec)
    problems = document.problems + parsed.problems
    return document, parsed, problems + located(document, check_spec(View.of(parsed)))


def _policy_exists(document: Document, parsed: Parsed[Pipeline], path: Path) -> list[Problem]:
    loc = ("schedule", "policy")
    policy = View.of(parsed).get(*loc)
    if policy is None or (path.parent / policy).is_file():
        return []
    text = f"no file {str(path.parent / policy)!r}; the path is relative to the pipeline file"
    return [Problem(document.where(loc), text, "Correct it.", "P010")]


def _late_labels(document: Document, source: str, embargo: str) -> list[Problem]:
    block = document.values["sources"][source]
    labels = list(list_of(block, ("sources", source), "labels"))
    return located(document, list(late_labels(labels, embargo)))


def _warn(problems: list[Problem]) -> list[Problem]:
    for problem in problems:
        _log.warning("%s", problem)
    return problems


def _in_file_order(problems: list[Problem]) -> list[Problem]:
    """Sorted by file and line; what YAML misread is not reported as a wrong type as well."""
    misread = {p.where for p in problems if p.code == "S001"}

    def key(problem: Problem) -> tuple[str, int]:
        file, _, rest = problem.where.partition(":")
        line = rest.split(":")[0]
        return file, int(line) if line.isdigit() else 0

    kept = [p for p in problems if p.code != "S003" or p.where not in misread]
    return sorted(dict.fromkeys(kept), key=key)
