"""Every text in the code that a user may get to read, and the texts that the pages explain.

A text is a string with words in it: the format of a log line, what an exception says, the reason that is put
into either. Where the code has a value, the text has a pair of single angle quotation marks.
"""

import ast
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "otpylib_telemetry",
    "otpylib_telemetry_otel",
    "otpylib_telemetry_prometheus",
    "otpylib_telemetry_mock",
)
PAGES = (
    ROOT / "docs" / "how-to" / "operate" / "troubleshooting.md",
    ROOT / "docs" / "reference" / "messages.md",
)

#: A value in a text.
GAP = "\u2039\u203a"
#: A text that nobody passes to a log or raises counts from so many words on: what is shorter is a name.
FEWEST_WORDS = 4

#: What is about measurements and settings, and not about trouble; other pages list it.
NO_TROUBLE = (
    "otpylib_telemetry/self_metrics/table.py",
    "otpylib_telemetry/metrics/conventions.py",
    "otpylib_telemetry/metrics/automatic/series.py",
    "otpylib_telemetry/instrument/otpylib/gauges.py",
    "otpylib_telemetry/meters/actors.py",
    "otpylib_telemetry/poller/measurements/",
    "otpylib_telemetry/command/json_schema.py",
    "otpylib_telemetry/command/completion.py",
    "otpylib_telemetry/admin/openapi.py",
    "otpylib_telemetry/admin/route_table.py",
    "otpylib_telemetry/admin/explain.py",
    "otpylib_telemetry_otel/sampling/explaining.py",
    "otpylib_telemetry_otel/metrics/sdk_names.py",
    "otpylib_telemetry_otel/settings/limits.py",
    "otpylib_telemetry_mock/conformance/",
)

#: Texts that nobody reads as they are: pydantic's, which are translated; a header's; those of docstrings.
NOT_READ = {
    "boolean_for_number",
    "Input should be a number, not a boolean",
    'Basic realm="metrics", charset="UTF-8"',
    "tag_values",
    "function of a definition failed",
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
    "Traceback (most recent call last):",
    f"Quantiles of {GAP} of {GAP}, over the last {GAP} seconds.",
    f"{GAP} In the environment: `{GAP}` (for spans alone), or else `{GAP}`.",
}

_LOGGERS = {"log", "_log", "logger", "_logger"}
_LEVELS = {"info", "warning", "error", "exception", "critical"}
#: Arguments that describe a setting, a metric or a command, or name a task.
_DESCRIBE = {"description", "help", "metavar", "name", "doc", "documentation", "summary", "epilog"}
_DESCRIPTIONS = re.compile(r"_?(?:HELP|DESCRIPTION|EPILOG|STATUS|RELATION)")
_PERCENT = re.compile(r"%(?:\.\d+)?[sdrgf]|\{[^{} ]*\}")
_WORD = re.compile(r"[A-Za-z]{2,}")
_TYPE_OR_HEADER = re.compile(r"[\w.]+\[.*\]|.* \| .*|[a-z]+/[\w.+-]+;.*|.*\(\?[:<!=].*")
_CELL = re.compile(r"`` (.+?) ``|`([^`]+)`")


class Text(NamedTuple):
    """A text in the code: where it is, what it is, whether a page has to explain it."""

    where: str
    text: str
    counts: bool


