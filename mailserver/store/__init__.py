"""The store of mailboxes: transactions, their rules, and the engines below them."""
