"""What every service stands on; not one business word.

Lowest room first:

``config`` ``errors`` ``wire`` ``provider`` ``logs`` ``metrics`` ``tracing`` ``container`` · ``database`` ``repository``
``cache`` ``auth`` · ``broker`` ``rpc`` ``inbox`` ``outbox`` ``work`` ``messaging`` ``timer`` · ``http`` ``probes``
``topology``. A room imports only from rooms below it.
"""
