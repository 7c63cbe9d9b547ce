"""A shadow: a second model scores what the champion has answered, in a process of its own.

::

    answered calls ─> grpc_server.observe ─> __main__ ─> scorer ─> agreement, differences, times
                                                │
                              grpc_server.model.watch: the shadow's folder

A shadow that crashes, hangs or takes memory reaches no call: only its own process.
"""
