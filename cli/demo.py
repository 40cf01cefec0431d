"""``./oms demo``: real orders against a running cluster, each one's journey as it happened, and a verdict.

It makes its own products and customers, so it may be run any number of times, also against somebody else's cluster. It
keeps to about two hundred small requests, at most ten of them at a time and four looks a second at one order; asked to
slow down (429, Retry-After) it does. Any one process may be killed meanwhile: the outcome is the same.
"""

import argparse
import os
from collections.abc import Callable, Sequence

from cli.demo_paper import Paper
from cli.demo_shop import Shop
from cli.demo_stories import STORIES, Story
from cli.environments import ADMIN_EMAIL, admin_password, read_environment
from cli.progress import Progress
from cli.servers.ports import LOOPBACK
from cli.services import SERVICES
from cli.state import State, current
from cli.supervision import Supervisor
from cli.trouble import Trouble
from cli.up import bring_up

HELP = "place real orders and show what happened to each; starts a cluster if none runs"


def configure(parser: argparse.ArgumentParser) -> None:
    """--url, --ca and an administrator there."""
    parser.add_argument("--url", help="the gateway of another cluster, such as https://localhost:5010")
    parser.add_argument(
        "--ca", default="", metavar="FILE", help="the authority to trust with https://, as in curl --cacert"
    )
    parser.add_argument("--admin-email", default=os.environ.get("ADMIN_EMAIL"), help="or ADMIN_EMAIL")
    parser.add_argument("--admin-password", default=os.environ.get("ADMIN_PASSWORD"), help="or ADMIN_PASSWORD")


def run(args: argparse.Namespace) -> int:
    """0 when every story ended as it should."""
    progress = Progress()
    shop = open_shop(args)
    shop.invite()
    progress.tell(f"{len(shop.customers)} customers registered at {shop.url}")
    return play(shop, Paper(), STORIES)


def play(shop: Shop, paper: Paper, stories: Sequence[tuple[str, Callable[[Shop], Story]]]) -> int:
    """Play and show the stories one after the other; 0 when every one ended as it should."""
    progress, unlike = Progress(), []
    for number, (title, tell) in enumerate(stories, start=1):
        paper.heading(number, title, (tell.__doc__ or "").strip())
        story = tell(shop)
        paper.story(story)
        unlike += [f"{title}: {complaint}" for complaint in story.complaints]
    paper.verdict(len(stories), unlike, progress.seconds)
    return 1 if unlike else 0


def open_shop(args: argparse.Namespace) -> Shop:
    """The shop at the URL, or at this checkout's own cluster, brought up when it does not run."""
    if args.url:
        if not args.admin_email or not args.admin_password:
            raise Trouble(
                "Another cluster's administrator is needed to make products: --admin-email, --admin-password."
            )
        return Shop(args.url, (args.admin_email, args.admin_password), None, args.ca)
    state = current()
    if not runs(state):
        bring_up(state)
    url = f"http://{LOOPBACK}:{read_environment(state, 'gateway')['HTTP_PORT']}"
    return Shop(url, (ADMIN_EMAIL, admin_password(state)), state.mailbox)


def runs(state: State) -> bool:
    """Whether there is a cluster whose every service runs, or is just being started again: the demo can wait for it."""
    if not state.folder.exists():
        return False
    return set(SERVICES) <= {process.name for process in Supervisor(state).processes() if process.runs}
