"""What a person reads about the configuration, made from the model: the file with every default, and the page.

`python -m pipeline.config.reference`, in the repository's root, writes both anew; a test fails where they differ.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.config.schema import Config, section_in

WIDTH, COMMENT_COLUMN, LEAST_COMMENT = 120, 26, 40
"""Columns of the YAML file; where comments begin in it, unless a value is longer; the least width of one."""

FILE_HEAD = """\
# Every key Oddwatch knows, at its default, with its meaning. Copy what you change; leave out the rest.
# ${NAME} and ${NAME:-default} are taken from the environment: keep passwords there. Paths are relative to this file.
# Made from pipeline/config/schema.py by 'make reference'.
"""
PAGE_HEAD = """\
# Configuration

Every key of the YAML file that `oddwatch run CONFIG` and `--config` read. All may be left out, except a camera's
`source`; an unknown key is an error. [configs/oddwatch.yaml](../configs/oddwatch.yaml) is the same as a file.
`${NAME}` and `${NAME:-default}` are taken from the environment: keep passwords there. Paths are relative to the file.

Made from the model in `pipeline/config/schema.py`: change it there, then run `make reference`.
"""


def reference_yaml() -> str:
    """`configs/oddwatch.yaml`: loads as the default `Config()`, each key with its sentence as a comment."""
    parts = [FILE_HEAD]
    for name, field in Config.model_fields.items():
        parts.append("\n".join(_commented(name, field, _default(field), 0)) + "\n")
    return "\n".join(parts)


def reference_page() -> str:
    """`docs/configuration.md`: for each section a table of key, what is allowed, default and meaning."""
    parts = [PAGE_HEAD]
    for name, field in Config.model_fields.items():
        section = section_in(field.annotation)
        title = f"{name}.NAME" if _is_mapping(field.annotation) else name
        parts.append(f"## {title}\n\n{_sentence(field) or _sentence(section)}\n\n" + "\n".join(_table(section)) + "\n")
    return "\n".join(parts)


def _commented(key: str, field: FieldInfo, value: Any, depth: int) -> Iterator[str]:
    """The lines of one key, and of what is below it."""
    indent = "  " * depth
    if isinstance(value, BaseModel) or (isinstance(value, dict) and value):
        yield from _with_comment(f"{indent}{key}:", _sentence(field) or _sentence(section_in(field.annotation)))
        if isinstance(value, dict):
            for name, inner in value.items():
                yield f"{indent}  {name}:"
                yield from _below(inner, depth + 2)
        else:
            yield from _below(value, depth + 1)
    else:
        yield from _with_comment(f"{indent}{key}: {_scalar(value)}", _sentence(field))


def _below(section: BaseModel, depth: int) -> Iterator[str]:
    for key, field in type(section).model_fields.items():
        yield from _commented(key, field, _default(field), depth)


def _with_comment(text: str, comment: str) -> Iterator[str]:
    """The comment beside the text, and below it in the same column where it is long."""
    column = max(COMMENT_COLUMN, len(text) + 2)
    first, *more = textwrap.wrap(comment, max(LEAST_COMMENT, WIDTH - column - 2), break_on_hyphens=False)
    yield f"{text:<{column}}# {first}"
    yield from (f"{'':<{column}}# {line}" for line in more)


def _table(section: type[BaseModel]) -> Iterator[str]:
    schemas = section.model_json_schema()["properties"]
    yield "| key | allowed | default | meaning |"
    yield "|---|---|---|---|"
    for key, field in section.model_fields.items():
        default = "required" if field.is_required() else f"`{_scalar(_default(field))}`"
        cells = (f"`{key}`", _allowed(field, schemas[key]), default, _sentence(field))
        yield "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _allowed(field: FieldInfo, schema: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if section_in(field.annotation) is not None:
        return "section, by name" if _is_mapping(field.annotation) else "section"
    return _said(schema)


def _said(schema: Mapping[str, Any]) -> str:
    """A JSON schema of a plain value, in words."""
    if "anyOf" in schema:
        return " or ".join(_said(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    kind = schema["type"]
    if kind == "object":
        return f"names, each with a {_said(schema['additionalProperties'])}"
    if kind == "null":
        return "`null`"
    if kind == "boolean":
        return "`true`, `false`"
    if "pattern" in schema:
        return f"text like `{schema['pattern']}`"
    if kind == "string":
        return "path" if schema.get("format") == "path" else "text"
    return f"{kind}{_bounds(schema)}"


def _bounds(schema: Mapping[str, Any]) -> str:
    least, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    most, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if above is None and least is not None and most is not None:
        return f" from {least:g} to {most:g}"
    bounds = {"above": above, "at least": least if above is None else None, "at most": most, "below": below}
    said = ", ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)
    return f" {said}" if said else ""


def _sentence(said: FieldInfo | type[BaseModel] | None) -> str:
    """The docstring of a field or of a section, on one line."""
    if isinstance(said, FieldInfo):
        return " ".join((said.description or "").split())
    return " ".join((said.__doc__ or "").split()) if said is not None else ""


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)


def _scalar(value: Any) -> str:
    """As YAML has it; JSON is YAML, but text needs no quotes."""
    return yaml.safe_dump(value).splitlines()[0] if isinstance(value, str) else json.dumps(value)


def _is_mapping(annotation: Any) -> bool:
    """Whether the user chooses the names of the entries."""
    return get_origin(annotation) is dict or any(_is_mapping(one) for one in get_args(annotation))


REFERENCES = {Path("configs/oddwatch.yaml"): reference_yaml, Path("docs/configuration.md"): reference_page}
"""What is made, by its place in the repository."""


def main() -> None:
    """Write both, below the folder this is started in."""
    for path, make in REFERENCES.items():
        path.write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
