"""``spotwatch receipts``: what each interruption did, from the notice to the first new step."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from spotwatchd.cli import options, words

if TYPE_CHECKING:
    from spotwatchd.cli.options import Parsers

Document = dict[str, Any]


def register(subparsers: Parsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("receipts", help="what past interruptions did to the jobs")
    parser.add_argument("name", metavar="NAME", nargs="?", help="one job only")
    parser.add_argument("--limit", type=int, default=10, metavar="N", help="the newest N (10)")
    options.common(parser)
    parser.set_defaults(func=_receipts)


def _receipts(args: argparse.Namespace) -> int:
    found = options.ask(args, "GET", "/v1/receipts")
    chosen = [each for each in found if args.name in (None, each.get("job"))][: max(0, args.limit)]
    if args.json:
        print(json.dumps(chosen))
    elif not chosen:
        print("no interruption so far")
    else:
        print("\n\n".join(receipt_text(each) for each in chosen))
    return options.OK


def receipt_text(receipt: Document) -> str:
    """A receipt as people read it. A loss comes first, with its reason."""
    notice = receipt.get("notice") or {}
    where = f" of {receipt['machine']}" if receipt.get("machine") else ""
    what = f"Interruption{where}, {notice.get('action', 'unknown')}"
    lines = [f"{what}, {_time(notice.get('seen_at'))}    {receipt.get('job')}"]
    if receipt.get("lost_steps") or receipt.get("outcome") not in (None, "committed"):
        lines.append(_loss(receipt))
    lines += [_mark(mark) for mark in receipt.get("marks") or []]
    decisions = receipt.get("decisions") or []
    lines += [_decision(each) for each in decisions if isinstance(each, dict)]
    if receipt.get("outcome") == "committed":
        lines.append(_end(receipt))
        if receipt.get("resume_command") and not receipt.get("resumed_on"):
            lines.append(f"  to go on: {receipt['resume_command']}")
    elif receipt.get("outcome") is None:
        lines.append("  not over yet")
    return "\n".join(lines)


def _time(iso: Any) -> str:
    return str(iso or "").partition(".")[0].replace("T", " ").rstrip("Z") + " UTC"


def _loss(receipt: Document) -> str:
    lost, reason = receipt.get("lost_steps"), receipt.get("reason")
    said = (
        "LOST an unknown number of steps" if lost is None else f"LOST {words.count(lost, 'step')}"
    )
    return f"  {said}: {reason}" if reason else f"  {said}"


def _mark(mark: Document) -> str:
    seconds = float(mark.get("seconds") or 0.0)
    shown = f"{seconds:.2f}" if seconds < 100 else f"{seconds:.0f}   "
    sign = "+" if seconds else " "
    return f"  {mark.get('mark', ''):<16}{sign}{shown:>8} s   {mark.get('text') or ''}".rstrip()


def _decision(decision: Document) -> str:
    """What the budget decided, and when."""
    return _mark({"mark": "decided", **decision})


def _end(receipt: Document) -> str:
    lost = receipt.get("lost_steps")
    parts = ["lost steps unknown" if lost is None else f"lost {words.count(lost, 'step')}"]
    if receipt.get("spare_seconds") is not None:
        parts.append(f"{words.span(max(0.0, float(receipt['spare_seconds'])))} to spare")
    return "  " + " · ".join(parts)
