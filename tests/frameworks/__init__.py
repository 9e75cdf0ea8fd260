"""Clients in real frameworks, servers and queues, as the pages in docs/integrations say."""
