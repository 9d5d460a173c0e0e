"""This server and Dovecot side by side: servers, a client, workloads, and the report."""
