"""Check that each third-party library stays in its room and that light rooms need none.

Run by ./scripts/check and by the tests. Prints one line per breach; exits 1 if there is any.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

# Library -> the only places that may import it (a folder ends with "/").
ROOMS: dict[str, tuple[str, ...]] = {
    "aiohttp": ("watch/", "control/", "testing/"),
    "boto3": ("store/s3.py",),
    "botocore": ("store/s3.py",),
    "urllib3": ("store/s3.py",),  # under botocore, which lets some of its errors through
    "awscrt": ("store/checksum.py",),
    "psutil": ("jobs/",),
    "structlog": ("logs.py",),
    "rich": ("cli/text.py",),
    "torch": ("torch.py", "_torch/"),
    "numpy": ("torch.py", "_torch/"),
}
# sdnotify: one file, wherever it is; the file decides its name.
SINGLE_FILE = ("sdnotify",)
# Imported by training environments, on Python 3.10 too, with nothing installed beside the package.
CLI: tuple[str, ...] = (
    "__init__",
    "main",
    "run",
    "follow",
    "tail",
    "private",
    "environment",
    "options",
    "extra",
)
CLI += ("bundle", "code", "external", "interpreter")
LIGHT = ("errors.py", "wire/", "client/", "__init__.py", *(f"cli/{name}.py" for name in CLI))
NEW_IN_311 = ("tomllib",)


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every absolute import in a module, wherever it stands: (dotted name, line)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module, node.lineno


def _inside(path: str, places: tuple[str, ...]) -> bool:
    return any(path.startswith(place) if place.endswith("/") else path == place for place in places)


def _breach(path: str, name: str) -> str | None:
    top = name.partition(".")[0]
    if top in ("spotwatchd", "_typeshed"):  # the second exists for type checkers only
        return None
    if top not in sys.stdlib_module_names:
        if top not in ROOMS and top not in SINGLE_FILE:
            return f"{top} has no room: add it to ROOMS with a reason, or do without"
        if top in ROOMS and not _inside(path, ROOMS[top]):
            return f"{top} may be imported only in {', '.join(ROOMS[top])}"
    if _inside(path, LIGHT) and (top not in sys.stdlib_module_names or top in NEW_IN_311):
        return f"{top} is not in the standard library of Python 3.10"
    return None


def _syntax(path: str, source: str) -> str | None:
    if not _inside(path, LIGHT):
        return None
    try:
        ast.parse(source, feature_version=(3, 10))
    except SyntaxError as error:
        return f"Python 3.10 does not read this: {error.msg}"
    return None


def breaches(package: Path) -> Iterator[str]:
    """One sentence per breach in the package at ``package``."""
    singles: dict[str, set[str]] = {name: set() for name in SINGLE_FILE}
    for file in sorted(package.rglob("*.py")):
        path = file.relative_to(package).as_posix()
        source = file.read_text(encoding="utf-8")
        if problem := _syntax(path, source):
            yield f"{path}: {problem}"
        for name, line in imports(ast.parse(source)):
            if name in singles:
                singles[name].add(path)
            if problem := _breach(path, name):
                yield f"{path}:{line}: {problem}"
    for name, files in singles.items():
        if len(files) > 1:
            yield f"{name} is imported in {', '.join(sorted(files))}: one file is enough"


def main() -> int:
    package = Path(__file__).resolve().parent.parent / "spotwatchd"
    found = list(breaches(package))
    for sentence in found:
        print(sentence, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
