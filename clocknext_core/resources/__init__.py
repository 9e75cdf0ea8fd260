"""The API, a file a resource: each method is written once and bound to a client by `binding`."""
