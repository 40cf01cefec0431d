"""The command line: one module per command, and the private servers that ``up`` and the tests stand on.

Nobody imports this package but itself and the tests; it may import anything.
"""
