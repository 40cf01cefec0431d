"""``./oms demo``: real orders against a running cluster, each one's journey as it happened, and a verdict.

It makes its own products and customers, so it may be run any number of times, also against somebody else's cluster. It
keeps to about two hundred small requests, at most ten of them at a time and four looks a second at one order; asked to
slow down (429, Retry-After) it does. Any one process may be killed meanwhile: the outcome is the same.
"""

import argparse
import os

from cli.demo_paper import Paper
from cli.demo_shop import Shop
from cli.demo_stories import STORIES
from cli.environments import ADMIN_EMAIL, admin_password, read_environment
from cli.progress import Progress
from cli.servers.ports import LOOPBACK
from cli.state import current
from cli.status import complete, lines
from cli.trouble import Trouble
from cli.up import bring_up

HELP = "place real orders and show what happened to each; starts a cluster if none runs"


def configure(parser: argparse.ArgumentParser) -> None:
    """--url and an administrator there."""
    parser.add_argument("--url", help="the gateway of another cluster, such as http://localhost:5011")
    parser.add_argument("--admin-email", default=os.environ.get("ADMIN_EMAIL"), help="or ADMIN_EMAIL")
    parser.add_argument("--admin-password", default=os.environ.get("ADMIN_PASSWORD"), help="or ADMIN_PASSWORD")


def run(args: argparse.Namespace) -> int:
    """0 when every story ended as it should."""
    paper = Paper()
    shop = open_shop(args)
    progress = Progress()
    shop.invite()
    progress.tell(f"{len(shop.customers)} customers registered at {shop.url}")
    unlike = []
    for number, (title, play) in enumerate(STORIES, start=1):
        paper.heading(number, title, (play.__doc__ or "").strip())
        story = play(shop)
        paper.story(story)
        unlike += [f"{title}: {complaint}" for complaint in story.complaints]
    paper.write("", paper.ink("=" * 100, "dim"))
    if unlike:
        paper.write(paper.ink("Not everything ended as it should:", "bad"), *(f"  {each}" for each in unlike))
        return 1
    paper.write(paper.ink(f"All {len(STORIES)} stories ended as they should, in {progress.seconds:.1f} s.", "good"))
    return 0


def open_shop(args: argparse.Namespace) -> Shop:
    """The shop at the URL, or at this checkout's own cluster, brought up when it does not run."""
    if args.url:
        if not args.admin_email or not args.admin_password:
            raise Trouble(
                "Another cluster's administrator is needed to make products: --admin-email, --admin-password."
            )
        return Shop(args.url, (args.admin_email, args.admin_password), None)
    state = current()
    if not (state.folder.exists() and complete(lines(state))):
        bring_up(state)
    url = f"http://{LOOPBACK}:{read_environment(state, 'gateway')['HTTP_PORT']}"
    return Shop(url, (ADMIN_EMAIL, admin_password(state)), state.mailbox)
