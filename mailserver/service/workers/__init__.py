"""Processes that serve beside the first one (SUN-31).

`crew` is the first process's side: it starts the others, gives them connections and speaks for
all of them. `worker` is the program of one of the others. Between them lie two sockets:
`handing` carries connections, `channel` words.

Theory of operation. The first process has the listeners and accepts every connection. It
hands it to the process with the fewest of that service, perhaps itself; until that process
has said that it took it, the first keeps it too, so that one which dies or ends loses none.
What must hold over all processes is either in the databases and lock files, which they share
anyway; or the first process alone decides it (turns of the throttle, numbers of sessions, what
is reloaded); or each knows the others' part of it a moment later (how many sessions an account
or an address has).

A worker whose channel is gone ends by itself: without the first process it is of no use.
"""
