"""What looks at answered calls, in processes of their own.

::

    call answered ──> tap ──> backlog ──> feeder thread ──> socket ──> observer process
                       │         │              │                           │
                    sampled    bounded:      every 50 ms               handle, tick, close
                    by its id  full: dropped    │                           │
                                             counters <── reports ──────────┘

An observer can neither delay nor crash the server: the server never waits for it. A record without
room is dropped and counted. The process has the lowest priority, so that it cannot starve the
server either. It ends when the server does, because its socket closes then.
"""
