"""Integrations: the SDKs of models and the frameworks around them, billed where they answer.

An integration installs a hook and hands over what it saw; what is billed, and when, the core decides. Each
needs its own package, which is an extra of the same name, and is imported by its name alone.
"""
