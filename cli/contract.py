"""``./oms contract``: writes what the gateway tells others about itself and its events, from the code."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from cli.contract_asyncapi import asyncapi
from cli.contract_openapi import openapi
from cli.contract_page import page
from cli.state import CHECKOUT
from services.chassis import wire

HELP = "write the OpenAPI and AsyncAPI documents anew"
FOLDER: Final = CHECKOUT / "contract"


def configure(parser: argparse.ArgumentParser) -> None:
    """--check."""
    parser.add_argument("--check", action="store_true", help="write nothing; fail when something would change")


def run(args: argparse.Namespace) -> int:
    """0, or 1 when ``--check`` finds something out of date."""
    wanted = documents()
    stale = [file for file, text in wanted.items() if not file.exists() or file.read_text() != text]
    for file in stale:
        if not args.check:
            file.write_text(wanted[file])
        print(f"{'Out of date' if args.check else 'Written'}: {file.relative_to(CHECKOUT)}")
    return 1 if args.check and stale else 0


def documents() -> Mapping[Path, str]:
    """What stands in each generated file."""
    told = asyncapi()
    return {
        FOLDER / "openapi.json": as_json(openapi()),
        FOLDER / "asyncapi.json": as_json(told),
        FOLDER / "events.html": page(told),
    }


def as_json(document: object) -> str:
    """Readable, and the same each time."""
    return msgspec.json.format(wire.encode(document), indent=2).decode() + "\n"
