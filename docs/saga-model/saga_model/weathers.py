"""The weathers in which the product is explored. The first three take seconds, and every run of the tests does them."""

from typing import Final

from saga_model.moves import Weather
from services.notifications.models import Channel

ALL_OF_THEM: Final = 99
"""More than there are letters."""

CALM: Final = Weather("calm", charges_answered=True, channels=tuple(Channel))
FOG: Final = Weather("fog")
SQUALL: Final = Weather("squall", most_dead=1)
STORM: Final = Weather("storm", most_dead=ALL_OF_THEM)
MAIL_STORM: Final = Weather("storm with mail", most_dead=1, channels=(Channel.EMAIL,))

BRIEF: Final = (CALM, FOG, SQUALL)
ALL: Final = (*BRIEF, STORM, MAIL_STORM)
