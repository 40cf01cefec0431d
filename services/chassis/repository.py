"""The base of every repository: the only place where a service's queries live."""

from sqlalchemy.orm import Session


class Repository:
    """Queries over one session, within the unit of work it belongs to. ``get_...`` raises, ``find_...`` may be None."""

    def __init__(self, session: Session) -> None:
        self.session = session
