"""``spotwatch run --code``: what a fresh machine runs. Standard library only, Python 3.10 too."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from spotwatchd.cli import bundle
from spotwatchd.errors import JobError

# Code, not data: what takes longer than a few seconds to fetch belongs elsewhere.
DEFAULT_MB = 100.0
_CREDENTIALS = re.compile(r"^(https?://)[^/@]*@")


def add_options(parser: argparse.ArgumentParser) -> None:
    """--code and what belongs to it."""
    add = parser.add_argument
    add(
        "--code",
        choices=("none", "git", "bundle"),
        default="none",
        help="how another machine gets the code: it has it (none), from the repository at the "
        "present commit (git), or from the store, packed by what .gitignore leaves (bundle)",
    )
    add(
        "--code-max-mb",
        type=float,
        default=DEFAULT_MB,
        metavar="MB",
        help=f"refuse a larger bundle ({DEFAULT_MB:g})",
    )
    add(
        "--code-dry-run",
        action="store_true",
        help="list what a bundle would hold, with sizes, and do nothing else",
    )


def describe(args: argparse.Namespace, cwd: Path, without: list[Path]) -> dict[str, Any]:
    """The fields ``code`` and ``bundle`` of the job, if it has code.

    Args:
        args: of the command line.
        cwd: working directory of the job, absolute.
        without: absolute paths that are not code: checkpoints, the environment file.

    Raises:
        JobError: no repository, no remote, no commit, or a bundle that is too large.
    """
    if args.code == "git":
        return {"code": _commit(args.name, cwd)}
    if args.code == "none":
        return {}
    found = _listing(args, cwd, without)
    for name in found.left_out:
        _say(args.name, f"{name} is not packed: {_why(name)}")
    if not found.by_git:
        _say(args.name, f"{found.root} is in no git repository: all of it is packed but for caches")
    for word in args.argv:
        if word.endswith(".py") and _is_outside(cwd / word, found.root):
            _say(args.name, f"{word} is not below {found.root}, so it is not packed")
    directory = _cache()
    code = bundle.pack(found, directory)
    return {"code": code, "bundle": str(bundle.path_of(directory, code["sha256"]))}


def dry_run(args: argparse.Namespace, cwd: Path, without: list[Path]) -> None:
    """Print what a bundle would hold. Raises JobError when it would be refused."""
    found = bundle.list_files(bundle.root_of(cwd), without)
    if args.json:
        files = [{"path": name, "size": size} for name, size in found.files]
        told = {"root": str(found.root), "by_git": found.by_git, "size": found.size}
        print(json.dumps({**told, "files": files, "left_out": found.left_out}))
    else:
        for name, size in found.files:
            print(f"{size:>12,} B  {name}")
        for name in found.left_out:
            print(f"{'left out':>14}  {name}")
        print(f"{found.size:>12,} B  in {len(found.files):,} files of {found.root}")
    bundle.check_size(found, args.code_max_mb)


def _listing(args: argparse.Namespace, cwd: Path, without: list[Path]) -> bundle.Listing:
    found = bundle.list_files(bundle.root_of(cwd), without)
    bundle.check_size(found, args.code_max_mb)
    return found


def _why(name: str) -> str:
    if name.endswith("/"):
        return "it is a repository of its own"
    return "it looks like a secret, or is a link that leads away"


def _is_outside(path: Path, root: Path) -> bool:
    real, inside = os.path.realpath(path), os.path.realpath(root)
    return path.exists() and not real.startswith(f"{inside}/")


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "spotwatch" / "code"


def _say(name: str, line: str) -> None:
    print(f"{name}  {line}", file=sys.stderr)


# -- git -------------------------------------------------------------------------------------


def _commit(name: str, cwd: Path) -> dict[str, str]:
    root = _ask(cwd, "rev-parse", "--show-toplevel")
    if root is None:
        raise JobError(
            "the working directory is in no git repository",
            where=str(cwd),
            remedy="commit the code to one, or use --code bundle",
        )
    commit = _ask(cwd, "rev-parse", "--verify", "HEAD^{commit}")
    if commit is None:
        raise JobError("the repository has no commit", where=root, remedy="git commit")
    url = _url(cwd, root)
    if Path(root, ".gitmodules").exists():
        _say(name, "submodules are not fetched on another machine: let --prepare do that")
    changed = _ask(cwd, "status", "--porcelain") or ""
    if changed:
        count = len(changed.splitlines())
        _say(
            name,
            f"the working tree has {count} change{'s' if count > 1 else ''} that commit "
            f"{commit[:12]} does not have: another machine runs it without them",
        )
    if not (_ask(cwd, "branch", "--remotes", "--contains", commit) or "").strip():
        _say(
            name,
            f"commit {commit[:12]} is on no branch of {url} that is known here: push it, or no "
            "other machine can fetch it",
        )
    return {"kind": "git", "url": url, "commit": commit, "root": root}


def _url(cwd: Path, root: str) -> str:
    remote = (_ask(cwd, "remote") or "").split()
    named = "origin" if "origin" in remote or not remote else remote[0]
    url = _ask(cwd, "remote", "get-url", named)
    if not url:
        raise JobError(
            "the repository has no remote that another machine could fetch from",
            where=root,
            remedy="git remote add origin URL and push, or use --code bundle",
        )
    bare = _CREDENTIALS.sub(r"\1", url)
    if bare != url:
        print(
            f"spotwatch: the credentials in the URL of {named} stay here; the other machine needs "
            "its own (a credential helper, a deploy key)",
            file=sys.stderr,
        )
    return f"file://{bare}" if bare.startswith("/") else bare


def _ask(cwd: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(cwd), *words], capture_output=True, check=False)
    except OSError as error:
        raise JobError("git is not installed", where="PATH", remedy="use --code bundle") from error
    return os.fsdecode(done.stdout).strip() if done.returncode == 0 else None
