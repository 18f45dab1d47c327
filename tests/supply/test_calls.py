"""The engine starts no shell, runs no text as code and unpickles nothing: shown on the syntax tree of every module.

Ruff's bandit rules say much of this too; this test does not heed `noqa`.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execl", "os.execv", "os.execvp", "os.spawnl",
    "os.spawnv", "commands.getoutput", "subprocess.getoutput", "subprocess.getstatusoutput", "yaml.load",
    "yaml.unsafe_load", "asyncio.create_subprocess_shell", "create_subprocess_shell", "tempfile.mktemp",
    "ssl._create_unverified_context",
}  # fmt: skip
MODULES = {"pickle", "cPickle", "dill", "shelve", "marshal", "jsonpickle", "telnetlib", "ftplib", "xml.etree"}


def faults(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in CALLS or name.rpartition(".")[2] == "create_subprocess_shell":
                yield node.lineno, name
            yield from ((node.lineno, f"{k.arg}=") for k in node.keywords if _forbidden(k))
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if _module(alias.name))
        elif isinstance(node, ast.ImportFrom) and _module(node.module or ""):
            yield node.lineno, str(node.module)


def _forbidden(keyword: ast.keyword) -> bool:
    """`shell=` anything but False; verification of certificates off."""
    value = keyword.value.value if isinstance(keyword.value, ast.Constant) else ...
    return (keyword.arg == "shell" and value is not False) or (
        keyword.arg in {"verify", "ssl", "verify_ssl"} and value is False
    )


def _module(name: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in MODULES)


def test_no_module_of_the_engine_calls_what_runs_text() -> None:
    modules = sorted(SOURCE.rglob("*.py"))
    assert len(modules) > 100
    found = [
        f"{path.relative_to(SOURCE)}:{line} {what}"
        for path in modules
        for line, what in faults(ast.parse(path.read_text()))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "import os; os.system('ls ' + name)", "eval(text)", "exec(text)", "import pickle", "from pickle import loads",
        "subprocess.run(command, shell=True)", "subprocess.run(command, shell=given)", "yaml.load(text)",
        "asyncio.create_subprocess_shell(text)", "session.get(url, ssl=False)",
    ],
)  # fmt: skip
def test_what_would_run_text_is_found(text: str) -> None:
    assert list(faults(ast.parse(text)))
