"""For tests of programs that bill: a pytest plugin with an emulator and its ledger.

pytest finds the plugin where this package is installed. It imports nothing of the SDK until a test asks for
`clocknext_server` or `clocknext_ledger`.
"""
