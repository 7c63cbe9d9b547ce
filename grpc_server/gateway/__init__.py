"""Brings requests of the HTTP port to the gRPC server, as calls like any other.

::

    request ── not a desk's path ──> a page of the HTTP port
       │
    its body ── too large, too late, no room ──> 413, 408, 503; nothing is computed
       │
    several processes? the supervisor passes head and body on to one of them
       │
    a thread of the gateway: the site of the path makes a message of the body
       │
    the bridge calls this process's own gRPC server ──> desk, guard, lane, metrics, logs, canary
       │
    the site makes a reply of the answer, or of the status

The bridge is a gRPC client. So the server cannot treat a call of the HTTP port differently, by
mistake or for lack of a feature.
"""
