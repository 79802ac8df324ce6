"""Pages of the reference that are written out of the code at every build: hooks and their types, keys, commands,
metrics.

They are made before the sources are read, and are not in the repository.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

import siperb_core
from siperb_core import hookspecs
from siperb_core.cli.app import add_commands, app
from siperb_core.entries import model
from siperb_core.own_metrics import OWN, PREFIX
from siperb_core.plugins import load_plugins

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("siperb_core/defaults", "siperb_core/operations.py", "siperb_core/watch.py", "plugins")
"""Where examples come from: what is shipped, the core's own behaviour last."""
PAGES = ("hooks.md", "plugin-types.md", "configuration-keys.md", "commands.md", "metrics.md")


def setup(sphinx: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    sphinx.connect("builder-inited", lambda built: write(Path(built.srcdir) / "reference"))
    return {"parallel_read_safe": True}


def write(folder: Path) -> None:
    """Write all pages."""
    for name, text in zip(PAGES, (hooks(), plugin_types(), keys(), commands(), metrics()), strict=True):
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:  # one that is as it was is not built anew
            path.write_text(text, encoding="utf-8")


# ---- hooks


def hooks() -> str:
    """Every hook: what it is given, when it is called, what happens when several plugins have it, and an example."""
    source = Path(hookspecs.__file__).read_text(encoding="utf-8")
    parts = [
        "# Hooks\n",
        "What a plugin can take part in. A hook is synchronous and quick, and returns things; what takes time is done "
        "by the things it returns. A plugin implements a hook by a function of the same name, marked with "
        "`siperb_core.hookimpl`, that takes all of its arguments or fewer. The classes named here are in "
        "[](plugin-types.md); each example is what is shipped.\n",
        "An entry point of the group `siperb.plugins` names the module. Where it names a class, one object of it is "
        "made for every gateway, and its methods are the hooks: the way to share state between them. "
        "`SIPERB_TRACE_HOOKS=1` in the environment prints every call.\n",
    ]
    for title, functions in _chapters(source):
        parts.append(f"## {title}\n")
        parts += [hook_page(getattr(hookspecs, name)) for name in functions]
    return "\n".join(parts)


def _chapters(source: str) -> Iterator[tuple[str, list[str]]]:
    """The hooks under the comments that part them."""
    for chapter in re.split(r"^# ---- ", source, flags=re.MULTILINE)[1:]:
        title, _, text = chapter.partition("\n")
        yield title[0].upper() + title[1:], re.findall(r"^def (siperb_\w+)\(", text, re.MULTILINE)


def hook_page(hook: Any) -> str:
    """One hook."""
    signature = inspect.signature(hook)
    first, _, rest = (inspect.getdoc(hook) or "").partition("\n\n")
    called, _, several = " ".join(rest.split()).partition("Several plugins: ")
    rows = [f"| `{name}` | {_type(parameter.annotation)} |" for name, parameter in signature.parameters.items()]
    table = ["| argument | |", "|---|---|", *rows, f"| returns | {_type(signature.return_annotation)} |"]
    where, code = example(hook.__name__)
    return "\n".join(
        [
            f"### {hook.__name__}\n",
            " ".join(first.split()) + "\n",
            *table,
            "",
            f"**When:** {called.strip()}\n",
            f"**Several plugins:** {several}\n",
            f"**Example**, from `{where}`:\n",
            f"```python\n{code}\n```\n",
        ]
    )


def _type(annotation: object) -> str:
    text = str(annotation).replace("|", r"\|")
    return f"`{text}`" if "|" not in text else f"<code>{text}</code>"


def example(hook: str) -> tuple[str, str]:
    """Where a shipped plugin implements a hook, and its text. A package's is better than the core's own.

    Raises LookupError where none does.
    """
    for place in reversed(SHIPPED):
        paths = sorted((ROOT / place).rglob("*.py")) if (ROOT / place).is_dir() else [ROOT / place]
        for path in paths:
            if "build" in path.parts or "tests" in path.parts:
                continue
            source = path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.FunctionDef) and node.name == hook and node.decorator_list:
                    lines = source.splitlines()[node.decorator_list[0].lineno - 1 : node.end_lineno]
                    return str(path.relative_to(ROOT)), textwrap.dedent("\n".join(lines))
    raise LookupError(f"no plugin that is shipped implements {hook}")


