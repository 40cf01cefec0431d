"""Classic mistakes, put into copies of the real code one by one, and the test that finds each.

``./oms mutants`` runs them all; ``catalogue.py`` lists them.
"""
