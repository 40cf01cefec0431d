"""What explorations saw, as tables in Markdown: those of the model's README."""

from collections.abc import Iterable, Mapping

from saga_model.explorer import Course, Outcome
from saga_model.moves import Weather
from saga_model.weathers import ALL_OF_THEM

Courses = Mapping[Weather, Course]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figures(courses: Courses) -> str:
    """What the weathers are like, and how much there was to explore in each."""
    head = ("Weather", "Dead letters at once", "The processor answers", "Customers are told by", "States", "Moves")
    return table(head, (figure(weather, course) for weather, course in courses.items()))


def figure(weather: Weather, course: Course) -> tuple[str, ...]:
    """A line of that."""
    dead = str(weather.most_dead or "none") if weather.most_dead < ALL_OF_THEM else "any number"
    answered = "charges" if weather.charges_answered else "when to give up"
    told_by = " and ".join(weather.channels) or "-"
    return weather.name, dead, answered, told_by, f"{course.states:,}", f"{course.moves:,}"


def outcomes(course: Course) -> str:
    """Where an order may come to rest."""
    rows = (
        (each.status, each.reason or "-", str(each.stock), str(each.payment), ", ".join(sorted(each.told)))
        for each in sorted(course.outcomes, key=order_of)
    )
    return table(("Order", "Because", "Stock", "Payment", "The customer was told of"), rows)


def order_of(outcome: Outcome) -> tuple[str, ...]:
    """What outcomes are sorted by."""
    return outcome.status, outcome.reason or "", str(outcome.stock), str(outcome.payment), *sorted(outcome.told)
