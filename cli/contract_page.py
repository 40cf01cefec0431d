"""The page of the events: the AsyncAPI document as plain HTML that needs no script."""

import json
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any, Final

from cli.contract_schemas import Json

HEAD: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="/docs/docs.css">
</head>
<body>
<main>
<p class="top"><a href="/docs">The HTTP API</a> <a href="/asyncapi.json">This as AsyncAPI</a></p>
<h1>{title}</h1>
"""
TAIL: Final = "</main>\n</body>\n</html>\n"


def page(document: Json) -> str:
    """The whole page."""
    return HEAD.format(title=escape(document["info"]["title"])) + "\n".join(body(document)) + "\n" + TAIL


def body(document: Json) -> Iterator[str]:
    """What stands between head and tail."""
    for paragraph in document["info"]["description"].strip().split("\n\n"):
        yield f"<p>{text(paragraph)}</p>"
    yield "<h2>At a glance</h2>"
    yield table(["Event", "Publisher", "Who reacts"], (glance(document, name) for name in document["channels"]))
    yield "<h2>Each event</h2>"
    for name in document["channels"]:
        yield from event(document, name)
    yield "<h2>What they are made of</h2>"
    for name, schema in document["components"]["schemas"].items():
        if name not in document["channels"]:
            yield from part(name, schema)


def glance(document: Json, name: str) -> list[str]:
    """An event's row in the first table."""
    (sender,) = (each["x-service"] for each in operations(document, name, "send"))
    readers = sorted({each["x-service"] for each in operations(document, name, "receive")})
    return [link(name), escape(sender), escape(", ".join(readers))]


def event(document: Json, name: str) -> Iterator[str]:
    """The section of one event."""
    channel, message = document["channels"][name], document["components"]["messages"][name]
    schema = document["components"]["schemas"][name]
    yield f'<h3 id="{escape(name)}">{escape(name)}</h3>'
    yield f"<p>{text(schema['description'])}</p>".replace("\n\n", "</p>\n<p>")
    exchange = channel["bindings"]["amqp"]["exchange"]["name"]
    yield f"<p>Exchange {code(exchange)}, routing key {code(channel['address'])}.</p>"
    reactions = operations(document, name, "receive")
    yield table(
        ["Service", "Reaction", "Queue"],
        ([escape(each["x-service"]), text(each["summary"]), code(each["x-queue"])] for each in reactions),
    )
    yield table(["Field", "Type", ""], members(schema))
    example = json.dumps(message["examples"][0]["payload"], indent=2)
    yield f"<details><summary>An example</summary>\n<pre>{escape(example)}</pre></details>"


def part(name: str, schema: Json) -> Iterator[str]:
    """The section of something that events are made of."""
    yield f'<h3 id="{escape(name)}">{escape(name)}</h3>'
    yield f"<p>{text(schema['description'])}</p>"
    if "enum" in schema:
        yield f"<p>One of {', '.join(code(word) for word in schema['enum'])}.</p>"
    else:
        yield table(["Field", "Type", ""], members(schema))


def members(schema: Json) -> Iterator[list[str]]:
    """A row for each field."""
    for name, member in schema["properties"].items():
        needed = "" if name in schema["required"] else f"else {code(json.dumps(member.get('default')))}"
        yield [code(name), kind(member), needed]


def kind(member: Mapping[str, Any]) -> str:
    """The type of a field in words."""
    if "$ref" in member:
        return link(member["$ref"].rpartition("/")[2])
    if "anyOf" in member:
        return " or ".join(kind(each) for each in member["anyOf"])
    if "const" in member:
        return code(json.dumps(member["const"]))
    if member["type"] == "array":
        return f"list of {kind(member['items'])}"
    return escape(member.get("format", member["type"]))


def operations(document: Json, name: str, action: str) -> list[Json]:
    """Who sends or receives the event."""
    all_of_them = document["operations"].values()
    return [each for each in all_of_them if (each["channel"]["$ref"], each["action"]) == (f"#/channels/{name}", action)]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of cells that are HTML already."""
    lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def text(prose: str) -> str:
    """Prose with its code in backticks."""
    return "".join(f"<code>{each}</code>" if odd % 2 else each for odd, each in enumerate(escape(prose).split("`")))


def code(word: str) -> str:
    """A word of the wire."""
    return f"<code>{escape(str(word))}</code>"


def link(name: str) -> str:
    """A link to the section of that name."""
    return f'<a href="#{escape(name)}">{escape(name)}</a>'
