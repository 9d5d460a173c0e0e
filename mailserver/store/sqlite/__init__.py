"""The SQLite engine: a database per account, read on the reactor, committed by threads.

Theory of operation. An account has two handles (an LRU of accounts): one that only reads,
with which the reactor asks directly, single statements, read to their end, some 5 µs each;
and one that writes. Every account belongs to one of a few writer threads. What is asked of
an account that is being written waits for its thread, which takes everything that is
queued, groups it by account, and runs one transaction for each: BEGIN IMMEDIATE, each
operation in a savepoint of its own, one COMMIT with one sync. Results go back to the
reactor in batches.

A short operation on an account that nobody is writing runs on the reactor itself, and only
its COMMIT, which waits for the disk, is left to the thread. A transaction is a dozen
statements of some µs; before each a thread would wait for the interpreter's lock, and the
reactor for the thread: that cost more than the statements.

Invariants:

- Nothing is answered before the COMMIT that holds it has returned.
- Operations of an account are done in the order in which they were asked for.
- A writing handle belongs to its thread while jobs of the account wait there or run, else
  to the reactor. The reactor opens and closes none, and never waits for another process:
  what it cannot begin at once it leaves to the thread, from the start.
- An operation that fails is undone alone. If SQLite gave up the whole transaction (disk
  full), each operation is run again in one of its own. If the COMMIT fails, every
  operation of it is refused, the handle is closed, and the next one opens and checks the
  file anew; the same sync is never tried again (R4).
- A group is synced if any operation of it wants that.
- A read handle is closed by the account's writer thread, before its own: the last closer
  writes the log back into the database, and that must not happen on the reactor.
- Other processes may write the same accounts: every write starts with BEGIN IMMEDIATE,
  never by upgrading a read. A thread that waits for another process commits meanwhile what
  was begun on the reactor, so that no two processes wait for each other.
"""
