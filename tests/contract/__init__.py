"""One suite for every client: each scenario is written once and runs in six worlds."""