# ---- types


def plugin_types() -> str:
    """The public API: what `siperb_core` exports."""
    parts = ["# Types for plugins\n", "What `siperb_core` exports, and so what plugins may use; nothing else is.\n"]
    for name in sorted(siperb_core.__all__, key=str.lower):
        value = getattr(siperb_core, name)
        parts.append(f"## {name}\n")
        if isinstance(value, ModuleType):
            exported = getattr(value, "__all__", None)
            parts.append(f"A module. {_doc(value)}\n")
            parts.append(f"It has {', '.join(f'`{item}`' for item in exported)}.\n" if exported else "")
        elif inspect.isclass(value):
            parts.append(_class(value))
        elif inspect.isfunction(value):
            parts.append(f"```python\n{name}{inspect.signature(value)}\n```\n\n{_doc(value)}\n")
        else:
            parts.append(f"`{value}`\n".replace("siperb_core.entries.contract.", ""))
    return "\n".join(parts)


def _class(cls: type[Any]) -> str:
    parts = [f"{_doc(cls)}\n"]
    if attrs.has(cls):
        rows = [
            f"| `{field.name}` | {_type(field.type)} | {'' if field.default is attrs.NOTHING else _default(field)} |"
            for field in attrs.fields(cls)
            if field.init
        ]
        parts.append("\n".join(["| field | | default |", "|---|---|---|", *rows]) + "\n")
    for name, member in vars(cls).items():
        if not name.startswith("_") and inspect.isfunction(member) and inspect.getdoc(member):
            word = "async " if inspect.iscoroutinefunction(member) else ""
            parts.append(f"- `{word}{name}{inspect.signature(member)}`: {_doc(member)}")
        elif isinstance(member, property) and not name.startswith("_"):
            parts.append(f"- `{name}`: {_doc(member)}")
    return "\n".join(parts) + "\n"


def _doc(value: object) -> str:
    """A docstring as a paragraph, the examples at its end as a block; a test runs them."""
    said, mark, examples = (inspect.getdoc(value) or "").partition(">>> ")
    text = " ".join(said.split())
    text = re.sub(r"([<>*_])(?![^`]*`(?:[^`]*`[^`]*`)*[^`]*$)", r"\\\1", text)
    return f"{text}\n\n```python\n{mark}{examples}\n```" if mark else text


# ---- keys of the configuration


def keys() -> str:
    """Every key of the configuration file, out of the classes that check it."""
    parts = [
        "# Every key of the configuration\n",
        "Out of the classes the file is checked by; [](configuration.md) says what they are good for.\n",
    ]
    tables: list[tuple[str, type[Any]]] = [
        ("[gateway]", model.GatewaySettings),
        ("[[listen]]", model.Listen),
        ("[media]", model.MediaConfig),
        ("[plugins]", model.PluginsConfig),
        ("[[device]]", model.Device),
        ("[[connection]]", model.Entry),
    ]
    plugins = load_plugins()
    for kind, found in sorted(plugins.connection_types.items()):
        tables.append((f"[connection.settings] of {kind}", found.config_class))
    tables += [(f"[plugins.{name}]", cls) for name, cls in sorted(plugins.settings.items())]
    for title, cls in tables:
        parts.append(f"## `{title}`\n")
        parts.append("| key | type | default | |\n|---|---|---|---|")
        said = comments(cls)
        for field in attrs.fields(cls):
            if field.init and field.name not in HIDDEN:
                default = "required" if field.default is attrs.NOTHING else _default(field)
                parts.append(f"| `{field.name}` | {_type(field.type)} | {default} | {said.get(field.name, '')} |")
        parts.append("")
    return "\n".join(parts)


