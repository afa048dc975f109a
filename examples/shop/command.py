"""The command line of the demonstration."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import io
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from examples.shop.stage import Stage

#: What has to be installed: module to distribution.
NEEDED = {
    "rich": "rich",
    "prometheus_client": "prometheus-client",
    "aiohttp": "otpylib-telemetry[prometheus]",
    "grpc": "otpylib-telemetry[otel]",
    "opentelemetry.proto": "otpylib-telemetry[otel]",
}

INTERRUPTED, TERMINATED = 130, 143


def main() -> int:
    """Run the demonstration.

    Returns:
        0 if everything it claims held, 1 if something did not, 2 if it could not run, 3 if the machine was
        too busy to tell; 130 after Ctrl-C and 143 after SIGTERM.
    """
    arguments = _parser().parse_args()
    if missing := sorted({source for module, source in NEEDED.items() if not _is_installed(module)}):
        wanted = " ".join(f"'{source}'" for source in missing)
        print(f"The demonstration needs more than is installed here: pip install {wanted}", file=sys.stderr)
        return 2
    return _run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.shop",
        description="A shop under load, watched and reconfigured while it runs.",
        epilog="Exit status: 0 if everything it claims held, 1 if something did not, 2 if it could not run, "
        "3 if the machine was too busy to tell whether a claim about time holds and everything else held.",
    )
    parser.add_argument("--keep", action="store_true", help="stay open afterwards, until Ctrl-C")
    parser.add_argument(
        "--port", type=port_number, metavar="PORT", default=0, help="of the shop (default: any free one)"
    )
    parser.add_argument(
        "--metrics-port",
        type=port_number,
        metavar="PORT",
        default=0,
        help="of the metrics (default: any free one)",
    )
    parser.add_argument(
        "--rate", type=rate, metavar="N", default=150.0, help="requests per second (default: %(default).0f)"
    )
    parser.add_argument(
        "--collector-stays-dead", action="store_true", help="break the demonstration, to see that it notices"
    )
    parser.add_argument("--quick", action="store_true", help="look at everything for half as long")
    return parser


def port_number(text: str) -> int:
    """Read a port; argparse names this function when it cannot."""
    port = int(text)
    if not 0 <= port <= 65_535:  # noqa: PLR2004  # what a port can be
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return port


def rate(text: str) -> float:
    """Read a rate; argparse names this function when it cannot."""
    number = float(text)
    if not 10 <= number <= 1000:  # noqa: PLR2004  # too few to tell anything, too many for one process
        raise argparse.ArgumentTypeError("10 to 1000 requests per second make sense here")
    return number


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _run(arguments: argparse.Namespace) -> int:
    # Only now is known that these can be imported.
    from examples.shop.screen import Screen  # noqa: PLC0415
    from examples.shop.stage import Options, Stage  # noqa: PLC0415
    from examples.shop.witness import OperatorsLog  # noqa: PLC0415

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal or a locale without line drawing
    screen, log = Screen(), OperatorsLog()
    log.install()
    with tempfile.TemporaryDirectory(prefix="shop-") as directory:
        stage = Stage(Options(**vars(arguments)), screen, log, Path(directory))
        try:
            asyncio.run(_play(stage))
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is ending as fast as it can
            if not (arguments.keep and stage.claims.complete):
                screen.say("interrupted: the shop is closed")
                return INTERRUPTED
            screen.say("the shop is closed")
        except asyncio.CancelledError:
            screen.say("terminated: the shop is closed")
            return TERMINATED
        except OSError as error:
            print(f"The demonstration cannot run: {error}", file=sys.stderr)
            return 2
    return screen.verdict(stage.claims, time.monotonic() - screen.began)


async def _play(stage: Stage) -> None:
    """Run it; SIGTERM ends it as orderly as Ctrl-C does."""
    from examples.shop.scenario import play  # noqa: PLC0415  # as above

    task = asyncio.current_task()
    if task is not None:
        with contextlib.suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await play(stage)
