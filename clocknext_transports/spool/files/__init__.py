"""The files of a spool: who owns them, what is in them, and what is wrong with them."""