HIDDEN = ("problem", "allow_names", "version", "tables", "broken")
"""Fields the gateway fills in."""


def _default(field: Any) -> str:
    value = field.default
    if isinstance(value, attrs.Factory):  # type: ignore[arg-type]
        value = value.factory() if not value.takes_self else ""
    if value in (None, "", (), {}) or type(value).__name__ == "Secret":
        return "none"
    return f"`{list(value) if isinstance(value, tuple) else value}`".replace("|", r"\|")


def comments(cls: type[Any]) -> dict[str, str]:
    """What stands behind the fields of a class in its source, and of the classes it is derived from."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not attrs.has(base):
            continue
        lines = inspect.getsource(base).splitlines(keepends=True)
        words: dict[int, str] = {}
        for token in tokenize.generate_tokens(iter(lines).__next__):
            if token.type == tokenize.COMMENT:
                words[token.start[0]] = token.string.removeprefix("#").strip().replace("|", r"\|")
        tree = ast.parse(textwrap.dedent("".join(lines)))
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for node in body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.lineno in words:
                found[node.target.id] = words[node.lineno]
    return found


# ---- commands


def commands() -> str:
    """Every command with its options."""
    add_commands()
    parts = ["# Every command\n", "Out of the commands themselves; [](cli.md) has what they have in common.\n"]
    for words, command in walk(app, ()):
        if command.default_command is None:
            continue
        arguments = list(command.assemble_argument_collection())
        usage = " ".join(_usage(argument) for argument in arguments if argument.required)
        parts.append(f"## `{' '.join(('siperb', *words, usage)).strip()}`\n")
        parts.append(f"{' '.join((command.help or '').split())}\n")
        rows = [
            f"| `{' '.join(argument.names)}` | {_shown(argument)} | {argument.parameter.help or ''} |"
            for argument in arguments
        ]
        if rows:
            parts.append("\n".join(["| option | default | |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


# ---- metrics


def metrics() -> str:
    """Every metric of the core, out of the table it is collected by."""
    parts = [
        "# Every metric\n",
        "What `/metrics` of the console has, in Prometheus' text format, and `siperb show metrics` without the "
        "console; [](../how-to/watch-with-prometheus.md) collects them. Every combination of labels that is known "
        "beforehand is there from the start, with 0. A gauge is as it is now; a counter grows from the start of the "
        "gateway, and those of the media are a second old. No name of a person, no number and no address is in them.\n",
    ]
    for own in OWN:
        parts.append(f"## `{PREFIX}{own.name}`\n")
        parts.append(f"A {own.kind}. {own.help}\n")
        if own.labels:
            rows = [f"| `{label}` | {values} |" for label, values in own.labels.items()]
            parts.append("\n".join(["| label | |", "|---|---|", *rows]) + "\n")
    parts.append("## Those of plugins\n")
    parts.append(
        f"A plugin's are called `{PREFIX}PLUGIN_NAME` and are in its README; it gives them by the hook "
        "`siperb_metrics` ([](hooks.md)).\n"
    )
    return "\n".join(parts)


def walk(tree: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands below one, in order."""
    for name in _names(tree):
        yield (*words, name), tree[name]
        yield from walk(tree[name], (*words, name))


def _names(tree: Iterable[str]) -> list[str]:
    return [name for name in tree if not name.startswith("-")]


def _usage(argument: Any) -> str:
    name = argument.names[0]
    return str(name.removeprefix("--").upper())


def _shown(argument: Any) -> str:
    if argument.required:
        return "required"
    default = argument.field_info.default if argument.field_info else None
    return "" if default in (None, False, inspect.Parameter.empty) else f"`{default}`"
