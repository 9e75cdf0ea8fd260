"""The page that shows the ledger in a browser: what is on it, kept up to date; no HTTP.

`view` follows the ledger, `entries` are its signals, `worked` works a price out, `mistakes` finds what a
caller did wrong, `feed` has what changed, `files` the page's own files, and `line` a signal as one line of a
terminal.
"""
