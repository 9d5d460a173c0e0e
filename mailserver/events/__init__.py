"""Change notices, published after commit: within a process and between processes."""
