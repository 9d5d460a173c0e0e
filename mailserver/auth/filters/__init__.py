"""Who may connect, and who may use which service (SUN-20 … SUN-25).

`grammar` reads filters, `rules` decides by them, `names` finds out what a client is called,
and `access` brings the filters of services and accounts together: the one evaluator that
the server asks and `mailctl access explain` shows.
"""