def texts():
    """Return every text that a user may get to read, and the words that one may be put together of."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            where = path.relative_to(ROOT).as_posix()
            if not where.startswith(NO_TROUBLE):
                found += _texts_of(ast.parse(path.read_text(encoding="utf-8")), where)
    return found


def _texts_of(tree, where):
    left_out, said = _left_out(tree), _said(tree, where)
    found = []
    for node in ast.walk(tree):
        if id(node) in left_out or not isinstance(node, (ast.Constant, ast.JoinedStr)):
            continue
        text = _text_of(node)
        if text is None or text in NOT_READ or _TYPE_OR_HEADER.fullmatch(text):
            continue
        words = len(_WORD.findall(text))
        mocks = where.startswith("otpylib_telemetry_mock")
        if words:
            counts = id(node) in said or (words >= FEWEST_WORDS and " " in text and not mocks)
            found.append(Text(f"{where}:{node.lineno}", text, counts))
    return found


def _text_of(node):
    if isinstance(node, ast.JoinedStr):
        return _flat(
            "".join(_gapped(each.value) if isinstance(each, ast.Constant) else GAP for each in node.values)
        )
    return _flat(_gapped(node.value)) if isinstance(node.value, str) else None


def _gapped(text):
    return _PERCENT.sub(GAP, text).replace("%%", "%")


def _flat(text):
    return " ".join(text.split()) if text.strip() else ""


def _left_out(tree):
    """Return the nodes that are no texts: docstrings, annotations, descriptions."""
    found = set()

    def leave_out(node):
        found.update(id(each) for each in ast.walk(node))

    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant()):
                leave_out(node)
            case ast.JoinedStr():
                found.update(id(each) for each in node.values)
            case ast.AnnAssign(target=ast.Name(id=name)) if _DESCRIPTIONS.fullmatch(name):
                leave_out(node)
            case ast.AnnAssign() | ast.arg() if node.annotation is not None:
                leave_out(node.annotation)
            case ast.keyword(arg=str(name)) if name in _DESCRIBE:
                leave_out(node.value)
            case ast.Call(func=ast.Attribute(attr="debug" | "compile")):
                leave_out(node)
            case ast.Call(func=ast.Attribute(value=ast.Constant() as words, attr="split")):
                leave_out(words)
            case ast.Assign(targets=[ast.Attribute(attr="__doc__")]):
                leave_out(node)
            case ast.Call(func=ast.Name(id="supervisor_module" | "service_module" | "exporter_module")):
                leave_out(node)
            case ast.DictComp():
                leave_out(node)
    return found


def _said(tree, where):
    """Return the nodes that are passed to a log or an exception, directly or as constants."""
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    found = set()

    def add(node):
        match node:
            case ast.Name() if node.id in constants:
                add(constants[node.id])
            case ast.IfExp():
                add(node.body)
                add(node.orelse)
            case ast.BinOp(op=ast.Add()):
                add(node.left)
                add(node.right)
            case ast.Constant() | ast.JoinedStr():
                found.add(id(node))
            case _:
                pass

    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=value, attr=attr)) if (
                attr in _LEVELS and ast.unparse(value).rpartition(".")[2] in _LOGGERS and node.args
            ):
                add(node.args[0])
            case ast.Raise(exc=ast.Call() as call) if not _is_left_to_pages(call, where):
                for argument in call.args:
                    add(argument)
    return found


def _is_left_to_pages(call, where):
    """Tell whether an exception says all by itself: a failed assertion, an attribute that is not there."""
    name = ast.unparse(call.func)
    return name == "AttributeError" or (
        name == "AssertionError" and where.startswith("otpylib_telemetry_mock")
    )


def pattern(text):
    """Return what finds a text of the code in one of a page."""
    return re.compile(".*?".join(re.escape(part) for part in text.split(GAP)))


def is_in(text, other):
    """Tell whether what finds a text would find it in another; looking for words is quicker."""
    position = 0
    for part in text.split(GAP):
        position = other.find(part, position) + len(part)
        if position < len(part):
            return False
    return True


def explained():
    """Return the texts that the pages explain, as (where, text)."""
    found = []
    for page in PAGES:
        code = None
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            if line.startswith("```"):
                if code:
                    found.append((f"{page.name}:{code[0]}", _gaps(" ".join(code[1:]))))
                code = [number] if line == "```text" else None
            elif code is not None:
                code.append(line)
            elif line.startswith("| `"):
                first = re.split(r"(?<!\\)\|", line)[1]
                found += [
                    (f"{page.name}:{number}", _gaps(wide or narrow)) for wide, narrow in _CELL.findall(first)
                ]
    return found


def sentences(text):
    """Return what is between the gaps of a text, sentence by sentence, as far as it is some words."""
    parts = [part.strip(" .,;:()'") for gap in text.split(GAP) for part in re.split(r"(?<=[.;:]) ", gap)]
    return [part for part in parts if len(_WORD.findall(part)) > 1]


def _gaps(text):
    return _flat(re.sub("\u2039[^\u203a\n]*\u203a", GAP, text.replace("\\|", "|")))
