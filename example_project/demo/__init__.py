"""The whole story over HTTP, once, and a table of what happened: ``python -m example_project.demo``, or ``make demo``.

It starts the shop and a simulator of the gateways as processes of their own, buys as a browser would, pays at the simulator, and
reads everything back from the running processes: the shop's pages and ``status.json``, the admin, the simulator's control API.
"""
