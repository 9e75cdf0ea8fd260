"""The life of a process: forks, exits, dropped clients, many clients, many threads."""
