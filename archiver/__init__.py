"""The archiver: keeps every event of many Flowdock flows in Postgres, for good.

The flow of data: the first line says what the data is at each stage, the names below it are the
modules that turn it into the next::

     bytes            frame             event               message          row
     flowdock.stream ─▶ flowdock.framing ─▶ flowdock.decode ─▶ domain.fold ───▶ store
     flowdock.client ─▶ (a page is a list of frames) ─┘            │
                                  └────────── ingest.apply ────────┘   one transaction:
                                                                       journal + rows + coverage

Imports point one way: ``cli > daemon, processes, simulator, embedded > works > settings, logs,
observing > ingest, export > flowdock, store > domain > errors, memory``. The wire and the store
meet in ``ingest`` and nowhere else; readers see only ``store``.

What must always be true; each is the name of a test:

1. the journal is append-only: what was received is kept as received, once;
2. a row is the replay of its journal, in any order, however often;
3. journal, rows and coverage land together, in one transaction;
4. coverage never claims an id that the archive does not hold and the server would list;
5. foreign data cannot stop the daemon; our own corruption must;
6. there is one writer: ``ingest.apply``;
7. a kill at any instruction costs nothing: what was not committed is requested again.
"""
