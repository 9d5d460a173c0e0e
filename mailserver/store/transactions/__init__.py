"""The rules of the store: what each operation does to the rows, whatever the engine.

Functions here get a `Connection` to read or a `Transaction` to write. They run in one
transaction of one account, see nothing of threads or files' places, and may be run again
after the engine has undone them.
"""
