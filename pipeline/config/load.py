"""From a YAML file to a checked `Config`; every error names file, line, key and remedy."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.config.schema import CameraConfig, Config, ModelConfig, section_in
from stages.errors import ConfigError


def load_config(path: Path | None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read and check a file; None gives the defaults. `${NAME}` and `${NAME:-default}` are taken from `environ`.

    Paths in the file are relative to it. Raises ConfigError, one line per problem.
    """
    if path is None:
        return Config()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot read the configuration ({getattr(error, 'strerror', None) or error})"
        ) from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: it holds a character that is not allowed") from error
    _refuse_repeats(path, node)
    if data is None:
        return Config()
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must be a mapping of sections ({', '.join(Config.model_fields)})")
    data = _substitute(data, environ, path, node, [])
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        lines = [_explain(path, node, e) for e in error.errors(include_url=False)]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None
    return _resolve_paths(config, path.parent)


_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def _substitute(value: Any, environ: Mapping[str, str], path: Path, node: yaml.Node | None, loc: list[str]) -> Any:
    if isinstance(value, dict):
        return {k: _substitute(v, environ, path, node, [*loc, str(k)]) for k, v in value.items()}
    if isinstance(value, list):
        return [_substitute(v, environ, path, node, loc) for v in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        found = environ.get(match[1], match[2])
        if found is None:
            raise ConfigError(
                f"{path}:{_line_of(node, loc)}: {'.'.join(loc)}: ${{{match[1]}}} is not set; "
                f"export it, or write ${{{match[1]}:-default}}"
            )
        return found

    return _VARIABLE.sub(replace, value)


def _refuse_repeats(path: Path, node: yaml.Node | None) -> None:
    """YAML lets the last of two equal keys win; here one of them is a mistake."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    first = seen[key.value]
                    raise ConfigError(f"{path}:{line}: {key.value}: is also on line {first}; remove one of them")
                seen[key.value] = line
            _refuse_repeats(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeats(path, value)


def _resolve_paths(config: Config, folder: Path) -> Config:
    def model(m: ModelConfig) -> ModelConfig:
        return m.model_copy(update={"checkpoint": folder / m.checkpoint}) if m.checkpoint else m

    def camera(c: CameraConfig) -> CameraConfig:
        source = c.source
        if "://" not in source and not source.startswith("/"):
            source = str(folder / source)
        models = {n: model(m) for n, m in c.models.items()} if c.models else None
        return c.model_copy(update={"source": source, "models": models})

    output = config.output
    if output.folder:
        output = output.model_copy(update={"folder": folder / output.folder})
    return config.model_copy(
        update={
            "models": {n: model(m) for n, m in config.models.items()},
            "cameras": {n: camera(c) for n, c in config.cameras.items()},
            "sinks": {n: sink.below(folder) for n, sink in config.sinks.items()},
            "output": output,
        }
    )


def _explain(path: Path, node: yaml.Node | None, error: Any) -> str:
    """`file:line: key: what is wrong; remedy` for one pydantic error. Values are never shown: they may be secrets."""
    loc = [str(part) for part in error["loc"]]
    line = _line_of(node, loc)
    key = ".".join(loc) or "file"
    if error["type"] == "extra_forbidden":
        known = _known_keys(loc[:-1])
        close = difflib.get_close_matches(loc[-1], known, 1)
        remedy = f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(known)}"
        return f"{path}:{line}: unknown key '{key}'; {remedy}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{path}:{line}: {key}: {message[0].lower() + message[1:]}"


def _line_of(node: yaml.Node | None, loc: list[str]) -> int:
    line = node.start_mark.line + 1 if node is not None else 1
    for part in loc:
        if not isinstance(node, yaml.MappingNode):
            break
        for key, value in node.value:
            if key.value == part:
                line, node = key.start_mark.line + 1, value
                break
        else:
            break
    return line


def _known_keys(loc: list[str]) -> list[str]:
    section: Any = Config
    for part in loc:
        fields = getattr(section, "model_fields", None)
        if fields is None:
            break
        if part in fields:
            section = section_in(fields[part].annotation)
    return list(getattr(section, "model_fields", {}))
