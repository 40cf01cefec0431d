"""What every service stands on; not one business word.

Rooms, lowest first; each imports only from rooms below it, which the build checks:

- ``errors`` ``wire`` ``provider`` · ``config`` · ``logs`` ``metrics`` ``tracing`` · ``container`` ``schema``
- ``broker`` (publishing) · ``consumer`` ``database`` ``repository`` ``invariants`` ``letter``
- ``redelivery`` ``outbox`` ``auth`` ``cache``
- ``relay`` ``inbox`` · ``work``
- ``rpc_proxy`` ``messaging`` ``journey`` ``evidence`` ``migrations`` ``denials`` ``worker`` ``timer`` · ``rpc``
- ``dead_letters``
- ``problems`` · ``http_body`` · ``http_app`` ``http_protocol`` · ``http_server`` · ``http`` · ``probes`` · ``topology``
"""
