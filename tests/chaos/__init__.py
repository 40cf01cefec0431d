"""``./oms chaos``: a cluster under load while everything around it breaks, and then the question whether it held.

``plan`` draws what goes wrong and when from a seed, ``hurt`` does it, ``load`` buys meanwhile through both doors and
writes down what it was promised, ``verdict`` holds the promises against the books when all is quiet again.
"""
