"""``spotwatch fake-imds``: run a fake EC2 metadata service, and tell it what to do.

Only ``serve`` needs aiohttp; the other orders go over HTTP with the standard library.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import signal
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from spotwatchd.errors import DaemonUnreachable, SpotwatchError

DEFAULT_ADDRESS = "127.0.0.1:1338"

# The service answers at once or not at all: it is on this machine.
_TIMEOUT = 5.0

if TYPE_CHECKING:
    # argparse gives what add_subparsers returns a private name, and makes it generic in stubs only.
    Parsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001


def register(subparsers: Parsers) -> None:
    """Add ``fake-imds`` and its orders; each sets ``func`` to a function from arguments to status.

    The functions raise SpotwatchError for what a person has to mend.
    """
    parser = subparsers.add_parser("fake-imds", help="a fake EC2 metadata service for tests")
    orders = parser.add_subparsers(dest="order", metavar="ORDER", required=True)
    _add_serve(orders)
    _add_notices(orders)
    _add_faults(orders)
    _add(orders, "clear", "withdraw everything and end all faults")
    _add(orders, "state", "show what is on display").set_defaults(func=_show)


def address(text: str) -> tuple[str, int]:
    """HOST:PORT, an IPv6 host in brackets."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, e.g. {DEFAULT_ADDRESS}")
    return host, int(port)


def finite(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def _add(orders: Parsers, name: str, help_text: str) -> argparse.ArgumentParser:
    parser = orders.add_parser(name, help=help_text)
    parser.add_argument(
        "--at",
        type=address,
        default=DEFAULT_ADDRESS,
        metavar="HOST:PORT",
        help="where the fake service listens (%(default)s)",
    )
    parser.set_defaults(func=_order, fields={})
    return parser


def _add_serve(orders: Parsers) -> None:
    parser = orders.add_parser("serve", help="run the service until Ctrl-C")
    parser.add_argument(
        "--listen",
        type=address,
        default=DEFAULT_ADDRESS,
        metavar="HOST:PORT",
        help="%(default)s; port 0 takes a free one",
    )
    parser.add_argument("--imds-v1", action="store_true", help="answer without a token, too")
    parser.set_defaults(func=_serve)


def _add_notices(orders: Parsers) -> None:
    notice = _add(orders, "notice", "announce that the instance goes away")
    notice.add_argument("--in", dest="seconds", type=finite, default=120.0, metavar="SECONDS")
    notice.add_argument("--action", choices=("terminate", "stop", "hibernate"), default="terminate")
    notice.set_defaults(fields={"seconds": "seconds", "action": "action"})
    _add(orders, "rebalance", "recommend a rebalance")
    event = _add(orders, "event", "schedule a maintenance event")
    event.add_argument("code", help="instance-stop, instance-retirement, system-reboot ...")
    event.add_argument("--in", dest="seconds", type=finite, default=120.0, metavar="SECONDS")
    event.set_defaults(fields={"code": "code", "seconds": "seconds"})
    group = _add(orders, "asg", "set the Auto Scaling target lifecycle state")
    group.add_argument("state", help="InService, Terminated ...")
    group.set_defaults(fields={"state": "state"})


def _add_faults(orders: Parsers) -> None:
    fault = _add(orders, "fault", "make the service misbehave")
    fault.add_argument(
        "kind", metavar="KIND", help="see docs/fake-imds.md, e.g. hang, 503, garbage"
    )
    fault.add_argument("--for", dest="seconds", type=finite, metavar="SECONDS")
    fault.add_argument("--times", type=int, metavar="N", help="for N requests only")
    fault.add_argument("--path", metavar="TEXT", help="only for paths that contain TEXT")
    fault.add_argument("--amount", type=finite, help="seconds or bytes, depending on KIND")
    names = ("kind", "seconds", "times", "path", "amount")
    fault.set_defaults(fields={name: name for name in names})
    _add(orders, "heal", "end all faults")


def _serve(args: argparse.Namespace) -> int:
    try:
        from spotwatchd.testing import FakeIMDS
    except ModuleNotFoundError as error:
        raise SpotwatchError(
            f"the fake metadata service needs {error.name}",
            where="spotwatch fake-imds serve",
            remedy="pip install 'spotwatchd[daemon]'",
        ) from error
    host, port = args.listen
    asyncio.run(_until_signal(FakeIMDS(host, port, imds_v1=args.imds_v1)))
    return 0


async def _until_signal(imds: Any) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with imds:
        print(f"fake metadata service on {imds.url}", flush=True)
        at = imds.url.removeprefix("http://")
        print(f"  announce   spotwatch fake-imds notice --in 20 --at {at}", flush=True)
        await ended.wait()


def _order(args: argparse.Namespace) -> int:
    values = {field: getattr(args, name) for field, name in args.fields.items()}
    body = {field: value for field, value in values.items() if value is not None}
    print(_story(_call(args.at, args.order, body)))
    return 0


def _show(args: argparse.Namespace) -> int:
    print(json.dumps(_call(args.at, "state", None), indent=2))
    return 0


def _story(state: dict[str, Any]) -> str:
    """One line for people about what is on display now."""
    parts = []
    if state["notice"]:
        parts.append(f"{state['notice']['action']} at {state['notice']['time']}")
    if state["rebalance"]:
        parts.append("rebalance recommended")
    parts += [f"{event['Code']} from {event['NotBefore']}" for event in state["events"]]
    if state["autoscaling"]:
        parts.append(f"target state {state['autoscaling']}")
    parts += [f"fault {kind}" for kind in state["faults"]]
    return f"{state['url']}: {', '.join(parts) or 'quiet'}"


def _call(at: tuple[str, int], order: str, body: dict[str, Any] | None) -> dict[str, Any]:
    host, port = at
    where = f"{f'[{host}]' if ':' in host else host}:{port}"
    request = urllib.request.Request(
        f"http://{where}/fake/v1/{order}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    # No proxy: what listens here is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_TIMEOUT) as response:
            state = json.loads(response.read())
    except urllib.error.HTTPError as error:
        raise _refusal(error, where) from error
    except (OSError, ValueError) as error:
        raise DaemonUnreachable(
            f"no fake metadata service answers: {error}",
            where=where,
            remedy=f"start one: spotwatch fake-imds serve --listen {where}",
        ) from error
    if not isinstance(state, dict) or "faults" not in state:
        raise _stranger(where)
    return state


def _refusal(error: urllib.error.HTTPError, where: str) -> SpotwatchError:
    """Reads and closes the answer."""
    with error:
        try:
            text = json.loads(error.read())["error"]
        except (OSError, ValueError, KeyError, TypeError):
            return _stranger(where)
    return SpotwatchError(str(text), where=where, remedy="see docs/fake-imds.md")


def _stranger(where: str) -> SpotwatchError:
    return SpotwatchError(
        "something else than the fake metadata service listens here",
        where=where,
        remedy="pass --at HOST:PORT as the fake printed it",
    )
